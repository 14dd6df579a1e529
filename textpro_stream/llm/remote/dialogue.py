"""One conversation with an LLM behind a URL: `ports.Dialogue` as requests, each a whole prompt.

The server keeps what it has read; nothing here knows how. A word more is a longer prompt, a crop is
a shorter one. While somebody speaks the prompt is read along (`prefill.py`); at the pause the reply
is asked for, and closing it closes the request. Only `reply` waits for the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import assert_never

from textpro_stream.commands import Add, Change, Configure, Remove, Truncate
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import (
    Delta,
    GenerationEnd,
    Message,
    OpenTurn,
    Playout,
    ReplyOptions,
    TextDelta,
    Tool,
    ToolCall,
)
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.remote.api import ChatApi
from textpro_stream.llm.remote.context import PromptContext
from textpro_stream.llm.remote.deltas import DeltaReader
from textpro_stream.llm.remote.history import Messages
from textpro_stream.llm.remote.prefill import Prefill
from textpro_stream.llm.remote.prompt import Prompt, prefill_body, reply_body
from textpro_stream.llm.remote.slots import Slots
from textpro_stream.llm.remote.thinking import ThoughtFilter, begins_thinking
from textpro_stream.llm.tools import declared


@dataclass(slots=True, eq=False)
class _Reply:
    """A reply, and what was drawn of it."""

    turn: int
    options: LlmOptions
    tools: tuple[Tool, ...]
    messages: Messages | None  # to reply to, aside; None: what is remembered and the open turn
    remember: bool
    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    deltas: asyncio.Queue[Delta | Exception | None] = field(default_factory=asyncio.Queue)
    pump: asyncio.Task[None] | None = None  # from the socket to `deltas`

    @property
    def aside(self) -> bool:
        """It stands beside what is remembered and said."""
        return self.messages is not None

    def note(self, delta: Delta) -> None:
        """It was drawn."""
        if isinstance(delta, TextDelta):
            self.text += delta.text
        elif isinstance(delta, ToolCall):
            self.calls.append(delta)

    def end(self) -> None:
        """It is nothing any more: close its request, and let whoever draws it go."""
        if self.pump is not None:
            self.pump.cancel()
        self.deltas.put_nowait(None)


class RemoteDialogue:
    """One conversation.

    Args:
        api: of the server, shared.
        options: of this conversation.
        slots: of the server's cache, shared.
    """

    def __init__(self, api: ChatApi, options: LlmOptions, slots: Slots) -> None:
        self._api, self._slots = api, slots
        self._slot: int | None = None
        self._context = PromptContext(options, lambda: api.known.context)
        self._prefill = Prefill(self._read)
        self._reply: _Reply | None = None
        self._told: int | None = None  # the turn that was said to be too long

    @property
    def messages(self) -> Messages:
        """What is remembered, oldest first; the open turn is not among it."""
        return self._context.history.messages

    @property
    def tokens_cached(self) -> int:
        """None here: the cache is the server's."""
        return 0

    async def follow(self, turn: OpenTurn, /) -> None:
        """Note how the turn stands, and have the server read it; waits for nothing.

        Raises:
            ConfigError: the system prompt leaves no room in the context.
            StageError: the turn is longer than the context (once); what fits is read.
        """
        context = self._context
        before, said, context.turn = context.turn, context.said, turn
        context.check(context.options, context.tools)
        as_before = turn.over and before.number == turn.number
        if self._reply is None or not self._reply.aside:
            as_before &= before.over and said == context.said
        if not as_before:
            self._void()
        if turn.over or not context.options.prefill:
            self._prefill.stop()
        else:
            self._prefill.want(context.prompt(context.options, context.tools))
        if not turn.over and not turn.text.strip():
            self._told = None
        if (excess := context.excess) and self._told != turn.number:
            self._told = turn.number
            raise StageError(
                f"the turn is longer than [llm] context {context.capacity} allows: the LLM does"
                f" not read its last {excess} characters; raise the context",
                capacity=context.capacity,
                excess=excess,
            )

    async def reply(self, turn: int, options: ReplyOptions, /) -> AsyncGenerator[Delta, None]:
        """Ask for the reply and give it as it comes. Closing this closes the request.

        Raises:
            ConfigError: what the options ask for leaves no room, or cannot be told to the model.
            StageError: the server cannot be had, or broke off; one line says why.
        """
        self._void()
        self._prefill.stop()
        self._reply = reply = self._begin(turn, options)
        reply.pump = asyncio.create_task(self._pump(reply), name=f"remote reply {turn}")
        try:
            while (delta := await reply.deltas.get()) is not None and reply is self._reply:
                if isinstance(delta, Exception):
                    raise delta
                reply.note(delta)
                yield delta
                if isinstance(delta, GenerationEnd):
                    return
        finally:
            reply.pump.cancel()
            await asyncio.wait({reply.pump})

    async def close_turn(self, playout: Playout | None, /) -> None:
        """Remember the turn as it was heard; forget old ones where the context is nearly full."""
        context, reply = self._context, self._reply
        self._reply = None
        said: list[Message] = []
        if reply is not None and playout is not None:
            end = None if playout.characters is None else max(0, playout.characters)
            heard, calls = reply.text[:end], tuple(reply.calls) if playout.calls_told else ()
            if not reply.aside or (reply.remember and (heard or calls)):
                said.append(Message(f"a{reply.turn}", "assistant", heard, calls))
        if reply is not None and reply.aside:  # the open turn stands as it stood
            context.history.messages += tuple(said)
            return
        context.close_turn(*said)

    async def edit(self, change: Change, /) -> None:
        """Change what is remembered, or how to reply.

        Raises:
            ConfigError: the system prompt leaves no room, or a tool cannot be told.
            StageError: there is no such message, its id is known already, `after` is not, or there
                is no room for it. In all cases everything stays as it was.
        """
        context, history = self._context, self._context.history
        match change:
            case Configure(llm=llm, tools=tools):
                if llm is None and tools is None:  # it is about turns or the voice
                    return
                options = llm or context.options
                tools = context.tools if tools is None else tools
                declared(tools)
                context.check(options, tools)
                context.options, context.tools = options, tools
            case Add(message=message, after=after):
                context.change(history.added(message, after), new=message)
            case Remove(message_id=message_id):
                context.change(history.removed(message_id))
            case Truncate(message_id=message_id, characters=characters):
                context.change(history.truncated(message_id, characters))
            case _:
                assert_never(change)
        self._void()

    async def rest(self) -> None:
        """Leave no request behind, and the server's slot to others."""
        self._void()
        await self._prefill.close()
        self._slots.give_back(self._slot)
        self._slot = None

    async def close(self) -> None:
        """The conversation is over."""
        await self.rest()

    def _void(self) -> None:
        if self._reply is not None:
            self._reply.end()
            self._reply = None

    def _begin(self, turn: int, options: ReplyOptions) -> _Reply:
        context = self._context
        tools = context.tools if options.tools is None else options.tools
        llm = context.options
        if options.instructions is not None:
            llm = replace(llm, system_prompt=options.instructions)
        if options.max_tokens is not None:
            llm = replace(llm, max_tokens=options.max_tokens)
        declared(tools)
        context.check(llm, tools)
        messages = options.messages
        if messages is None and not options.remember:
            messages = context.told(self.messages)
        return _Reply(turn, llm, tools, messages, options.remember)

    async def _pump(self, reply: _Reply) -> None:
        """Put the reply where it is drawn from, or what went wrong."""
        try:
            try:
                await self._ask(reply)
            except StageError as error:
                if not error.facts.get("overflow"):
                    raise
                if reply.aside:  # however often it is tried
                    raise ConfigError(str(error)) from None
                await self._ask(reply)  # with fewer old turns
        except Exception as error:
            reply.deltas.put_nowait(error)

    async def _ask(self, reply: _Reply) -> None:
        server = await self._api.server()
        if reply.messages is None:
            prompt = self._context.prompt(reply.options, reply.tools)
        else:
            messages = reply.messages or (Message("", "user", ""),)
            prompt = Prompt(reply.options.system_prompt, messages, reply.tools)
        slot = None if reply.aside else self._slot_of(server.slots)
        opened = self._api.opens_thoughts or begins_thinking(server.model)
        thoughts = ThoughtFilter(opened=opened)
        reader = DeltaReader(thoughts, calls_tools=bool(reply.tools))
        body = reply_body(prompt, server, slot, reply.options, reply.turn)
        try:
            async with aclosing(self._api.stream(body)) as pieces:
                async for piece in pieces:
                    for delta in reader.push(piece):
                        reply.deltas.put_nowait(delta)
        except StageError as error:
            if error.facts.get("overflow"):
                counted = error.facts.get("prompt_tokens")
                self._context.estimate.overflow(
                    prompt, counted if isinstance(counted, int) else None
                )
            raise
        self._api.opens_thoughts |= thoughts.was_opened
        self._learn(prompt, reader)
        for delta in reader.finish():
            reply.deltas.put_nowait(delta)

    async def _read(self, prompt: Prompt) -> None:
        """Have the server read a prompt."""
        server = await self._api.server()
        answer = await self._api.complete(prefill_body(prompt, server, self._slot_of(server.slots)))
        reader = DeltaReader(ThoughtFilter(), calls_tools=False)
        for _ in reader.push(answer):
            pass
        self._learn(prompt, reader)

    def _learn(self, prompt: Prompt, reader: DeltaReader) -> None:
        if reader.prompt_tokens:
            self._context.estimate.learn(prompt, reader.prompt_tokens)

    def _slot_of(self, total: int) -> int | None:
        if self._slot is None:
            self._slot = self._slots.take(total)
        return self._slot
