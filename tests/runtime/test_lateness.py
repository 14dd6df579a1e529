"""How late hearing is, of late."""

from textpro_stream.runtime.lateness import ENOUGH, WINDOW_S, Lateness


def test_it_is_the_95th_percentile() -> None:
    lateness = Lateness()
    for i in range(100):
        lateness.note(i / 100, (i + 1) / 100)
    assert lateness.p95_s(1.0) == 0.95


def test_one_hiccup_among_many_is_none() -> None:
    lateness = Lateness()
    for i in range(2 * ENOUGH):
        lateness.note(i / 100, 5.0 if i == 7 else 0.02)
    assert lateness.p95_s(1.0) == 0.02


def test_few_figures_tell_nothing_and_old_ones_are_forgotten() -> None:
    lateness = Lateness()
    for i in range(ENOUGH - 1):
        lateness.note(i / 100, 3.0)
    assert lateness.p95_s(0.2) == 0.0
    lateness.note(0.2, 3.0)
    assert lateness.p95_s(0.2) == 3.0
    assert lateness.p95_s(WINDOW_S + 0.3) == 0.0
