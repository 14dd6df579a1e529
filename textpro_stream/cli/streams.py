# ruff: noqa: RUF001, the characters that cannot be shown
"""Standard streams that are closed, that cannot show our ornaments, or whose disk is full."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata

ASCII = str.maketrans(
    {
        "→": "->", "←": "<-", "↑": "^", "↓": "v", "…": "...", "–": "-", "—": "-", "−": "-",
        "·": ".", "×": "x", "÷": "/", "≤": "<=", "≥": ">=", "≈": "~", "±": "+-",
        "█": "#", "░": ".", "▏": "|", "─": "-", "━": "-", "│": "|", "•": "*",
        "‘": "'", "’": "'", "“": '"', "”": '"', "µ": "u", "°": " deg", "\u00a0": " ",
    }
)  # fmt: skip
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}  # the file behind our output


def mend_streams() -> None:
    """Let all three streams be there, and none fail at a character that it cannot show."""
    _fill_gaps()
    codecs.register_error("textpro", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _is_unicode(stream.encoding):
            stream.reconfigure(errors="textpro")


def _fill_gaps() -> None:
    """Streams that our caller closed: a file opened later must not get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, for the process's life
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, likewise
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, likewise


def is_full(error: BaseException) -> bool:
    """Writing failed for want of room."""
    return isinstance(error, OSError) and error.errno in FULL


def _is_unicode(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith("utf")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = error.object[error.start : error.end].translate(ASCII)
    plain = unicodedata.normalize("NFKD", shown).encode("ascii", "ignore").decode()
    return plain or "?", error.end
