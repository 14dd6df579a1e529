"""A reply being generated: its tokens, their text, why it ended, and readings of it.

Knows nothing of the cache. A generation stands while its prompt does; whoever reads it again gets
the tokens that are there at once, and the same reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from textpro_stream.contracts import (
    Delta,
    GenerationEnd,
    GenerationEndReason,
    Message,
    Playout,
    TextDelta,
    ToolCall,
)
from textpro_stream.llm.chat import TextStream
from textpro_stream.llm.fusion import Row
from textpro_stream.llm.history import Entry
from textpro_stream.llm.sampling import Sampler
from textpro_stream.llm.tools import CallSplitter


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that stands in front of a reply."""

    rows: list[Row]
    cached: int  # of them, those that the cache held before a reply was wanted


class Generation:
    """Grows by one token at a time.

    Args:
        prompt: that it replies to.
        text: decoder of this reply.
        sampler: chooser of this reply.
        stops: ids that end it; they are not part of it.
        max_tokens: its bound.
        calls_tools: what looks like a call of a function is one.
    """

    def __init__(
        self,
        prompt: Prompt,
        text: TextStream,
        sampler: Sampler,
        stops: frozenset[int],
        max_tokens: int,
        *,
        calls_tools: bool,
    ) -> None:
        self.prompt, self.calls_tools = prompt, calls_tools
        self.tokens: list[int] = []
        self.texts: list[str] = []  # one per token; "" while a character is still in parts
        self.reason: GenerationEndReason | None = None
        self._text = text
        self._sampler = sampler
        self._stops = stops
        self._max_tokens = max_tokens

    def advance(self, logits: Callable[[], Tensor], *, full: bool) -> None:
        """Choose one more token, or end.

        Raises:
            StageError: the logits are not finite.

        Args:
            logits: after the last token; asked for only if there is to be another.
            full: no row is left for another.
        """
        if full or self._max_tokens <= 0:
            self.reason = "length"
            return
        token = self._sampler.choose(logits(), self.tokens)
        if token in self._stops:
            self.reason = "stop"
            return
        self.tokens.append(token)
        self.texts.append(self._text.push(token))
        if len(self.tokens) >= self._max_tokens:
            self.reason = "length"

    def said(self) -> tuple[str, tuple[ToolCall, ...]]:
        """Its text so far, and the functions that it asks for, which are known at its end."""
        if not self.calls_tools:
            return "".join(self.texts), ()
        said, calls = _split(self.texts)
        return said, calls if self.reason else ()

    def tokens_until(self, characters: int) -> list[int]:
        """The tokens up to the one that holds the last of so many characters of its text."""
        total = 0
        for n, text in enumerate(self.texts):
            if total >= characters:
                return self.tokens[:n]
            total += len(text)
        return list(self.tokens)


class Reading:
    """One reader's way through a generation, from its beginning."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self._read = 0  # tokens
        self._untold = 0  # of them, those that no delta has counted yet
        self._splitter = CallSplitter() if generation.calls_tools else None

    @property
    def is_level(self) -> bool:
        """It has read all that there is, and there may be more to come."""
        return self._read == len(self.generation.tokens) and not self.generation.reason

    def read(self) -> list[Delta]:
        """What is new since it was last asked: text, at the end the calls, and the end."""
        generation, splitter, found = self.generation, self._splitter, list[Delta]()
        for text in generation.texts[self._read :]:
            self._untold += 1
            found += self._told(text if splitter is None else splitter.push(text))
        self._read = len(generation.texts)
        if generation.reason:
            if splitter is not None:
                found += [*self._told(splitter.finish()), *splitter.calls]
            prompt = generation.prompt
            found.append(GenerationEnd(generation.reason, len(prompt.rows), prompt.cached))
        return found

    def _told(self, text: str) -> list[Delta]:
        if not text:
            return []
        tokens, self._untold = self._untold, 0
        return [TextDelta(text, tokens)]


def heard(generation: Generation, playout: Playout, message_id: str) -> Message:
    """What reached the user, as a message; a call that was not told is not in it."""
    said, calls = generation.said()
    return Message(
        message_id,
        "assistant",
        said if playout.characters is None else said[: max(0, playout.characters)],
        calls if playout.calls_told else (),
    )


def remembered(
    generation: Generation,
    playout: Playout,
    message_id: str,
    encoded: Callable[[Message], Entry],
) -> Entry:
    """What is remembered of a reply: its own tokens, up to the one with the last heard character.

    Args:
        generation: what was drawn.
        playout: what came of it.
        message_id: of the message that it becomes.
        encoded: rows of a message whose tokens are not those that were drawn.
    """
    message, made = heard(generation, playout, message_id), generation
    whole = playout.characters is None
    if made.calls_tools:  # a call that was never told stands among the tokens
        whole = whole and made.reason is not None and message.calls == made.said()[1]
    if whole:
        return Entry(message, tuple(made.tokens), _ends(made.texts), made=True)
    tokens = made.tokens_until(len(message.text))
    texts = made.texts[: len(tokens)]
    text = "".join(texts)
    if made.calls_tools and (message.calls or not text.startswith(message.text)):
        return encoded(message)
    return Entry(replace(message, text=text), tuple(tokens), _ends(texts), made=True)


def _split(texts: Sequence[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """What is said in a whole reply, and the functions it asks for."""
    splitter = CallSplitter()
    said = "".join(map(splitter.push, texts)) + splitter.finish()
    return said, tuple(splitter.calls)


def _ends(texts: Sequence[str]) -> tuple[int, ...]:
    total, ends = 0, []
    for text in texts:
        total += len(text)
        ends.append(total)
    return tuple(ends)
