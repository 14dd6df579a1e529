"""The LLM on this machine: a dialogue as `ports.Dialogue`, each of its moves a step of the device.

Nobody outside this package knows which steps there are. A reply is drawn token by token, so that
what is heard meanwhile never waits for more than one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from textpro_stream import ports
from textpro_stream.commands import Change
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Delta, GenerationEnd, OpenTurn, Playout, ReplyOptions
from textpro_stream.llm.cache import decode_together
from textpro_stream.llm.dialogue import Dialogue
from textpro_stream.llm.generation import Reading
from textpro_stream.llm.language_model import LanguageModel
from textpro_stream.ports import Observer
from textpro_stream.runtime.device import DeviceThread, Lane, Step, outcome


@dataclass(frozen=True, slots=True)
class Open(Step[Dialogue]):
    """Begin a dialogue."""

    lane = Lane.PREFILL
    model: LanguageModel
    options: LlmOptions
    observer: Observer

    def run(self) -> Dialogue:
        """Here, since dialogues share the template's cache."""
        return Dialogue(self.model, self.options, self.observer)


@dataclass(frozen=True, slots=True)
class Follow(Step[None]):
    """Read a turn's words."""

    lane = Lane.PREFILL
    dialogue: Dialogue
    turn: OpenTurn

    def run(self) -> None:
        """Crops and prefills."""
        self.dialogue.follow(self.turn)


@dataclass(frozen=True, slots=True)
class Reply(Step[Reading]):
    """Begin to reply."""

    lane = Lane.PREFILL
    dialogue: Dialogue
    turn: int
    options: ReplyOptions

    def run(self) -> Reading:
        """Prefills where the options ask for another prompt."""
        return self.dialogue.reply(self.turn, self.options)


@dataclass(frozen=True, slots=True)
class Draw(Step["Sequence[Delta] | None"]):
    """Decode one more token."""

    lane = Lane.DECODE
    most = 4  # together they take 1.6 times the time of one (docs/notes/0009)
    dialogue: Dialogue
    reading: Reading

    def run(self) -> Sequence[Delta] | None:
        """What is new; None if the reply is void."""
        return self.dialogue.draw(self.reading)

    @classmethod
    def run_together(cls, steps: Sequence[Draw]) -> list[Sequence[Delta] | Exception | None]:
        """Bring the last token of each into its cache in one pass, then choose one by one."""
        due = [
            (step, cache, token)
            for step in steps
            if (pending := step.dialogue.pending(step.reading)) is not None
            for cache, token in [pending]
        ]
        if len(due) > 1:
            with ExitStack() as busy:
                for step, _, _ in due:
                    busy.enter_context(step.dialogue.observer.span("decode"))
                decode_together([cache for _, cache, _ in due], [token for _, _, token in due])
        return [outcome(step) for step in steps]


@dataclass(frozen=True, slots=True)
class CloseTurn(Step[None]):
    """Remember a turn."""

    lane = Lane.PREFILL
    dialogue: Dialogue
    playout: Playout | None

    def run(self) -> None:
        """Crops to what was heard; where room is made, prefills what stays."""
        self.dialogue.close_turn(self.playout)


@dataclass(frozen=True, slots=True)
class Edit(Step[None]):
    """Change what is remembered."""

    lane = Lane.PREFILL
    dialogue: Dialogue
    change: Change

    def run(self) -> None:
        """Crops to the change, prefills what stands after it."""
        self.dialogue.edit(self.change)


@dataclass(frozen=True, slots=True)
class Free(Step[None]):
    """Give the cache's memory back."""

    lane = Lane.PREFILL
    dialogue: Dialogue

    def run(self) -> None:
        """Computes nothing."""
        self.dialogue.free()


class LocalDialogue:
    """`ports.Dialogue` over a model in this process.

    Args:
        model: shared weights.
        options: of this conversation.
        observer: told of "prefill" and "decode".
        device: whose thread computes.
    """

    def __init__(
        self, model: LanguageModel, options: LlmOptions, observer: Observer, device: DeviceThread
    ) -> None:
        self._open = Open(model, options, observer)
        self._device = device
        self._dialogue: Dialogue | None = None  # touched in the device's thread alone

    @property
    def tokens_cached(self) -> int:
        """Rows that its cache takes up now."""
        return self._dialogue.tokens_cached if self._dialogue is not None else 0

    async def follow(self, turn: OpenTurn, /) -> None:
        """Be where this turn is; the first call reads what stands before the first words.

        Raises:
            ConfigError: the system prompt leaves no room in the context.
            StageError: the turn is longer than the context (once); what fitted was taken.
        """
        await self._device.run(Follow(await self._opened(), turn))

    async def reply(self, turn: int, options: ReplyOptions, /) -> AsyncGenerator[Delta, None]:
        """The reply to the turn followed last, or aside from it to `options.messages`.

        Raises:
            ConfigError: what the options ask for leaves no room, or cannot be told to the model.
            StageError: the logits are no numbers.
        """
        dialogue = await self._opened()
        reading = await self._device.run(Reply(dialogue, turn, options))
        draw = Draw(dialogue, reading)
        while (deltas := await self._device.run(draw)) is not None:
            for delta in deltas:
                yield delta
                if isinstance(delta, GenerationEnd):
                    return

    async def close_turn(self, playout: Playout | None, /) -> None:
        """Remember the turn followed last, and make room for the next one."""
        await self._device.run(CloseTurn(await self._opened(), playout))

    async def edit(self, change: Change, /) -> None:
        """Change what is remembered, or how to reply.

        Raises:
            ConfigError, StageError: it cannot be; everything stays as it was.
        """
        await self._device.run(Edit(await self._opened(), change))

    async def rest(self) -> None:
        """Give the cache's memory back."""
        if self._dialogue is not None:
            await self._device.run(Free(self._dialogue))

    async def close(self) -> None:
        """Give the memory back for good; waits for nothing, and counts even if the device hangs."""
        if self._dialogue is not None:
            self._device.afterwards(Free(self._dialogue))

    async def _opened(self) -> Dialogue:
        if self._dialogue is None:
            self._dialogue = await self._device.run(self._open)
        return self._dialogue


class LocalEngine:
    """`ports.LlmEngine` over weights in this process.

    Args:
        model: the weights.
        device: whose thread computes; others use it too, and whoever made it closes it.
    """

    def __init__(self, model: LanguageModel, device: DeviceThread) -> None:
        self.model, self.device = model, device

    @property
    def notice(self) -> str:
        """What a user should know about the fusion, in one line; "" if there is nothing."""
        return self.model.notice

    @property
    def knows_tools(self) -> bool:
        """The template shows tools to the model; otherwise they are left out."""
        return self.model.knows_tools

    @property
    def facts(self) -> dict[str, str]:
        """What computes."""
        return {"device": str(self.model.device), "dtype": self.model.dtype}

    @property
    def fault(self) -> str:
        """None: what is loaded can reply."""
        return ""

    def open(self, options: LlmOptions, observer: Observer, /) -> ports.Dialogue:
        """One conversation's dialogue; it costs nothing before its first `follow`."""
        return LocalDialogue(self.model, options, observer, self.device)

    async def close(self) -> None:
        """Nothing of it is open: memory belongs to its dialogues, the device to its maker."""
