from __future__ import annotations

import numpy as np
import pytest
from fake_devices import FakeCard
from numpy.typing import NDArray

from textpro_stream.audio.speaker import DUCKED, Loudspeaker
from textpro_stream.contracts import SpokenChunk

RATE = 22_050


def chunks(seconds: float, rate_hz: int = RATE, level: float = 0.5) -> list[SpokenChunk]:
    n = int(seconds * rate_hz)
    size = rate_hz // 10
    return [
        SpokenChunk(np.full(min(size, n - at), level, np.float32), rate_hz, at, at)
        for at in range(0, n, size)
    ]


def say(speaker: Loudspeaker, seconds: float, **how: float) -> int:
    spoken = chunks(seconds, **how)  # type: ignore[arg-type]  # rate_hz is whole in all callers
    for chunk in spoken:
        speaker.play(chunk)
    return spoken[-1].start + len(spoken[-1].samples)


def loudest_step(samples: NDArray[np.float32]) -> float:
    return float(np.abs(np.diff(np.concatenate([[0], samples, [0]]))).max())


def test_a_reply_is_played_once_and_heard_to_the_last_sample() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    assert not speaker.playing
    n_samples = say(speaker, 1.0)
    speaker.end()
    assert speaker.heard == 0
    sound = card.pull(60)
    assert np.count_nonzero(sound > 0.4) == pytest.approx(48_000, abs=600)
    assert speaker.heard == n_samples
    assert not speaker.playing
    assert speaker.n_underruns == 0


def test_heard_follows_the_ear_not_the_queue() -> None:
    card = FakeCard(48_000, latency_s=0.1)
    speaker = Loudspeaker(backend=card)
    say(speaker, 1.0)
    card.pull(5)
    assert speaker.heard == 0  # still on its way through the device
    card.pull(5)
    assert speaker.heard == pytest.approx(0.1 * RATE, abs=2)
    speaker.end()
    card.pull(45)
    assert speaker.heard == pytest.approx(RATE, abs=2)
    card.pull(1)
    assert speaker.heard == RATE


def test_clearing_stops_within_a_block_and_says_what_was_heard() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    say(speaker, 2.0)
    card.pull(25)  # half a second
    heard = speaker.clear()
    assert heard == pytest.approx(0.505 * RATE, abs=2)  # and the fade
    sound = card.pull(2)
    assert np.count_nonzero(sound) <= 240  # 5 ms
    assert loudest_step(np.concatenate([np.full(1, 0.5), sound])[1:]) < 0.55
    assert not card.pull(5).any()
    assert speaker.heard == heard
    assert not speaker.playing


def test_a_late_chunk_of_a_cleared_reply_is_dropped() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    for chunk in chunks(1.0)[:5]:
        speaker.play(chunk)
    speaker.clear()
    card.pull(2)
    for chunk in chunks(1.0)[5:]:
        speaker.play(chunk)
    assert not card.pull(5).any()
    n_samples = say(speaker, 0.5)  # the next reply is not affected
    speaker.end()
    assert card.pull(5).any()
    card.pull(30)
    assert speaker.heard == n_samples


def test_clearing_nothing_is_nothing() -> None:
    card = FakeCard()
    speaker = Loudspeaker(backend=card)
    assert speaker.clear() == 0
    say(speaker, 0.1)
    assert speaker.clear() == pytest.approx(0.005 * RATE, abs=2)


def test_edges_are_faded() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    say(speaker, 0.5, rate_hz=48_000)
    speaker.end()
    assert loudest_step(card.pull(30)) < 0.01


def test_a_reply_that_comes_too_late_is_silence_with_soft_edges_and_counted() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    first, second = chunks(0.2, rate_hz=48_000)
    speaker.play(first)
    sound = [card.pull(8)]
    speaker.play(second)
    speaker.end()
    sound.append(card.pull(8))
    assert speaker.n_underruns == 1
    assert loudest_step(np.concatenate(sound)) < 0.01
    assert speaker.heard == 9_600


def test_ducking_is_quiet_and_smooth() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    say(speaker, 2.0, rate_hz=48_000)
    before = card.pull(10)
    speaker.duck(True)
    ducked = card.pull(10)
    speaker.duck(False)
    after = card.pull(10)
    assert before[-1] == pytest.approx(0.5, abs=0.01)
    assert ducked[-1] == pytest.approx(0.5 * DUCKED, abs=0.01)
    assert after[-1] == pytest.approx(0.5, abs=0.01)
    assert np.abs(np.diff(np.concatenate([before[-1:], ducked, after]))).max() < 0.01


def test_the_next_reply_counts_from_its_own_beginning() -> None:
    card = FakeCard(48_000)
    speaker = Loudspeaker(backend=card)
    say(speaker, 0.5)
    card.pull(20)
    say(speaker, 1.0, rate_hz=16_000)  # another voice, while the first still sounds
    card.pull(5)
    assert speaker.heard < 0.05 * 16_000
    card.pull(25)
    assert speaker.heard == pytest.approx(0.5 * 16_000, abs=700)
    speaker.end()
    card.pull(40)
    assert speaker.heard == 16_000


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 96_000])
def test_any_rate_of_device(rate_hz: int) -> None:
    card = FakeCard(rate_hz)
    speaker = Loudspeaker(backend=card)
    n_samples = say(speaker, 0.5)
    speaker.end()
    sound = card.pull(30)
    assert np.count_nonzero(sound > 0.4) == pytest.approx(rate_hz / 2, rel=0.03)
    assert speaker.heard == n_samples
    speaker.close()
    assert card.streams[0].closed
