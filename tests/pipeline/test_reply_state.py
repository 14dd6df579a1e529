"""The life of a reply: what may follow what, and what an interruption reaches."""

from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.pipeline.reply_state import ReplyMachine


def test_a_reply_lives_from_draft_to_end() -> None:
    machine = ReplyMachine()
    lived = [machine.state]
    machine.begin(1)
    lived.append(machine.state)
    assert machine.held
    assert machine.release()
    lived.append(machine.state)
    machine.sound()
    lived.append(machine.state)
    machine.sound()  # more of it
    machine.end("stop")
    lived.append(machine.state)
    assert lived == ["idle", "drafting", "released", "playing", "ended"]
    assert (machine.turn, machine.reason) == (1, "stop")
    machine.begin(2)
    assert (machine.state, machine.turn, machine.reason) == ("drafting", 2, None)


def test_a_draft_in_vain_leaves_nothing() -> None:
    machine = ReplyMachine()
    machine.begin(1)
    machine.drop()
    assert machine.state == "idle"
    machine.drop()
    machine.begin(1)
    assert machine.release()


def test_only_what_is_given_or_asked_for_can_be_interrupted() -> None:
    machine = ReplyMachine()
    machine.begin(1)
    assert not machine.interrupt("barge_in")  # nobody has seen the draft
    assert machine.release()
    assert machine.interrupt("barge_in")
    assert machine.interrupted
    assert not machine.interrupt("cancelled")  # the first counts
    machine.end("stop")
    assert machine.reason == "barge_in"


def test_an_interruption_reaches_replies_that_were_only_asked_for() -> None:
    machine = ReplyMachine()
    machine.ask(1)
    machine.ask(2)
    machine.interrupt("cancelled")
    machine.ask(3)  # later: it is meant
    for turn, goes_on in ((1, False), (2, False), (3, True)):
        machine.begin(turn)
        assert machine.release() is goes_on
        machine.end("stop")
        assert machine.reason == ("stop" if goes_on else "cancelled")


def test_one_of_several_can_be_meant() -> None:
    machine = ReplyMachine()
    machine.ask(1)
    machine.begin(1)
    assert machine.release()
    machine.ask(2)
    machine.ask(3)
    assert not machine.interrupt("cancelled", 2)
    assert machine.replying
    machine.end("stop")
    machine.begin(2)
    assert not machine.release()
    machine.begin(3)
    assert machine.release()


def test_a_failure_that_nobody_saw_is_tried_again_and_can_be_stopped_meanwhile() -> None:
    machine = ReplyMachine()
    machine.begin(1)
    assert machine.release()
    machine.retry()
    machine.interrupt("cancelled")
    machine.begin(1)
    assert not machine.release()


def test_what_presses_does_so_until_it_begins() -> None:
    machine = ReplyMachine()
    machine.ask(1)
    assert not machine.pressing
    machine.ask(1, pressing=True)
    machine.ask(2, pressing=True)
    machine.start(1)
    assert machine.pressing
    machine.start(2)
    assert not machine.pressing


@given(st.lists(st.sampled_from(["begin", "drop", "release", "sound", "stop", "end", "retry"])))
def test_whatever_happens_it_is_one_thing_at_a_time(deeds: list[str]) -> None:
    machine, turn = ReplyMachine(), 0
    for deed in deeds:
        before = machine.state
        match deed:
            case "begin" if before in ("idle", "ended"):
                turn += 1
                machine.begin(turn)
            case "drop":
                machine.drop()
            case "release" if machine.held:
                assert machine.release()  # nothing had been asked for, so nothing was called off
            case "sound":
                machine.sound()
            case "stop":
                assert machine.interrupt("barge_in") == (before in ("released", "playing"))
            case "end" if before in ("released", "playing"):
                machine.end("length")
            case "retry" if before == "released":
                machine.retry()
                machine.forget(turn)
            case _:
                continue
        assert [machine.held, machine.replying, machine.state in ("idle", "ended")].count(True) == 1
        assert (machine.reason is not None) == (machine.state == "ended")
        assert machine.turn == turn
