from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_whisper import melody, silence
from torch import Tensor
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.whisper.mel import MelStream, mel_filters, normalise

WINDOW_S = 30


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_the_ones_that_transformers_computes(n_mels: int) -> None:
    expected = mel_filter_bank(
        num_frequency_bins=201,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    ).T
    np.testing.assert_allclose(mel_filters(n_mels).numpy(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_frames_are_those_of_transformers(n_mels: int) -> None:
    audio = melody(4, 1)
    extract = WhisperFeatureExtractor(feature_size=n_mels)
    expected = extract(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features[0].T
    # past the window comes silence here and a mirror there; it is silence in both
    frames = MelStream(mel_filters(n_mels)).push(np.concatenate([audio, silence(WINDOW_S)]))
    frames = frames[: 100 * WINDOW_S]
    found = normalise(frames, float(frames.max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)  # float32 of an FFT's order


def whole(audio: NDArray[np.float32]) -> Tensor:
    return MelStream(mel_filters(80)).push(audio)


@given(sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_frames_do_not_depend_on_the_cuts(sizes: list[int]) -> None:
    audio = melody(1, 2)
    stream, found = MelStream(mel_filters(80)), []
    for part in np.split(audio, np.minimum(np.cumsum(sizes), len(audio))):
        found.append(stream.push(part))
    torch.testing.assert_close(torch.cat(found), whole(audio), rtol=0, atol=1e-5)


def test_a_frame_comes_with_its_last_sample() -> None:
    stream = MelStream(mel_filters(80))
    audio = melody(1, 3)
    counts = [len(stream.push(audio[i : i + 1])) for i in range(1000)]
    at = [i + 1 for i, n in enumerate(counts) if n]
    assert at == [201, *range(360, 1001, 160)]  # frame 0's mirror takes one sample more


def test_a_fork_goes_its_own_way() -> None:
    audio = melody(1, 4)
    stream = MelStream(mel_filters(80))
    head = stream.push(audio[:5000])
    twin = stream.fork()
    fork = twin.push(audio[5000:9000])
    assert len(twin.push(silence(0.5))) == 50
    tail = stream.push(audio[5000:])
    assert torch.equal(fork, tail[: len(fork)])
    torch.testing.assert_close(torch.cat([head, tail]), whole(audio), rtol=0, atol=1e-5)


def test_a_stream_keeps_no_more_than_its_next_frames_need() -> None:
    stream = MelStream(mel_filters(80))
    for seed in range(5):
        stream.push(melody(1, seed))
        assert len(stream._held) < 400


def test_only_quiet_bins_depend_on_the_maximum() -> None:
    frames = whole(melody(1, 5))
    loudest = float(frames.max())
    wrong, right = normalise(frames, loudest - 1), normalise(frames, loudest)
    assert torch.equal(wrong[frames > loudest - 8], right[frames > loudest - 8])
    assert float(right.min()) == pytest.approx((loudest - 8 + 4) / 4)
