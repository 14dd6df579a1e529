"""What a machine's list of microphones and loudspeakers holds, and how one is chosen.

The list is an `AudioBackend`'s: `portaudio` on a real machine, the tests' own devices in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from textpro_stream.errors import DeviceError

BLOCK_MS = 20  # of audio per callback: what one says and hears is late by as much

Samples = NDArray[np.float32]
Capture = Callable[[Samples, bool], None]  # (n,) mono, the device's own; audio was lost before it
Playback = Callable[[Samples], None]  # (n,) to fill
Kind = Literal["microphone", "loudspeaker"]


@dataclass(frozen=True, slots=True)
class Device:
    """One entry of the machine's list."""

    index: int
    name: str
    n_inputs: int
    n_outputs: int
    rate_hz: int  # its own; others mean that somebody resamples
    default: frozenset[Kind] = frozenset()


def choose(devices: Sequence[Device], wanted: str, kind: Kind) -> Device:
    """The device that a person means.

    Args:
        devices: of the machine.
        wanted: "" for the default, an index, or a part of the name in any case.
        kind: what it shall do.

    Raises:
        DeviceError: there is none, or more than one has such a name.
    """
    able = [d for d in devices if (d.n_inputs if kind == "microphone" else d.n_outputs)]
    if not able:
        raise DeviceError(
            f"no {kind} on this machine; plug one in, or use `textpro stream FILE`", kind=kind
        )
    if not wanted:
        return next((d for d in able if kind in d.default), able[0])
    known = ", ".join(f"{d.index} {d.name}" for d in able)
    if wanted.isdigit():
        found = [d for d in able if d.index == int(wanted)]
    else:
        found = [d for d in able if wanted.casefold() in d.name.casefold()]
        found = [d for d in found if d.name.casefold() == wanted.casefold()] or found
    if not found:
        raise DeviceError(f"no {kind} {wanted!r}; this machine has: {known}", kind=kind)
    if len(found) > 1:
        names = ", ".join(f"{d.index} {d.name}" for d in found)
        raise DeviceError(f"{wanted!r} may be any of: {names}; give the number", kind=kind)
    return found[0]
