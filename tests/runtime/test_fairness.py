"""Many conversations on one device: who waits, for whom, and for how long at most."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from steps import call

from textpro_stream.clock import VirtualClock
from textpro_stream.runtime.device import SLACK_S, DeviceThread, Lane


class WorkClock(VirtualClock):
    """Time passes only while a step runs."""

    def work(self, duration_s: float) -> None:
        self._now += duration_s


@dataclass
class Run:
    """`n_talks` conversations, each with an ear and a mind that always want the next step."""

    n_talks: int
    ear_s: list[float]
    mind_s: list[float]
    mind: list[Lane]
    n_steps: int = 200
    waits: list[tuple[Lane, float]] = field(default_factory=list)
    ran: list[tuple[int, Lane]] = field(default_factory=list)  # whose, what

    def play(self) -> Run:
        clock, full, over = WorkClock(), threading.Event(), threading.Event()
        device = DeviceThread("fair", clock=clock)
        device.submit(call(Lane.HEAR, full.wait))  # nobody begins before everybody has asked

        def ask(talk: int, kind: Lane, turn: int) -> None:
            asked = clock.now()

            def step() -> None:
                self.waits.append((kind, clock.now() - asked))
                self.ran.append((talk, kind))
                costs = self.ear_s if kind is Lane.HEAR else self.mind_s
                clock.work(costs[(talk + turn) % len(costs)])
                if len(self.ran) >= self.n_steps:
                    over.set()
                else:  # as a conversation does: the next one only when this one is done
                    following = self.mind[turn % len(self.mind)]
                    ask(talk, kind if kind is Lane.HEAR else following, turn + 1)

            device.submit(call(kind, step))

        for talk in range(self.n_talks):
            ask(talk, Lane.HEAR, 0)
            ask(talk, self.mind[0], 0)
        full.set()
        assert over.wait(10)
        device.close()
        return self


costs = st.lists(st.floats(0.001, 0.1), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    n_talks=st.integers(1, 12),
    ear_s=costs,
    mind_s=costs,
    mind=st.lists(st.sampled_from([Lane.PREFILL, Lane.DECODE]), min_size=1, max_size=4),
)
def test_no_step_waits_longer_than_its_slack_and_one_round(
    n_talks: int, ear_s: list[float], mind_s: list[float], mind: list[Lane]
) -> None:
    run = Run(n_talks, ear_s, mind_s, mind).play()
    # Behind a step's deadline only those go first that were waiting then: one a task.
    one_round = 2 * n_talks * max(*ear_s, *mind_s)
    for kind, wait in run.waits:
        assert wait <= SLACK_S[kind] + one_round + 1e-9


def test_conversations_of_one_kind_take_turns() -> None:
    run = Run(4, ear_s=[0.01], mind_s=[0.02], mind=[Lane.DECODE]).play()
    for kind in (Lane.HEAR, Lane.DECODE):
        talks = [talk for talk, what in run.ran if what is kind]
        assert talks == [i % 4 for i in range(len(talks))]


def test_busy_ears_do_not_silence_a_mind() -> None:
    """Eight ears that always have something to hear, and one reply being decoded."""
    run = Run(8, ear_s=[0.05], mind_s=[0.01], mind=[Lane.DECODE]).play()
    decoded = sum(what is Lane.DECODE for _, what in run.ran)
    assert decoded > len(run.ran) / 4


def test_a_word_goes_before_a_token_that_was_asked_for_a_little_earlier() -> None:
    clock, hold, entered, ran = WorkClock(), threading.Event(), threading.Event(), []
    device = DeviceThread("early", clock=clock)

    def first() -> None:
        entered.set()
        hold.wait()

    device.submit(call(Lane.HEAR, first))
    entered.wait()
    device.submit(call(Lane.DECODE, lambda: ran.append("token")))
    clock.work(SLACK_S[Lane.DECODE] / 2)
    device.submit(call(Lane.HEAR, lambda: ran.append("word")))
    clock.work(SLACK_S[Lane.DECODE])
    last = device.submit(call(Lane.HEAR, lambda: ran.append("late word")))
    assert device.load().waiting == 3
    hold.set()
    last.result(5)
    assert ran == ["word", "token", "late word"]
    assert device.load().worst_wait_s >= SLACK_S[Lane.DECODE]
    assert device.load().worst_wait_s == 0  # counted anew
    device.close()
