from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.server.mqtt.backlog import Backlog, Message


def drain(backlog: Backlog) -> list[Message]:
    taken = []
    while message := backlog.take():
        taken.append(message)
    return taken


def test_of_a_retained_topic_only_the_newest_value_is_sent() -> None:
    backlog = Backlog()
    for value in ("idle", "listening", "thinking"):
        backlog.keep("state", value)
    assert drain(backlog) == [Message("state", "thinking", retain=True)]
    backlog.keep("state", "thinking")
    assert drain(backlog) == []


def test_the_oldest_passing_messages_go_first() -> None:
    backlog = Backlog(limit=3)
    for number in range(10_000):
        backlog.push("event", str(number))
    assert len(backlog) == 3
    assert [m.payload for m in drain(backlog)] == ["9997", "9998", "9999"]
    assert backlog.dropped == 9_997


def test_what_could_not_be_sent_is_first_again() -> None:
    backlog = Backlog(limit=2)
    backlog.push("event", "a")
    backlog.push("event", "b")
    message = backlog.take()
    assert message is not None
    backlog.give_back(message)
    assert [m.payload for m in drain(backlog)] == ["a", "b"]


def test_a_newer_value_takes_the_place_of_one_that_could_not_be_sent() -> None:
    backlog = Backlog()
    backlog.keep("state", "idle")
    message = backlog.take()
    assert message is not None
    backlog.keep("state", "speaking")
    backlog.give_back(message)
    assert [m.payload for m in drain(backlog)] == ["speaking"]


def test_all_retained_values_are_sent_again_on_demand() -> None:
    backlog = Backlog()
    backlog.keep("status", "online")
    backlog.keep("state", "idle")
    drain(backlog)
    backlog.resend("status")
    assert [m.topic for m in drain(backlog)] == ["status"]
    backlog.resend()
    assert {m.topic for m in drain(backlog)} == {"status", "state"}


async def test_the_taker_sleeps_until_there_is_something() -> None:
    backlog = Backlog()
    waiting = asyncio.ensure_future(backlog.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    backlog.push("event", "a")
    await asyncio.wait_for(waiting, 1)
    drain(backlog)
    again = asyncio.ensure_future(backlog.wait())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


@given(st.lists(st.sampled_from(["push", "keep", "take", "give_back", "resend"]), max_size=60))
def test_it_never_holds_more_than_its_limit(steps: list[str]) -> None:
    backlog, taken = Backlog(limit=4), list[Message]()
    for number, step in enumerate(steps):
        match step:
            case "push":
                backlog.push("event", str(number))
            case "keep":
                backlog.keep(f"kept {number % 2}", str(number))
            case "take":
                taken += [m] if (m := backlog.take()) else []
            case "give_back":
                if taken:
                    backlog.give_back(taken.pop())
            case "resend":
                backlog.resend()
        assert len(backlog) <= 4 + 2
