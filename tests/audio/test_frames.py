from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.audio.frames import Framer
from textpro_stream.contracts import FRAME, AudioChunk

AUDIO = np.arange(1, 2_001, dtype=np.float32) / 2_000


@given(cuts=st.lists(st.integers(0, 2_000), max_size=20))
def test_cutting_differently_changes_nothing(cuts: list[int]) -> None:
    framer, frames = Framer(), []
    edges = [0, *sorted(cuts), 2_000]
    for first, last in itertools.pairwise(edges):
        new = framer.push(AudioChunk(AUDIO[first:last], first))
        assert sum(len(frame.samples) for frame in frames + new) == last - last % FRAME
        frames += new
    frames += framer.finish()
    assert framer.end == 2_000
    assert [frame.start for frame in frames] == list(range(0, 2_240, FRAME))
    assert all(len(frame.samples) == FRAME for frame in frames)
    assert np.array_equal(
        np.concatenate([frame.samples for frame in frames]), np.pad(AUDIO, (0, 240))
    )


def test_whole_frames_leave_nothing_to_fill() -> None:
    framer = Framer()
    assert len(framer.push(AudioChunk(np.zeros(2 * FRAME, np.float32), 0))) == 2
    assert framer.finish() == []


def test_dropped_audio_becomes_silence_and_keeps_its_place() -> None:
    framer = Framer()
    framer.push(AudioChunk(np.ones(100, np.float32), 0))
    frames = framer.push(AudioChunk(np.ones(240, np.float32), 400))
    assert [frame.start for frame in frames] == [0, FRAME]
    sound = np.concatenate([frame.samples for frame in frames])
    assert np.array_equal(np.flatnonzero(sound), [*range(100), *range(400, 640)])


def test_audio_does_not_run_backwards() -> None:
    framer = Framer()
    framer.push(AudioChunk(np.ones(100, np.float32), 0))
    with pytest.raises(AssertionError):
        framer.push(AudioChunk(np.ones(100, np.float32), 50))
