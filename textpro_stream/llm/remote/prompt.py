"""What a server is asked: messages, tools and sampling as the JSON of `/v1/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, Tool
from textpro_stream.llm.remote.api import Json, Server
from textpro_stream.llm.tools import declared

MARKS = 24  # characters that a template's marks around a message count as


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that stands before a reply."""

    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()

    @property
    def size(self) -> int:
        """In characters, marks included; what `TokenEstimate` counts in."""
        texts = [self.system, *(message.text for message in self.messages)]
        calls = [call for message in self.messages for call in message.calls]
        texts += [call.name + call.arguments for call in calls]
        texts += [tool.name + tool.description + tool.parameters for tool in self.tools]
        return sum(len(text) + MARKS for text in texts)


class TokenEstimate:
    """How many tokens a prompt takes, learnt from those that a server has counted."""

    def __init__(self) -> None:
        self._per_character = 0.4  # English takes 0.25; better too much than too little

    def of(self, prompt: Prompt) -> int:
        """Tokens."""
        return round(prompt.size * self._per_character)

    def characters(self, tokens: int) -> int:
        """That so many tokens have room for."""
        return round(tokens / self._per_character)

    def learn(self, prompt: Prompt, tokens: int) -> None:
        """A server has counted this prompt."""
        self._per_character = tokens / prompt.size

    def overflow(self, prompt: Prompt, tokens: int | None) -> None:
        """A server found this prompt too long: it may have counted, or not."""
        self._per_character *= 1.5
        if tokens is not None:
            self.learn(prompt, tokens)


def prefill_body(prompt: Prompt, server: Server, slot: int | None) -> Json:
    """Have a prompt read. One token is made: no chat endpoint makes none.

    Asked for 0 (`n_predict` or `max_tokens`), llama.cpp b11549 makes one all the same, and others
    may refuse. It costs next to nothing: the logits after the prompt are computed anyway.
    """
    return _body(prompt, server, slot) | {"max_tokens": 1, "temperature": 0}


def reply_body(
    prompt: Prompt, server: Server, slot: int | None, options: LlmOptions, turn: int
) -> Json:
    """Have a prompt replied to.

    Args:
        prompt: what stands before the reply.
        server: that is asked.
        slot: of llama.cpp's cache; None: as the server likes.
        options: sampling and length.
        turn: by which the reply is remembered; each samples otherwise.
    """
    body = _body(prompt, server, slot) | {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed + turn,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if options.repetition_penalty != 1:
        match server.kind:
            case "llama.cpp":
                body["repeat_penalty"] = options.repetition_penalty
            case "vllm" | "sglang":
                body["repetition_penalty"] = options.repetition_penalty
            case _:  # unknown fields are an error to some
                pass
    return body


def _body(prompt: Prompt, server: Server, slot: int | None) -> Json:
    """What the prompt is made of: the same for prefill and reply, or the one would be in vain."""
    body: Json = {"model": server.model, "messages": list(_chat(prompt))}
    if prompt.tools:
        body["tools"] = declared(prompt.tools)
    if server.kind in ("llama.cpp", "vllm", "sglang"):
        # A thought is silence to whoever waits; models without thoughts do not mind.
        body["chat_template_kwargs"] = {"enable_thinking": False}
    if server.kind == "llama.cpp":
        body["cache_prompt"] = True
        if slot is not None:
            body["id_slot"] = slot
    return body


def _chat(prompt: Prompt) -> Iterator[Json]:
    """Messages as the API has them."""
    if prompt.system:
        yield {"role": "system", "content": prompt.system}
    waiting: list[str] = []  # ids of calls that have had no result yet
    for message in _alternating(prompt.messages):
        spoken: Json = {"role": message.role, "content": message.text}
        if message.calls:
            waiting = [f"call_{message.id}_{n}" for n in range(len(message.calls))]
            spoken["tool_calls"] = [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call_id, call in zip(waiting, message.calls, strict=True)
            ]
        if message.role == "tool":
            spoken["tool_call_id"] = waiting.pop(0) if waiting else f"call_{message.id}"
        yield spoken


def _alternating(messages: Sequence[Message]) -> Iterator[Message]:
    """Without replies of which nothing was heard; one speaker's messages in a row are one.

    Many templates refuse other orders (Gemma, Mistral).
    """
    last: Message | None = None
    for message in messages:
        if message.role == "assistant" and not message.text and not message.calls:
            continue
        if (
            last is not None
            and last.role == message.role in ("user", "assistant")
            and not (last.calls or message.calls)
        ):
            last = replace(last, text=f"{last.text}\n{message.text}".strip())
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last


def is_object(text: str) -> bool:
    """Whether a text is a JSON object, as a call's arguments have to be."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
