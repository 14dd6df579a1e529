"""What a signal becomes on its way out."""


class Terminated(BaseException):
    """SIGTERM arrived."""
