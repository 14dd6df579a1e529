"""One thread, most urgent first, prompt to cancel."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from steps import call

from textpro_stream.clock import VirtualClock
from textpro_stream.errors import StageError
from textpro_stream.runtime.device import SLACK_S, DeviceThread, Lane, Step


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    thread = DeviceThread("test device")
    yield thread
    thread.close()


@contextmanager
def busy(device: DeviceThread) -> Iterator[None]:
    """The thread is inside a step for as long as the block lasts."""
    entered, leave = threading.Event(), threading.Event()

    def step() -> None:
        entered.set()
        leave.wait()

    device.submit(call(Lane.HEAR, step))
    entered.wait()
    try:
        yield
    finally:
        leave.set()


async def test_all_steps_run_in_one_other_thread(device: DeviceThread) -> None:
    names = [await device.run(call(Lane.HEAR, lambda: threading.current_thread().name))] * 2
    assert names == ["test device"] * 2


async def test_the_most_urgent_goes_first_and_equals_by_age(device: DeviceThread) -> None:
    ran: list[str] = []
    with busy(device):
        waiting = [
            asyncio.ensure_future(device.run(call(priority, lambda name=name: ran.append(name))))
            for name, priority in (
                ("decode", Lane.DECODE),
                ("prefill 1", Lane.PREFILL),
                ("prefill 2", Lane.PREFILL),
                ("hear", Lane.HEAR),
            )
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert ran == ["hear", "prefill 1", "prefill 2", "decode"]


async def test_an_old_step_goes_before_a_fresh_one_of_a_more_urgent_kind() -> None:
    clock = VirtualClock()
    device = DeviceThread("test device", clock=clock)
    ran: list[str] = []
    try:
        with busy(device):
            device.submit(call(Lane.DECODE, lambda: ran.append("decode")))
            for i in range(20):  # a conversation that speaks all the time
                device.submit(call(Lane.HEAR, lambda i=i: ran.append(f"hear {i}")))
                await clock.sleep_until(clock.now() + 0.01)
            load = device.load()
        await device.run(call(Lane.DECODE, lambda: None))
    finally:
        device.close()
    assert load.waiting == 21
    # It waits for what was asked for within its slack, and for nothing later.
    assert ran.index("decode") == round(SLACK_S[Lane.DECODE] / 0.01)


async def test_the_worst_wait_is_told_once() -> None:
    clock = VirtualClock()
    device = DeviceThread("test device", clock=clock)
    try:
        with busy(device):
            step = device.submit(call(Lane.HEAR, lambda: None))
            await clock.sleep_until(0.5)
        await asyncio.wrap_future(step)
        assert device.load().worst_wait_s == 0.5
        assert device.load().worst_wait_s == 0
    finally:
        device.close()


async def test_a_step_cancelled_while_it_waits_never_runs(device: DeviceThread) -> None:
    ran: list[str] = []
    with busy(device):
        task = asyncio.ensure_future(device.run(call(Lane.DECODE, lambda: ran.append("x"))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await device.run(call(Lane.DECODE, lambda: None))
    assert ran == []


async def test_an_exception_reaches_the_caller_and_the_thread_lives_on(
    device: DeviceThread,
) -> None:
    with pytest.raises(ZeroDivisionError):
        await device.run(call(Lane.HEAR, lambda: 1 // 0))
    assert await device.run(call(Lane.HEAR, lambda: 7)) == 7


async def test_closing_ends_the_thread_and_refuses_more() -> None:
    device = DeviceThread("short lived")
    device.close()
    device.close()
    assert "short lived" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="closed"):
        await device.run(call(Lane.HEAR, lambda: None))


async def test_the_surroundings_are_entered_in_the_thread() -> None:
    inside: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        inside.append(threading.current_thread().name)
        yield
        inside.append("left")

    device = DeviceThread("with surroundings", around)
    await device.run(call(Lane.HEAR, lambda: None))
    device.close()
    assert inside == ["with surroundings", "left"]


async def test_a_step_that_hangs_is_told_to_all_who_wait_and_to_all_who_come() -> None:
    device = DeviceThread("test device", hangs_s=0.05)
    with busy(device):
        waiting = asyncio.ensure_future(device.run(call(Lane.HEAR, lambda: "words")))
        with pytest.raises(StageError, match="test device has not finished a step"):
            await waiting
        assert device.hangs
        with pytest.raises(StageError, match="restart"):
            await device.run(call(Lane.DECODE, lambda: "a token"))
    while device.hangs:  # noqa: ASYNC110, another thread clears it
        await asyncio.sleep(0.001)
    assert await device.run(call(Lane.HEAR, lambda: "words")) == "words"  # it came back after all
    device.close()


async def test_whoever_waits_for_the_step_that_hangs_waits_no_longer() -> None:
    device, leave = DeviceThread("test device", hangs_s=0.05), threading.Event()
    with pytest.raises(StageError, match="has not finished"):
        await device.run(call(Lane.DECODE, leave.wait))
    device.close()  # at once, though the step has not ended
    leave.set()


async def test_what_is_to_be_tidied_up_comes_behind_what_hangs() -> None:
    device, tidied = DeviceThread("test device", hangs_s=0.05), list[int]()
    with busy(device):
        device.afterwards(call(Lane.PREFILL, lambda: tidied.append(1)))
        with pytest.raises(StageError, match="has not finished"):
            await device.run(call(Lane.HEAR, lambda: None))
        device.afterwards(call(Lane.PREFILL, lambda: tidied.append(2)))
    while device.hangs:  # noqa: ASYNC110, another thread clears it
        await asyncio.sleep(0.001)
    await device.run(call(Lane.DECODE, lambda: None))
    assert tidied == [1, 2]
    device.close()
    device.afterwards(call(Lane.PREFILL, lambda: tidied.append(3)))  # nobody is there any more


async def test_a_steady_stream_of_short_steps_does_not_hang() -> None:
    device = DeviceThread("test device", hangs_s=0.2)
    for _ in range(40):
        await device.run(call(Lane.DECODE, lambda: time.sleep(0.01)))
    assert not device.hangs
    device.close()


async def test_after_a_while_without_work_it_is_idle_once() -> None:
    rests: list[str] = []
    device = DeviceThread(
        "test device", idle=lambda: rests.append(threading.current_thread().name), idle_s=0.05
    )
    for expected in (1, 2):
        for _ in range(10):
            await device.run(call(Lane.HEAR, lambda: time.sleep(0.01)))
            assert len(rests) == expected - 1
        await asyncio.sleep(0.3)
        assert rests == ["test device"] * expected
    device.close()


@dataclass(frozen=True)
class Token(Step[int]):
    """A step that may run beside others of its kind."""

    lane = Lane.DECODE
    most = 3
    number: int
    batches: list[list[int]]

    def run(self) -> int:
        self.batches.append([self.number])
        return self.number

    @classmethod
    def run_together(cls, steps: Sequence[Token]) -> list[int | Exception]:
        steps[0].batches.append([step.number for step in steps])
        return [ValueError("odd") if step.number == 3 else step.number for step in steps]


async def test_steps_of_one_kind_that_wait_together_run_as_one_batch(device: DeviceThread) -> None:
    batches: list[list[int]] = []
    heard: list[str] = []
    with busy(device):
        waiting = [asyncio.ensure_future(device.run(Token(n, batches))) for n in range(5)]
        other = asyncio.ensure_future(device.run(call(Lane.HEAR, lambda: heard.append("first"))))
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    await other
    assert batches == [[0, 2], [3, 4]]  # at most three stand together; one of them had gone
    assert heard == ["first"]
    assert isinstance(results[1], asyncio.CancelledError)
    assert isinstance(results[3], ValueError)  # and costs its neighbour nothing
    assert [results[n] for n in (0, 2, 4)] == [0, 2, 4]


async def test_a_step_alone_runs_alone(device: DeviceThread) -> None:
    batches: list[list[int]] = []
    assert await device.run(Token(7, batches)) == 7
    assert batches == [[7]]
