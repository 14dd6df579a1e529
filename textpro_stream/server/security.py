"""Who may come in. Pure: headers and addresses in, a decision out.

A machine's own address is no boundary: any web page may open a WebSocket to it, and a name that
an attacker owns may point there. So browsers are held to the pages that we serve ourselves, names
to those that are ours, and everybody else to a key where there is one.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from textpro_stream.config import ServerOptions
from textpro_stream.errors import ConfigError

ANY_ADDRESS = ("", "0.0.0.0", "::")  # hosts that mean all addresses of this machine
KEY_PROTOCOL = "openai-insecure-api-key."  # how browsers send a key: they cannot set headers
MIN_KEY = 22  # characters: 128 bits in base64
MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
_NAME = re.compile(r"[a-z0-9_-]{1,40}", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """An address or name that means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.")


def read_keys(options: ServerOptions) -> dict[str, str]:
    """Name -> key, of the file and of the environment.

    Raises:
        ConfigError: the file cannot be read, or a key is too short to be one.
    """
    keys = {"environment": options.api_key} if options.api_key else {}
    if options.api_key_file:
        keys |= _key_file(Path(options.api_key_file))
    for name, key in keys.items():
        if len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"the API key {name!r} is no secret: give at least {MIN_KEY} characters without"
                f" spaces, e.g. of {MAKE_ONE}",
                name=name,
            )
    return keys


def _key_file(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(
            f"{path}: cannot be read ({reason}); the key file has lines `name: key`", path=path
        ) from None
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, key = line.partition(":")
        if not colon:
            name, key = f"line {number}", line
        elif not _NAME.fullmatch(name.strip()):
            raise ConfigError(f"{path}, line {number}: write `name: key`", path=path)
        keys[name.strip()] = key.strip()
    if not keys:
        raise ConfigError(f"{path}: holds no key; put one in, e.g. of {MAKE_ONE}", path=path)
    return keys


def check_bind(options: ServerOptions, keys: Mapping[str, str]) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        ConfigError: says how to go on.
    """
    if not is_loopback(options.host) and not keys and not options.insecure:
        raise ConfigError(
            f"--host {options.host} lets other machines in, so it needs a key: set"
            " TEXTPRO_SERVER__API_KEY or --api-key-file, or say --insecure",
            host=options.host,
        )


class Gate:
    """Decides by the headers of a request.

    Args:
        options: the hosts, origins and address that are ours.
        keys: name -> key; empty: no key is asked for.
        secure: we speak TLS.
    """

    def __init__(self, options: ServerOptions, keys: Mapping[str, str], *, secure: bool) -> None:
        self._keys = {name: key.encode() for name, key in keys.items()}
        self._scheme = "https" if secure else "http"
        self._any_address = options.host in ANY_ADDRESS
        own = {"localhost", "127.0.0.1", "::1", options.host.lower().rstrip(".")}
        if self._any_address:
            name = socket.gethostname().lower()
            own |= {name, f"{name}.local"}
        self._hosts = own | {host.lower() for host in listed(options.hosts)}
        self._origins = {_origin(origin) for origin in listed(options.origins)} - {None}

    @property
    def asks_for_key(self) -> bool:
        """Only those with a key come in."""
        return bool(self._keys)

    def knows_host(self, host: str) -> bool:
        """The `Host` header names us.

        A page of an attacker that rebinds its own name to our address comes with that name.
        """
        name = _host_name(host)
        if name is None:
            return False
        return name in self._hosts or (self._any_address and _is_address(name))

    def knows_origin(self, origins: Sequence[str], host: str) -> bool:
        """The page that asks is our own, or one that may; no browser at all may too.

        Args:
            origins: all `Origin` headers.
            host: the `Host` header, already known.
        """
        if not origins:  # not a browser: the key decides, if there is one
            return True
        if len(origins) > 1 or (origin := _origin(origins[0])) is None:  # "null" is no origin
            return False
        return origin == _origin(f"{self._scheme}://{host}") or origin in self._origins

    def name_of(self, key: str | None) -> str | None:
        """The name of the key that this is; None if it is none. Takes the same time either way."""
        given = (key or "").encode("utf-8", "replace")
        found = None
        for name, expected in self._keys.items():
            if hmac.compare_digest(given, expected):
                found = name
        return found


def key_of(authorizations: Sequence[str], protocols: Iterable[str]) -> str | None:
    """The key that a client sent, in a header or among the subprotocols."""
    for value in authorizations:
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return key.strip()
    for protocol in protocols:
        if protocol.startswith(KEY_PROTOCOL):
            return protocol.removeprefix(KEY_PROTOCOL)
    return None


class Redact(logging.Filter):
    """Keeps keys out of logs, and strangers' broken handshakes from filling them."""

    _secret = re.compile(
        rf"(authorization:\s*\w+\s+|{re.escape(KEY_PROTOCOL)})[^\s,;\"']+", re.IGNORECASE
    )

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite one record; drop what says only that somebody did not speak our language."""
        message = record.getMessage()
        record.msg, record.args = self._secret.sub(r"\1[redacted]", message), ()
        if record.exc_info and message.startswith("opening handshake failed"):
            record.exc_info = None
            return False
        return True


def listed(text: str) -> list[str]:
    """The parts of an option that is a list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str | None:
    """The name in `name:port` or `[address]:port`; None where it is neither."""
    if not host or any(c in host for c in "/@?#\\ "):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for "null" and whatever is not exactly an origin."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    exact = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not exact:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port or _DEFAULT_PORTS[parts.scheme]
