"""Where the time went: marks of a turn, spans of a trace."""
