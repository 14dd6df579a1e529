"""What recognising has cost, in counts that do not depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """Counters that must not grow faster than the audio."""

    positions_final: int = 0  # encoded for good
    positions_provisional: int = 0  # encoded as look-ahead, or for a preview
    positions_heard: int = 0  # of audio
    decoder_passes: int = 0
    tokens_committed: int = 0
    segments: int = 0
