"""How late the event loop wakes: what a step that blocks it costs everybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

PERIOD_S = 0.05  # between looks; costs next to nothing
STALL_S = 0.1  # late enough to be heard as a gap, were it not for what players hold


async def watch_lag(observe: Callable[[float], object]) -> None:
    """Measure until cancelled; a stall is logged once, since one that recurs is in the metrics.

    Args:
        observe: is told every time by how many seconds the loop woke late.
    """
    loop = asyncio.get_running_loop()
    told = False
    while True:
        due = loop.time() + PERIOD_S
        await asyncio.sleep(PERIOD_S)
        late_s = max(0.0, loop.time() - due)
        observe(late_s)
        if late_s > STALL_S and not told:
            told = True
            log.warning("the event loop stood still for %.0f ms", 1000 * late_s)
