"""The rules of one recognizer: a block grid, and every number that a decision depends on.

The numbers live beside the code that reads them, each with its unit, its reason and what it depends
on: the model (tiny.en, measured), Whisper whatever its size, or English.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from textpro_stream.config import WhisperOptions
from textpro_stream.errors import ConfigError
from textpro_stream.whisper.blocks import Closing, Grid
from textpro_stream.whisper.commit import CommitRule
from textpro_stream.whisper.guards import Guards
from textpro_stream.whisper.roll import Rolling
from textpro_stream.whisper.segment import Drafting
from textpro_stream.whisper.timing import Timing

# milliseconds: least block; the most that a block and its look-ahead take of the 30 s window,
# since a segment is 27 s long before it must end
LEAST_BLOCK_MS, MOST_MS = 160, 2400


@dataclass(frozen=True, slots=True)
class Policy:
    """What a recognizer goes by."""

    grid: Grid
    closing: Closing = field(default_factory=Closing)
    revise: bool = False  # hear a segment again as a whole where its words are in doubt
    guarded: bool = True
    guards: Guards = field(default_factory=Guards)
    drafting: Drafting = field(default_factory=Drafting)
    commit: CommitRule = field(default_factory=CommitRule)
    rolling: Rolling = field(default_factory=Rolling)
    timing: Timing = field(default_factory=Timing)

    @staticmethod
    def of(options: WhisperOptions, *, adapted: bool = False) -> Policy:
        """From options.

        Args:
            options: of the recognizer.
            adapted: whether the encoder has an adapter.

        Raises:
            ConfigError: a block that does not fit the grid, or with a segment not into the window.
        """
        block_ms, look_ahead_ms = options.block_ms, options.look_ahead_ms
        limits = (("block_ms", block_ms, LEAST_BLOCK_MS), ("look_ahead_ms", look_ahead_ms, 0))
        for name, value, least in limits:
            if value % 20 or value < least:
                raise ConfigError(
                    f"whisper.{name} = {value}: give a multiple of 20, {least} or more", key=name
                )
        if block_ms + look_ahead_ms > MOST_MS:
            raise ConfigError(
                f"whisper.block_ms + look_ahead_ms = {block_ms + look_ahead_ms}: give {MOST_MS} or"
                " less",
                key="block_ms",
            )
        return Policy(
            grid=Grid.of(block_ms, look_ahead_ms),
            closing=Closing.learnt() if adapted else Closing(),
            revise=options.revise,
            guarded=options.guards,
            commit=CommitRule(by=options.commit),
        )
