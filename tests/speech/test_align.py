from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.contracts import SpokenChunk
from textpro_stream.speech.align import Aligner
from textpro_stream.speech.spoken import spoken_form

RATE = 1_000  # 100 samples are 100 ms
TEXT = "one **two** three"
AUDIO = np.arange(1, 701, dtype=np.float32)


def test_words_end_where_the_next_begins() -> None:
    aligner = Aligner(spoken_form(TEXT), RATE, start=50, text_start=1_000)
    aligner.audio(AUDIO[:300])
    assert aligner.word(0, 0) == []
    first = aligner.word(200, 4)  # "two"
    assert [(c.start, len(c.samples), c.text_end) for c in first] == [
        (50, 100, 1_003),
        (150, 100, 1_006),  # where "two" was written
    ]
    aligner.audio(AUDIO[300:])
    second = aligner.word(450, 8)  # "three"
    assert [c.text_end - 1_000 for c in second] == [8, 10, 12]
    assert [len(c.samples) for c in second] == [100, 100, 50]
    rest = aligner.finish()
    assert rest[-1].text_end == 1_000 + len(TEXT)
    samples = np.concatenate([c.samples for c in first + second + rest])
    assert np.array_equal(samples, AUDIO)


@given(
    marks=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 30)), max_size=10),
    cuts=st.lists(st.integers(0, 700), max_size=10),
)
def test_whatever_the_marks_no_sample_is_lost_and_text_runs_forward(
    marks: list[tuple[int, int]], cuts: list[int]
) -> None:
    aligner = Aligner(spoken_form(TEXT), RATE, 0, 0)
    chunks: list[SpokenChunk] = []
    edges = [0, *sorted(cuts), 700]
    for index, (a, b) in enumerate(itertools.pairwise(edges)):
        aligner.audio(AUDIO[a:b])
        if index < len(marks):
            chunks += aligner.word(*marks[index])
    chunks += aligner.finish()
    assert np.array_equal(np.concatenate([c.samples for c in chunks]), AUDIO)
    assert all(b.start == a.start + len(a.samples) for a, b in itertools.pairwise(chunks))
    assert all(a.text_end <= b.text_end for a, b in itertools.pairwise(chunks))
    assert all(0 < len(c.samples) <= 100 for c in chunks)
    assert chunks[-1].text_end == len(TEXT)
