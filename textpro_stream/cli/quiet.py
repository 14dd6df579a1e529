"""What a run may say besides its output: our warnings, one line each.

Warnings of libraries, and where ours arose, are for `TEXTPRO_DEBUG=1`.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings


class _Lines(logging.Handler):
    """Writes to the standard error of the moment: the live view puts its own in place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print(self.format(record), file=sys.stderr, flush=True)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"textpro: {record.getMessage()}"


def quieten() -> None:
    """Set up logging and warnings for a process that is `textpro`."""
    handler = _Lines()
    if os.environ.get("TEXTPRO_DEBUG"):
        handler.setFormatter(logging.Formatter("%(relativeCreated)6d ms  %(name)s: %(message)s"))
        logging.basicConfig(level=logging.DEBUG, handlers=[handler])
        return
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    logging.getLogger("textpro_stream").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
