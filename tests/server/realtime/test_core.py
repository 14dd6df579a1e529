"""The protocol without sockets or models; every event is held to the types of `openai`."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strict import Json, Strict

from textpro_stream.commands import (
    Add,
    Clear,
    Command,
    Configure,
    Interrupt,
    Press,
    Release,
    Remove,
    Respond,
    Truncate,
)
from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import (
    SAMPLE_RATE,
    AudioChunk,
    Message,
    SpokenChunk,
    TokenSpan,
    ToolCall,
)
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    HypothesisChanged,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    TurnEnded,
    TurnLatency,
    WordsCommitted,
)
from textpro_stream.server.realtime.core import Core
from textpro_stream.server.realtime.rules import Offer
from textpro_stream.server.realtime.state import Output

T = TypeVar("T")

OFFER = Offer("tiny-llm", "tiny.en", "en-us", TurnOptions(), LlmOptions())
RATE = 22_050
MANUAL = {"audio": {"input": {"turn_detection": None}}}
TEXT = {"output_modalities": ["text"]}


@dataclass
class Desk:
    """A core, what it said to its client, and what it told the conversation.

    Attributes:
        next: number of the turn that is asked for next; spoken turns have those of the tests.
    """

    offer: Offer = OFFER
    transcription: bool = False
    strict: Strict = field(default_factory=Strict)
    told: list[AudioChunk | Command] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    spoken: int = 0
    next: int = 1000

    def __post_init__(self) -> None:
        self.core = Core(self.offer, "sess_1", self.next_turn, transcription=self.transcription)
        self.take(self.core.start())

    def next_turn(self) -> int:
        self.next += 1
        return self.next - 1

    def take(self, out: Output) -> list[Json]:
        self.told += out.told
        self.dropped += out.dropped
        for event in out.events:
            json.dumps(event, allow_nan=False)
        return self.strict.all(out.events)

    def send(self, kind: str, **fields: Any) -> list[Json]:
        return self.take(self.core.receive(json.dumps({"type": kind, **fields})))

    def update(self, **session: Any) -> list[Json]:
        return self.send("session.update", session=session)

    def hear(self, *events: Event) -> list[Json]:
        return [sent for event in events for sent in self.take(self.core.hear(event))]

    def append(self, ms: int = 200) -> list[Json]:
        audio = base64.b64encode(bytes(48 * ms)).decode()
        return self.send("input_audio_buffer.append", audio=audio)

    def turn(self, turn: int, text: str = " Hello there", **ended: Any) -> list[Json]:
        """A spoken turn, from its beginning to its end."""
        return self.hear(
            SpeechStarted(turn, 1600, 1000),
            words(turn, text),
            SpeechStopped(turn, 9000, 8000),
            TurnEnded(turn, 16_000, text.strip(), "silence", **ended),
        )

    def reply(self, turn: int, *texts: str, ms: int = 200) -> list[Json]:
        sent = self.hear(ReplyStarted(turn, 0))
        for text in texts or (" It is", " noon."):
            sent += self.hear(ReplyText(turn, 0, text))
            n = RATE * ms // 1000
            chunk = SpokenChunk(np.full(n, 0.1, np.float32), RATE, self.spoken, len(text))
            sent += self.hear(ReplyAudio(turn, 0, chunk))
            self.spoken += n
        return sent

    def given(self, turn: int, reason: str = "stop", **marks: float) -> list[Json]:
        return self.hear(ReplyGiven(turn, 0, "", reason, marks))

    def over(self, turn: int, reason: str = "stop") -> list[Json]:
        return self.hear(ReplyEnded(turn, 0, "", reason), TurnLatency(turn, 0))

    def respond(self, turn: int, **response: Any) -> list[Json]:
        """`response.create`; the conversation gives it this turn."""
        self.next = turn
        sent = self.send("response.create", response=response)
        assert self.commands(Respond)[-1].turn == turn
        return sent

    def commands(self, kind: type[T]) -> list[T]:
        return [item for item in self.told if isinstance(item, kind)]


def words(turn: int, text: str) -> WordsCommitted:
    span = TokenSpan((1, 2), text, 0, 8000, -0.1, torch.zeros(2, 4))
    return WordsCommitted(turn, 8000, (span,))


def types(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


def error_of(events: list[Json]) -> Json:
    (event,) = events
    assert event["type"] == "error"
    error: Json = event["error"]
    return error


def done_of(events: list[Json]) -> Json:
    (response,) = [e["response"] for e in events if e["type"] == "response.done"]
    return response  # type: ignore[no-any-return]  # JSON


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def manual(desk: Desk) -> Desk:
    desk.update(**MANUAL)
    return desk


def test_a_spoken_turn_is_answered_aloud_in_the_documented_order(desk: Desk) -> None:
    sent = desk.turn(1)
    assert types(sent) == [
        "input_audio_buffer.speech_started",
        "conversation.item.input_audio_transcription.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
    ]
    assert sent[0]["audio_start_ms"] == 62
    assert sent[2]["audio_end_ms"] == 500
    assert sent[1]["delta"] == sent[6]["transcript"] == "Hello there"
    sent = desk.reply(1) + desk.given(1, first_audio=0.25)
    kinds = [kind for kind in types(sent) if not kind.endswith("delta")]
    assert kinds == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    response = done_of(sent)
    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [
        {"type": "output_audio", "transcript": " It is noon."}
    ]
    assert json.loads(response["metadata"]["textpro.waterfall"]) == {"first_audio": 0.25}
    assert response["usage"]["total_tokens"] == 2 + 2
    assert len(desk.strict.audio("item_a1_1")) == 2 * 24 * 400
    assert desk.over(1) == []
    desk.strict.settled()


def test_text_of_a_clause_is_never_later_than_its_audio(desk: Desk) -> None:
    desk.turn(1)
    kinds = types(desk.reply(1))
    first_audio = kinds.index("response.output_audio.delta")
    assert kinds.index("response.output_audio_transcript.delta") < first_audio


def test_a_text_session_has_text_parts_and_no_audio(desk: Desk) -> None:
    desk.update(**TEXT)
    assert desk.commands(Configure)[-1] == Configure(voice=False)
    desk.turn(1)
    sent = desk.reply(1) + desk.given(1)
    assert "response.output_audio.delta" not in types(sent)
    assert done_of(sent)["output"][0]["content"] == [
        {"type": "output_text", "text": " It is noon."}
    ]


def test_a_manual_turn_is_committed_before_the_response_that_was_asked_with_it(
    manual: Desk,
) -> None:
    manual.append()
    manual.append()
    assert manual.send("input_audio_buffer.commit") == []
    assert manual.send("response.create") == []
    told = [item for item in manual.told if not isinstance(item, AudioChunk | Configure)]
    assert told == [Press(interrupts=False), Press(interrupts=False), Release()]
    sent = manual.turn(1, replies=False)
    assert types(sent) == [
        "conversation.item.input_audio_transcription.delta",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
    ]
    assert isinstance(manual.told[-1], Respond)


def test_two_commits_make_two_items(manual: Desk) -> None:
    for turn in (1, 2):
        manual.append()
        manual.send("input_audio_buffer.commit")
        manual.turn(turn, replies=False)
    assert manual.strict.types.count("input_audio_buffer.committed") == 2


@pytest.mark.parametrize("ms", [0, 99])
def test_a_commit_of_next_to_nothing_is_an_error(manual: Desk, ms: int) -> None:
    manual.append(ms)
    error = error_of(manual.send("input_audio_buffer.commit", event_id="mine"))
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")


def test_cleared_audio_cannot_be_committed(manual: Desk) -> None:
    manual.append()
    assert types(manual.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert manual.commands(Clear)
    assert error_of(manual.send("input_audio_buffer.commit"))["code"].endswith("commit_empty")


def test_words_of_a_cleared_turn_that_come_late_are_nobodys(desk: Desk) -> None:
    desk.hear(SpeechStarted(1, 0, 0))
    desk.send("input_audio_buffer.clear")
    assert desk.hear(words(1, " well")) == []
    assert types(desk.turn(2))[0] == "input_audio_buffer.speech_started"


def test_a_cancel_before_the_commit_was_heard_ends_the_response_that_waits(manual: Desk) -> None:
    manual.append()
    manual.send("input_audio_buffer.commit")
    manual.send("response.create")
    sent = manual.send("response.cancel")
    assert types(sent)[:2] == ["response.created", "response.done"]
    assert "response.created" not in types(manual.turn(1, replies=False))
    manual.strict.settled()


def test_barge_in_says_first_that_somebody_speaks(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    assert desk.hear(SpeechStarted(2, 20_000, 19_000), words(2, " Stop")) == []
    sent = desk.hear(ReplyEnded(1, 0, " It is", "barge_in"))
    assert types(sent)[:2] == [
        "input_audio_buffer.speech_started",
        "conversation.item.input_audio_transcription.delta",
    ]
    response = done_of(sent)
    assert response["status"] == "cancelled"
    assert response["status_details"]["reason"] == "turn_detected"
    assert response["output"][0]["status"] == "incomplete"
    assert desk.dropped == [response["id"]]


def test_barge_in_after_all_was_given_ends_nothing_twice(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    desk.given(1)
    assert desk.hear(SpeechStarted(2, 20_000, 19_000)) == []
    sent = desk.hear(ReplyEnded(1, 0, " It", "barge_in"))
    assert types(sent) == ["input_audio_buffer.speech_started"]


def test_speech_beside_a_reply_is_told_when_the_reply_is_over(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    desk.given(1)
    assert desk.hear(SpeechStarted(2, 20_000, 19_000)) == []
    assert types(desk.over(1)) == ["input_audio_buffer.speech_started"]


def test_speech_that_may_not_interrupt_is_told_at_once_and_answered_afterwards(desk: Desk) -> None:
    (begun,) = desk.commands(Configure)
    assert begun.turn is not None
    desk.update(audio={"input": {"turn_detection": {"interrupt_response": False}}})
    assert desk.commands(Configure)[-1] == Configure(turn=replace(begun.turn, barge_in=False))
    desk.turn(1)
    desk.reply(1)
    sent = desk.turn(2)
    assert sent[0]["type"] == "input_audio_buffer.speech_started"
    assert "response.created" not in types(sent)
    assert types(desk.given(1))[-1] == "response.created"


def test_without_create_response_a_turn_waits_to_be_answered(desk: Desk) -> None:
    desk.update(audio={"input": {"turn_detection": {"create_response": False}}})
    assert desk.commands(Configure)[-1] == Configure(replies=False)
    assert "response.created" not in types(desk.turn(1, replies=False))
    assert types(desk.respond(2)) == ["response.created"]


@pytest.mark.parametrize("reason", ["no_words", "echo", "unclear"])
def test_a_turn_that_the_model_forgets_is_still_an_item(desk: Desk, reason: str) -> None:
    desk.hear(SpeechStarted(1, 0, 0))
    sent = desk.hear(TurnEnded(1, 16_000, "", reason, replies=False))
    assert types(sent)[-1] == "conversation.item.input_audio_transcription.completed"
    desk.send("conversation.item.delete", item_id="item_u1_1")
    assert not desk.commands(Remove)


def test_a_failed_transcription_is_told(desk: Desk) -> None:
    desk.hear(SpeechStarted(1, 0, 0), Failed(1, 0, "asr", "the recognizer broke"))
    sent = desk.hear(TurnEnded(1, 16_000, "", "failed", replies=False))
    assert sent[-1]["type"].endswith("transcription.failed")
    assert sent[-1]["error"]["message"] == "the recognizer broke"


def test_without_transcription_nothing_of_it_is_sent(desk: Desk) -> None:
    desk.update(audio={"input": {"transcription": None}})
    assert not [kind for kind in types(desk.turn(1)) if "transcription" in kind]


def test_a_failed_model_fails_the_response_and_nothing_else(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    desk.hear(Failed(1, 0, "llm", "out of memory"))
    response = done_of(desk.over(1, "failed"))
    assert response["status"] == "failed"
    assert response["status_details"]["error"]["code"] == "llm"
    assert "response.created" in types(desk.turn(2))


def test_a_failed_voice_is_a_note_in_the_metadata(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    desk.hear(Failed(1, 0, "voice", "hoarse"))
    assert done_of(desk.given(1))["metadata"] == {"textpro.warning": "hoarse"}


def test_a_model_that_was_not_told_of_the_tools_is_a_note_too() -> None:
    desk = Desk(replace(OFFER, knows_tools=False))
    tool = {"type": "function", "name": "weather"}
    desk.turn(1)
    assert done_of(desk.given(1))["metadata"] is None
    desk.over(1)
    desk.update(tools=[tool])
    desk.turn(2)
    assert "no place for tools" in done_of(desk.given(2))["metadata"]["textpro.warning"]
    desk.over(2)
    desk.respond(3, tool_choice="none")
    assert done_of(desk.given(3))["metadata"] is None


def test_a_reply_cut_by_length_is_incomplete(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    response = done_of(desk.given(1, "length"))
    assert response["status"] == "incomplete"
    assert response["status_details"]["reason"] == "max_output_tokens"


# Races


def test_cancel_ends_at_once_and_what_comes_late_is_ignored(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    response = done_of(desk.send("response.cancel"))
    assert response["status_details"]["reason"] == "client_cancelled"
    assert len(desk.commands(Interrupt)) == 1
    assert desk.reply(1) == []
    assert desk.over(1, "cancelled") == []
    assert len(desk.commands(Interrupt)) == 1
    assert error_of(desk.send("response.cancel"))["code"] == "response_cancel_not_active"


def test_cancel_then_create_is_accepted(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    desk.send("response.cancel")
    assert types(desk.respond(2)) == ["response.created"]
    assert desk.reply(1) == []  # a late piece of the old one
    desk.over(1, "cancelled")
    assert "response.output_item.added" in types(desk.reply(2))


def test_a_response_cancelled_at_once_is_stopped_by_its_turn(desk: Desk) -> None:
    desk.respond(7)
    assert done_of(desk.send("response.cancel"))["status"] == "cancelled"
    assert desk.told[-2:] == [desk.commands(Respond)[-1], Interrupt(turn=7)]
    assert desk.over(7, "cancelled") == []
    desk.strict.settled()


def test_a_response_cancelled_before_it_began_is_stopped_if_it_begins(desk: Desk) -> None:
    desk.respond(7)
    desk.send("response.cancel")
    before = len(desk.commands(Interrupt))
    assert desk.reply(7) == []
    assert desk.commands(Interrupt)[before:] == [Interrupt(turn=7)]
    desk.strict.settled()


def test_what_is_asked_for_is_known_by_its_turn_from_the_first_event_on(desk: Desk) -> None:
    (created,) = desk.respond(7)
    begun = desk.reply(7)
    assert begun[0]["type"] == "response.output_item.added"
    assert begun[0]["response_id"] == created["response"]["id"]


def test_a_turn_that_is_answered_before_what_was_asked_for_takes_its_place(desk: Desk) -> None:
    desk.hear(SpeechStarted(1, 1600, 1000))
    desk.respond(2)
    sent = desk.turn(1) + desk.reply(1)
    cancelled = done_of(sent)
    assert (cancelled["id"], cancelled["status"]) == ("resp_000001_1", "cancelled")
    assert cancelled["status_details"]["reason"] == "turn_detected"
    assert done_of(desk.given(1))["id"] == "resp_000002_1"
    desk.over(1)
    before = len(desk.commands(Interrupt))
    assert desk.reply(2) == []
    assert len(desk.commands(Interrupt)) == before + 1
    desk.strict.settled()


def test_a_turn_stopped_before_its_response_was_created_leaves_room_for_the_next(
    desk: Desk,
) -> None:
    desk.hear(SpeechStarted(1, 1600, 1000))
    desk.respond(2)
    desk.turn(1)  # waits: a response is active
    desk.over(1, "barge_in")
    assert done_of(desk.over(2, "barge_in"))["status"] == "cancelled"
    desk.strict.settled()
    desk.respond(3)
    assert done_of(desk.reply(3) + desk.given(3))["status"] == "completed"


def test_what_could_not_be_remembered_is_told(desk: Desk) -> None:
    error = error_of(desk.hear(Failed(0, 0, "config", "the instructions are too long")))
    assert (error["type"], error["code"]) == ("server_error", "config")
    error = error_of(desk.hear(Failed(0, 0, "stage", "there is no message 'a7'")))
    assert error["code"] == "stage"


def test_a_change_to_what_was_never_remembered_is_no_news(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    desk.given(1)
    desk.send("conversation.item.truncate", item_id="item_a1_1", content_index=0, audio_end_ms=0)
    assert desk.hear(Failed(1, 0, "stage", "there is no message 'a1'")) == []
    desk.send("conversation.item.delete", item_id="item_u1_1")
    assert desk.hear(Failed(1, 0, "stage", "there is no message 'u1'")) == []


def test_audio_after_detection_was_on_in_between_is_of_a_turn_again(manual: Desk) -> None:
    manual.append()
    assert len(manual.commands(Press)) == 1
    manual.update(audio={"input": {"turn_detection": {"type": "server_vad"}}})
    manual.append()
    assert len(manual.commands(Press)) == 1
    manual.update(**MANUAL)
    manual.append()
    assert len(manual.commands(Press)) == 2


def test_a_second_response_is_refused_and_the_first_goes_on(desk: Desk) -> None:
    desk.turn(1)
    error = error_of(desk.send("response.create"))
    assert error["code"] == "conversation_already_has_active_response"
    assert done_of(desk.reply(1) + desk.given(1))["status"] == "completed"


def test_an_out_of_band_response_runs_beside_and_leaves_nothing(desk: Desk) -> None:
    desk.turn(1)
    message = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Classify"}],
    }
    sent = desk.respond(
        7, conversation="none", input=[message], metadata={"k": "v"}, output_modalities=["text"]
    )
    assert sent[0]["response"]["conversation_id"] is None
    options = desk.commands(Respond)[0].options
    assert options.remember is False
    assert options.messages == (Message("input_0", "user", "Classify"),)
    sent = desk.reply(7) + desk.given(7)
    assert "conversation.item.added" not in types(sent)
    assert done_of(sent)["metadata"] == {"k": "v"}
    assert done_of(desk.reply(1) + desk.given(1))["status"] == "completed"


def test_an_announcement_that_nobody_here_asked_for_is_a_response(desk: Desk) -> None:
    assert types(desk.reply(5))[0] == "response.created"
    assert done_of(desk.given(5))["status"] == "completed"


def test_a_command_that_fails_fails_its_response(desk: Desk) -> None:
    desk.send("response.create")
    sent = desk.take(desk.core.failed(desk.commands(Respond)[0], "too long"))
    assert done_of(sent)["status_details"]["error"]["message"] == "too long"


def test_the_end_of_the_conversation_ends_what_is_open(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1)
    out = desk.core.hear(Finished(1, 0, 1, 1, 0.0, {}, {}))
    assert out.over
    assert done_of(desk.take(out))["status"] == "failed"


# Items


def test_items_join_in_the_order_that_was_asked(desk: Desk) -> None:
    def create(text: str, **fields: Any) -> list[Json]:
        part = {"type": "input_text", "text": text}
        item = {"id": text, "type": "message", "role": "user", "content": [part]}
        return desk.send("conversation.item.create", item=item, **fields)

    assert create("b")[0]["previous_item_id"] is None
    assert create("d")[0]["previous_item_id"] == "b"
    assert create("a", previous_item_id="root")[0]["previous_item_id"] is None
    assert create("c", previous_item_id="b")[0]["previous_item_id"] == "b"
    adds = [(add.message.id, add.after) for add in desk.commands(Add)]
    assert adds == [("b", None), ("d", None), ("a", ""), ("c", "b")]
    assert error_of(create("a"))["param"] == "item.id"
    assert error_of(create("e", previous_item_id="none"))["code"] == "item_not_found"
    (retrieved,) = desk.send("conversation.item.retrieve", item_id="c")
    assert retrieved["item"]["content"][0]["text"] == "c"
    desk.send("conversation.item.delete", item_id="c")
    assert desk.commands(Remove) == [Remove("c")]
    assert error_of(desk.send("conversation.item.delete", item_id="c"))["code"] == "item_not_found"


def test_an_id_that_is_free_again_may_be_used_again(desk: Desk) -> None:
    desk.turn(1)
    for name in ("mine", "item_u1_1"):
        item = {"id": name, "type": "message", "role": "user"}
        item["content"] = [{"type": "input_text", "text": "as I said"}]  # type: ignore[assignment]
        if name == "mine":
            desk.send("conversation.item.create", item=item)
        assert error_of(desk.send("conversation.item.create", item=item))["param"] == "item.id"
        desk.send("conversation.item.delete", item_id=name)
        sent = desk.send("conversation.item.create", item=item)
        assert types(sent) == ["conversation.item.added", "conversation.item.done"]
        message = desk.commands(Add)[-1].message
        assert (message.id, message.text) == (name, "as I said")


def test_ids_of_another_session_come_back_and_those_to_come_do_not(desk: Desk) -> None:
    other = Core(OFFER, "sess_other", desk.next_turn)
    there = Desk()
    there.core, there.strict = other, Strict()
    there.take(other.start())
    there.turn(1)
    there.reply(1)
    there.given(1)
    for event in there.strict.events:
        if event["type"] == "conversation.item.done":
            sent = desk.send("conversation.item.create", item=event["item"])
            assert sent[-1]["item"] == event["item"]
    assert len(desk.commands(Add)) == 2
    sent = desk.turn(1)  # of this session: no id of another's is taken
    assert sent[0]["item_id"] == desk.strict.id("u1")
    future = {"id": desk.strict.id("u7"), "type": "message", "role": "user"}
    future["content"] = [{"type": "input_text", "text": "x"}]  # type: ignore[assignment]
    assert error_of(desk.send("conversation.item.create", item=future))["param"] == "item.id"


def test_what_was_said_aloud_comes_back_as_its_transcript(desk: Desk) -> None:
    content = [{"type": "input_audio", "audio": "AAAA", "transcript": "What is the time?"}]
    item = {"type": "message", "role": "user", "content": content}
    added = desk.send("conversation.item.create", item=item)[0]["item"]
    assert desk.commands(Add)[-1].message.text == "What is the time?"
    assert added["content"] == [{"type": "input_audio", "transcript": "What is the time?"}]
    del content[0]["transcript"]
    error = error_of(desk.send("conversation.item.create", item=item))
    assert error["param"] == "item.content[0].transcript"


def test_function_calls_and_their_outputs(desk: Desk) -> None:
    tool = {"type": "function", "name": "light", "parameters": {"type": "object"}}
    desk.update(tools=[tool])
    (offered,) = desk.commands(Configure)[-1].tools or ()
    assert offered.name == "light"
    desk.turn(1)
    sent = desk.hear(ToolCalled(1, 0, ToolCall("light", '{"on":true}')))
    assert types(sent) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
    ]
    call = done_of(desk.given(1))["output"][0]
    assert (call["name"], call["arguments"]) == ("light", '{"on":true}')
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}
    desk.send("conversation.item.create", item=output)
    assert desk.commands(Add)[-1].message.role == "tool"
    lost = {"type": "function_call_output", "call_id": "nothing", "output": "done"}
    assert error_of(desk.send("conversation.item.create", item=lost))["code"] == "item_not_found"


def test_truncation_keeps_whole_words_that_were_heard(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1, " It is noon.", ms=1000)
    desk.given(1)
    (sent,) = desk.send(
        "conversation.item.truncate", item_id="item_a1_1", content_index=0, audio_end_ms=700
    )
    assert sent["audio_end_ms"] == 700
    assert desk.commands(Truncate) == [Truncate("a1", len(" It is"))]
    (retrieved,) = desk.send("conversation.item.retrieve", item_id="item_a1_1")
    assert retrieved["item"]["content"][0]["transcript"] == " It is"


def test_truncation_of_what_cannot_be_changes_nothing(desk: Desk) -> None:
    desk.turn(1)
    desk.reply(1, " It is noon.", ms=1000)

    def truncate(**fields: Any) -> Json:
        return error_of(desk.send("conversation.item.truncate", **fields))

    right = {"item_id": "item_a1_1", "content_index": 0, "audio_end_ms": 500}
    assert truncate(**right)["param"] == "item_id"  # still being made
    desk.given(1)
    assert truncate(**right | {"audio_end_ms": 1001})["param"] == "audio_end_ms"
    assert truncate(**right | {"audio_end_ms": 500.5})["param"] == "audio_end_ms"
    assert truncate(**right | {"item_id": "item_u1_1"})["param"] == "item_id"
    assert truncate(**right | {"content_index": 1})["param"] == "content_index"
    assert truncate(item_id="item_a1_1", content_index=0)["code"] == "missing_field"
    assert not desk.commands(Truncate)


# Mistakes


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ('{"type": NaN}', "invalid_json", None),
        ('{"type": 1e999}', "invalid_json", None),
        ("[" * 100_000, "invalid_json", None),
        ('{"type": "a", "x": "\\ud800"}', "invalid_json", None),
        ("{}", "missing_field", "type"),
        ('{"type": 7}', "invalid_value", "type"),
        ('{"type": "response.audio.play"}', "unknown_event", "type"),
        ('{"type": "textpro.clock", "t0": 1}', "unknown_event", "type"),
        ('{"type": "input_audio_buffer.append"}', "missing_field", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "a"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": 7}', "invalid_value", "audio"),
        ('{"type": "conversation.item.delete"}', "missing_field", "item_id"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value", None),
        ('{"type": "session.update", "session": []}', "invalid_value", "session"),
        ('{"type": "response.cancel", "event_id": 5}', "invalid_value", "event_id"),
    ],
)
def test_a_mistake_is_named_and_the_session_lives(
    desk: Desk, text: str, code: str, param: str | None
) -> None:
    out = desk.core.receive(text)
    assert out.refused
    error = error_of(desk.take(out))
    assert (error["code"], error["param"]) == (code, param)
    assert desk.update(instructions="Be brief.")[0]["type"] == "session.updated"


def test_binary_audio_is_for_those_who_opted_in(desk: Desk) -> None:
    assert error_of(desk.take(desk.core.receive(bytes(480))))["code"] == "invalid_value"
    desk.update(textpro={"events": True})
    assert desk.take(desk.core.receive(bytes(4800))) == []
    assert desk.commands(AudioChunk)


def test_own_events_are_for_those_who_opted_in() -> None:
    desk = Desk(strict=Strict(extended=True))
    assert desk.hear(HypothesisChanged(1, 0, "hel")) == []
    desk.update(textpro={"events": True})
    (event,) = desk.hear(HypothesisChanged(1, 0, "hel"))
    assert event["event"]["type"] == "transcript.hypothesis"
    (clock,) = desk.take(desk.core.receive('{"type": "textpro.clock", "t0": 5.5}', 3.25))
    assert (clock["t0"], clock["t1"]) == (5.5, 3.25)


def test_silence_after_a_reply_triggers_the_timeout_once(desk: Desk) -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 1000}
    desk.update(audio={"input": {"turn_detection": detection}})
    desk.append(3000)  # nothing has been said yet that could be followed up
    desk.turn(1)
    desk.reply(1)
    desk.given(1)
    desk.over(1)
    assert desk.append(900) == []
    sent = desk.append(200)
    assert types(sent) == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert sent[0]["audio_start_ms"] == 3000
    assert desk.append(2000) == []


def test_a_transcription_session_never_replies() -> None:
    desk = Desk(transcription=True)
    assert desk.strict.events[0]["session"]["type"] == "transcription"
    (told,) = desk.commands(Configure)
    assert (told.replies, told.voice) == (False, False)
    sent = desk.turn(1, replies=False)
    assert sent[-1]["transcript"] == "Hello there"
    assert error_of(desk.send("response.create"))["code"] == "invalid_value"


def test_the_voice_stays_once_it_was_heard(desk: Desk) -> None:
    assert desk.update(audio={"output": {"voice": "marin"}})[0]["type"] == "session.updated"
    desk.turn(1)
    desk.reply(1)
    told, updated = desk.update(audio={"output": {"voice": "cedar"}}, instructions="Be brief.")
    assert told["error"]["param"] == "session.audio.output.voice"
    assert updated["session"]["instructions"] == "Be brief."


def test_a_telephone_may_say_its_format_after_its_first_frames(desk: Desk) -> None:
    desk.append(100)
    desk.update(
        audio={"input": {"format": {"type": "audio/pcmu"}}, "output": {"voice": "cedar"}},
        instructions="Be brief.",
    )
    session = desk.strict.events[-1]["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert (session["audio"]["output"]["voice"], session["instructions"]) == ("cedar", "Be brief.")
    before = sum(len(chunk.samples) for chunk in desk.commands(AudioChunk))
    second = base64.b64encode(bytes([0x80, 0x00] * 4_000)).decode()  # loud, at 8 kHz
    desk.send("input_audio_buffer.append", audio=second)
    heard = np.concatenate([chunk.samples for chunk in desk.commands(AudioChunk)])[before:]
    assert len(heard) / SAMPLE_RATE == pytest.approx(1.0, abs=0.15)
    chunks = desk.commands(AudioChunk)
    assert all(after.start == before.end for before, after in pairwise(chunks))


PART = st.sampled_from([{"type": "input_text", "text": "Hi"}, {"type": "input_audio"}, {}])
CLIENT = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("input_audio_buffer.append")}, optional={"audio": st.just("AAAA" * 2000)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["input_audio_buffer.commit", "input_audio_buffer.clear", "response.cancel"]
            )
        },
        optional={"response_id": st.sampled_from(["resp_000001_1", "x"])},
    ),
    st.fixed_dictionaries(
        {"type": st.just("response.create")},
        optional={
            "response": st.fixed_dictionaries(
                {},
                optional={
                    "conversation": st.sampled_from(["none", "auto", 3]),
                    "output_modalities": st.sampled_from([["text"], ["audio"], []]),
                    "metadata": st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
                    "input": st.lists(
                        st.fixed_dictionaries(
                            {"type": st.just("message"), "role": st.just("user")},
                            optional={"content": st.lists(PART, max_size=2)},
                        ),
                        max_size=2,
                    ),
                },
            )
        },
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                [
                    "conversation.item.delete",
                    "conversation.item.retrieve",
                    "conversation.item.truncate",
                ]
            ),
            "item_id": st.sampled_from(["item_u1_1", "item_a1_1", "item_a2_1", "mine"]),
        },
        optional={"content_index": st.just(0), "audio_end_ms": st.integers(-1, 2000)},
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("conversation.item.create"),
            "item": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["message", "function_call", "function_call_output"]),
                    "role": st.sampled_from(["user", "system", "assistant", "tool"]),
                },
                optional={
                    "id": st.sampled_from(["mine", "item_u1_1"]),
                    "content": st.lists(PART, max_size=2),
                    "call_id": st.just("c"),
                    "name": st.just("f"),
                    "arguments": st.just("{}"),
                    "output": st.just("o"),
                },
            ),
        },
        optional={"previous_item_id": st.sampled_from(["root", "mine", None, 4])},
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("session.update"),
            "session": st.sampled_from(
                [MANUAL, TEXT, {"modalities": ["text"]}, {"type": "realtime"}, {"instructions": 3}]
            ),
        }
    ),
    st.fixed_dictionaries({"type": st.text(max_size=5)}),
)
TALK = st.sampled_from(
    ["speech", "words", "ended", "unanswered", "text", "audio", "call", "given", "over", "barged"]
)


@settings(max_examples=200)
@given(steps=st.lists(st.one_of(CLIENT, TALK, TALK), min_size=5, max_size=40))
def test_whatever_comes_is_answered_strictly(steps: list[Any]) -> None:
    desk = Desk()
    turn, answered = 1, 0
    over: set[int] = set()
    for step in steps:
        if isinstance(step, dict):
            desk.take(desk.core.receive(json.dumps(step)))
            turn += step["type"] == "input_audio_buffer.clear"  # never heard of again
        elif step == "speech":
            desk.hear(SpeechStarted(turn, 0, 0))
        elif step == "words":
            desk.hear(words(turn, " well"))
        elif step in ("ended", "unanswered"):
            desk.hear(TurnEnded(turn, 0, "well", "silence", replies=step == "ended"))
            turn += 1
        elif (reply := max(1, turn - 1)) not in over:
            desk.hear(*_of_reply(step, reply))
            if step in ("over", "barged"):
                over.add(reply)
        for asked in desk.commands(Respond)[answered:]:
            answered += 1
            desk.reply(asked.turn)
            desk.given(asked.turn)
            desk.over(asked.turn)


def _of_reply(step: str, turn: int) -> list[Event]:
    chunk = SpokenChunk(np.zeros(2205, np.float32), RATE, 0, 3)
    events: dict[str, list[Event]] = {
        "text": [ReplyStarted(turn, 0), ReplyText(turn, 0, " Yes")],
        "audio": [ReplyAudio(turn, 0, chunk)],
        "call": [ToolCalled(turn, 0, ToolCall("f", "{}"))],
        "given": [ReplyGiven(turn, 0, "", "stop")],
        "over": [ReplyEnded(turn, 0, "", "stop"), TurnLatency(turn, 0)],
        "barged": [ReplyEnded(turn, 0, "", "barge_in"), TurnLatency(turn, 0)],
    }
    return events[step]
