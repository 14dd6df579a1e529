"""What a dialogue holds, spoken words and their tone included, and what it prefills for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llm import spoken

from textpro_stream.contracts import Message, TokenSpan, Tool
from textpro_stream.errors import StageError
from textpro_stream.llm import Dialogue, LanguageModel
from textpro_stream.llm.fusion import Tone

Load = Callable[..., LanguageModel]
FUSIONS = [
    {"fusion": "text"},
    {"fusion": "interleave", "projector": "random"},
    {"fusion": "global", "projector": "random"},
]
WORDS = "Please set a timer for ten minutes and play quiet music"
STEPS = ["hear", "draft", "reply", "resume", "end", "cut off", "begin", "free", "make room"]
STEPS += ["add", "remove", "truncate", "configure"]


def by_fusion(options: dict[str, Any]) -> str:
    return str(options["fusion"])


def check(dialogue: Dialogue, drafted: list[TokenSpan]) -> None:
    """Its cache is that of a fresh dialogue that was told the same in one go.

    Args:
        dialogue: in any state.
        drafted: all words of its last draft.
    """
    model = dialogue._model
    fresh = model.open(dialogue._options, tools=dialogue._tools)
    fresh._memory.take(list(dialogue._memory.entries))
    fresh._changed()
    assert fresh.messages == dialogue.messages
    with suppress(StageError):  # told already that the turn is too long
        fresh.hear(dialogue._spans)
    if dialogue._draft is not None:
        with suppress(StageError):
            fresh.draft(drafted[len(dialogue._spans) :])
    session, fresh_session = dialogue._cache._ready(), fresh._cache._ready()
    assert dialogue._cache.held == dialogue._cache.rows
    assert session.length == dialogue.length
    decoded = dialogue.length - fresh.length
    assert decoded == 0 or dialogue._reply is not None
    assert dialogue._cache.rows[: fresh.length] == fresh._cache.rows
    for token in dialogue._cache.rows[fresh.length :]:
        assert isinstance(token, int)
        fresh_session.decode(token)
    torch.testing.assert_close(session.logits(), fresh_session.logits(), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("context", [128, 400])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_the_cache_is_as_if_told_at_once(
    data: st.DataObject, options: dict[str, Any], kind: str, context: int, load: Load
) -> None:
    model = load(kind, context=context, max_tokens=6, **options)
    dialogue = model.open()
    drafted: list[TokenSpan] = []
    said = spoken(WORDS)
    for n in range(data.draw(st.integers(1, 12))):
        words = said[: data.draw(st.integers(0, 9))]
        ids = [message.id for message in dialogue.messages]
        step = data.draw(st.sampled_from(STEPS))
        with suppress(StageError):  # a turn that is too long: told, and what fits is taken
            match step:
                case "hear":
                    dialogue.hear(words)
                case "draft":
                    drafted = [*dialogue._spans, *words]
                    dialogue.draft(words)
                case "reply":
                    drafted = drafted if dialogue._draft is not None else dialogue._spans[:]
                    for _, _piece in zip(range(3), dialogue.reply(), strict=False):
                        pass
                case "resume":
                    dialogue.resume()
                case "end":
                    dialogue.end_turn(user=f"u{n}", reply=f"a{n}")
                case "cut off":
                    dialogue.end_turn(data.draw(st.integers(0, 12)), user=f"u{n}", reply=f"a{n}")
                case "begin":
                    dialogue.begin()
                case "free":
                    dialogue.free()
                    dialogue._cache._ready()
                case "make room":
                    dialogue.make_room()
                case "add":
                    role = data.draw(st.sampled_from(["user", "assistant", "system", "tool"]))
                    dialogue.add(
                        Message(f"m{n}", role, "Stay dry."),
                        data.draw(st.sampled_from([None, "", *ids])),
                    )
                case "remove" if ids:
                    dialogue.remove(data.draw(st.sampled_from(ids)))
                case "truncate" if ids:
                    dialogue.truncate(data.draw(st.sampled_from(ids)), n)
                case "configure":
                    prompt = data.draw(st.sampled_from(["", "Be kind."]))
                    changed = replace(dialogue._options, system_prompt=prompt)
                    dialogue.configure(changed, [Tool("weather", "", "{}")])
        assert dialogue.length <= context
        check(dialogue, drafted)


@pytest.mark.parametrize("options", FUSIONS[1:], ids=by_fusion)
def test_what_is_changed_before_spoken_words_leaves_them_their_tone(
    options: dict[str, Any], load: Load
) -> None:
    dialogue = load("Llama", **options).open()
    dialogue.add(Message("s", "system", "Be kind."))
    dialogue.hear(spoken(WORDS))
    dialogue.draft()
    list(dialogue.reply())
    dialogue.end_turn(user="u", reply="a")
    before, rows = dialogue._memory.entries[1], list(dialogue._cache.rows)
    tones = [row for row in before.rows if isinstance(row, Tone)]
    assert tones
    dialogue.remove("s")
    assert [row for row in dialogue._cache.held if isinstance(row, Tone)] == tones
    dialogue.add(Message("t", "system", "Be kind."), "")
    assert dialogue._cache.held == rows
    check(dialogue, [])


@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
def test_a_draft_gives_way_to_words_that_are_not_its_own(
    options: dict[str, Any], load: Load
) -> None:
    dialogue = load("Llama", **options).open()
    dialogue.add(Message("m", "user", "Stay dry."))
    dialogue.draft()  # to answer what is remembered
    pieces = dialogue.reply()
    next(pieces)
    dialogue.hear(spoken("No"))  # no row of it may be held yet
    assert list(pieces) == []
    dialogue.end_turn(user="u")
    assert dialogue.messages[-1] == Message("u", "user", "No")


class Counting:
    """A session that notes the rows appended to it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.prefilled, self.decoded = 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def prefill(self, rows: torch.Tensor) -> None:
        self.prefilled += len(rows)
        self._session.prefill(rows)

    def decode(self, token: int) -> None:
        self.decoded += 1
        self._session.decode(token)


def spent(dialogue: Dialogue, session: Counting, step: Callable[[], object]) -> int:
    """Rows prefilled by a step."""
    before = session.prefilled
    step()
    return session.prefilled - before


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
def test_no_row_of_usual_turns_is_computed_twice(
    options: dict[str, Any], kind: str, load: Load
) -> None:
    dialogue = load(kind, context=400, **options).open()
    session = Counting(dialogue._cache._session)
    dialogue._cache._session = session  # type: ignore[assignment] - stands in for it
    pieces = dialogue._model.chat.pieces("Answer shortly.")
    begun = dialogue.length
    for n in range(3):
        words = spoken(WORDS, seed=n)
        held = dialogue.length
        prefilled = session.prefilled
        dialogue.hear(words[:4])
        dialogue.hear(words[4:])
        heard = session.prefilled - prefilled
        assert heard == dialogue.length - held
        drafted = spent(dialogue, session, dialogue.draft)
        rows = len(dialogue._draft or ())
        assert heard + drafted == rows + len(pieces.suffix)
        assert spent(dialogue, session, lambda: list(dialogue.reply())) == 0
        reply = dialogue._reply
        assert reply is not None
        unread = len(reply.tokens) - (dialogue.length - held - rows - len(pieces.suffix))
        assert unread <= 1  # the last token is no input before the turn ends
        assert spent(dialogue, session, dialogue.end_turn) == len(pieces.between) + unread
        assert session.prefilled + session.decoded == dialogue.length - begun


@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
def test_a_reply_that_was_cut_off_costs_only_the_marks_behind_it(
    options: dict[str, Any], load: Load
) -> None:
    dialogue = load("Llama", **options).open()
    dialogue.hear(spoken(WORDS))
    dialogue.draft()
    list(dialogue.reply())
    session = Counting(dialogue._cache._session)
    dialogue._cache._session = session  # type: ignore[assignment] - stands in for it
    dialogue.end_turn(3)
    assert session.prefilled == len(dialogue._model.chat.pieces("Answer shortly.").between)
    dialogue.draft()
    begin = spent(dialogue, session, dialogue.resume)
    assert begin <= len(dialogue._memory._frame.pieces[-1])  # the header of the next user
