from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remote_talk import ask
from scripted_llm_server import Says, ScriptedLlmServer

from textpro_stream.config import LlmOptions
from textpro_stream.errors import StageError
from textpro_stream.llm.remote import RemoteDialogue, open_remote
from textpro_stream.llm.remote.thinking import ThoughtFilter
from textpro_stream.telemetry.trace import Unobserved


def said(pieces: list[str], *, opened: bool = False) -> str:
    thoughts = ThoughtFilter(opened=opened)
    return "".join([*map(thoughts.push, pieces), thoughts.finish()])


CASES = [
    ("Noon.", False, "Noon."),
    ("<think>Hm.</think>\n\nNoon.", False, "Noon."),
    ("<think>\n\n</think>\n\nNoon.", False, "Noon."),
    ("Well <think>Hm.</think>then.", False, "Well then."),
    ("<think>Hm. A clock", False, ""),  # cut short
    ("Hm. A clock </think>\nNoon.", True, "Noon."),  # the template opened it
    ("<think>Hm.</think>Noon.", True, "Noon."),
    ("Noon.", True, "Noon."),  # it had not, after all
    ("Is 1 < 2? <3 <thinker>", False, "Is 1 < 2? <3 <thinker>"),
    ("a <", False, "a <"),
]


@pytest.mark.parametrize(("text", "opened", "spoken"), CASES)
@given(st.data())
def test_thoughts_are_never_said_however_they_are_cut(
    text: str, opened: bool, spoken: str, data: st.DataObject
) -> None:
    ends = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert said(pieces, opened=opened) == spoken


async def test_thoughts_in_a_field_of_their_own_are_not_said(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(
        Says(({"reasoning_content": "Hm."}, {"reasoning": "A clock."}, "Noon", "."))
    )
    drawn = await ask(dialogue, 1, "What time is it?")
    assert drawn.text == "Noon."
    assert dialogue.messages[-1].text == "Noon."


async def test_a_template_that_opens_thoughts_is_learnt(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies += [Says(("Hm.</thi", "nk>Noon.")), Says(("A clock.", "</think>", "One."))]
    await ask(dialogue, 1, "What time is it?")  # too late for this one
    assert (await ask(dialogue, 2, "And now?")).text == "One."


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_models_known_to_think_are_not_believed_at_once(
    server: ScriptedLlmServer, elsewhere: bool
) -> None:
    server.models = [{"id": "DeepSeek-R1-Distill"}]
    thought = {"reasoning_content": "Hm."} if elsewhere else "Hm.</think>"
    server.replies.append(Says((thought, "Noon.")))
    options = LlmOptions(url=server.url)
    engine = open_remote(options)
    assert engine is not None
    dialogue = engine.open(options, Unobserved())
    assert (await ask(dialogue, 1, "What time is it?")).text == "Noon."
    await dialogue.close()
    await engine.close()


@pytest.mark.parametrize("thought", ["<think>Hm.", {"reasoning_content": "Hm."}])
async def test_a_reply_of_thoughts_alone_says_what_to_do(
    dialogue: RemoteDialogue, server: ScriptedLlmServer, thought: str
) -> None:
    server.replies.append(Says((thought,), finish="length"))
    with pytest.raises(StageError, match=r"only thought until .* max_tokens"):
        await ask(dialogue, 1, "What time is it?")
