from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.server.limits import POLICY, Bucket, Errors, Hangup, Slots


def test_a_bucket_gives_what_it_holds_and_fills_up() -> None:
    bucket = Bucket(rate=4, size=10, now=0)
    assert bucket.take(10, 0)
    assert not bucket.take(0.1, 0)
    assert bucket.take(4, 1)
    assert not bucket.take(11, 100)
    assert bucket.take(10, 100)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=30),
    st.floats(0.1, 10),
    st.floats(0.1, 20),
)
def test_nobody_gets_more_than_the_size_and_what_came_in(
    steps: list[tuple[float, float]], rate: float, size: float
) -> None:
    bucket, now, taken = Bucket(rate, size, 0), 0.0, 0.0
    for wait, amount in steps:
        now += wait
        taken += amount if bucket.take(amount, now) else 0
        assert taken <= size + rate * now + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(1, 1, now=10)
    assert bucket.take(1, 10)
    assert not bucket.take(1, 5)
    assert not bucket.take(1, 10)


def test_twenty_errors_in_a_row_hang_up_and_a_good_message_starts_anew() -> None:
    errors = Errors(20)
    for _ in range(19):
        errors.mistake()
    errors.fine()
    for _ in range(19):
        errors.mistake()
    with pytest.raises(Hangup) as hangup:
        errors.mistake()
    assert hangup.value.closing == POLICY
    assert hangup.value.code == ""


def test_slots_in_all_and_of_one_address() -> None:
    slots = Slots(3, 2)
    assert slots.take("a")
    assert slots.take("a")
    assert not slots.take("a")
    assert slots.take("b")
    assert not slots.free
    assert not slots.take("c")
    slots.release("a")
    assert slots.free
    assert slots.taken == 2
    assert slots.take("c")


def test_where_those_inside_are_served_late_nobody_is_added() -> None:
    late = True
    slots = Slots(3, 0, lambda: late)
    assert slots.take("a")  # nobody was there to be served late
    assert not slots.free
    assert not slots.take("b")
    late = False
    assert slots.take("b")
    late = True
    slots.release("a")
    slots.release("b")
    assert slots.take("c")


def test_without_a_bound_one_address_may_take_all() -> None:
    slots = Slots(2, 0)
    assert slots.take("a")
    assert slots.take("a")
    assert not slots.free
