"""Which report a run gives."""

from __future__ import annotations

import io
import sys

from textpro_stream.cli.report import JsonReport, PlainReport
from textpro_stream.ports import Report


def choose_report(*, json: bool = False, vectors: bool = False, hint: str = "") -> Report:
    """JSON if asked for, the live view on a terminal, plain lines elsewhere."""
    if json:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="strict")  # JSON is nothing else
        return JsonReport(sys.stdout, vectors=vectors)
    if sys.stdout.isatty():
        from textpro_stream.cli.view import LiveReport

        return LiveReport(hint=hint)
    return PlainReport(sys.stdout)
