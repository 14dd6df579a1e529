"""Memory that nobody uses, and the pauses that looking for it costs."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from typing import Any


def freeze_gc() -> None:
    """All that lives now stays: let the collector pass it by.

    Call it once, when all is loaded and before anybody is served: it holds everything up that long.
    A whole collection takes 90 ms with torch imported, in whichever thread it strikes, and is so
    dear that Python puts it off; then what a conversation leaves in cycles (sockets and failures
    make some) waits for it. Of what came later it takes next to nothing, and comes often.
    """
    gc.collect()
    gc.freeze()


def trim_heap() -> None:
    """Collect, and return free pages to the system (where the allocator is glibc's).

    It keeps what was freed for the next time: after a busy half hour 400 of 1400 MiB, long after
    everybody had left. Takes some tens of milliseconds.
    """
    gc.collect()
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl has none
        return None
