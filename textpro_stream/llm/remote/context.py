"""What of a conversation goes into a prompt, as far as the server's context has room.

Tokens are estimated: only the server can count them. Knows no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, OpenTurn, Tool
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.remote.history import Messages, TextHistory, fitting
from textpro_stream.llm.remote.prompt import Prompt, TokenEstimate
from textpro_stream.llm.tags import tag_of

USUAL_TURN = 128  # tokens of a long spoken turn: a minute of talk


class PromptContext:
    """What is remembered, and the open turn after it.

    Args:
        options: of the conversation.
        told: tokens of the server's context; None where it does not tell: `[llm] context` counts.
    """

    def __init__(self, options: LlmOptions, told: Callable[[], int | None]) -> None:
        self.options = options
        self.tools: tuple[Tool, ...] = ()
        self.turn = OpenTurn(0)
        self.history = TextHistory()
        self.estimate = TokenEstimate()
        self._told = told
        self._tags: dict[str, str] = {}  # how remembered turns sounded, by the message's id

    @property
    def capacity(self) -> int:
        """Tokens."""
        return self._told() or self.options.context

    @property
    def words(self) -> str:
        """The open turn's, as far as there is room: the beginning says what it is about."""
        text = self.turn.text.strip()
        return text[: max(0, self.estimate.characters(self._room - self._size(())))]

    @property
    def excess(self) -> int:
        """Characters of the open turn that there is no room for."""
        return len(self.turn.text.strip()) - len(self.words)

    @property
    def said(self) -> str:
        """The open turn's words and, once it is over, how they sounded, if there is room for it."""
        words, tag = self.words, self._tag if self.turn.over else ""
        free = self.estimate.characters(self._room - self._size(()))
        return words + tag if words and len(words) + len(tag) <= free else words

    def told(self, messages: Sequence[Message]) -> Messages:
        """What is remembered as the LLM has read it: with how each turn sounded."""
        return tuple(replace(m, text=m.text + self._tags.get(m.id, "")) for m in messages)

    def check(self, options: LlmOptions, tools: tuple[Tool, ...]) -> None:
        """Whether a conversation can be held so.

        Raises:
            ConfigError: the system prompt leaves no room.
        """
        size = self.estimate.of(Prompt(options.system_prompt, (), tools))
        if size + min(options.max_tokens, self.capacity // 4) >= self.capacity:
            raise ConfigError(
                f"[llm] context {self.capacity} is too small for a system prompt of about"
                f" {size} tokens and a reply; raise it or shorten the prompt"
            )

    def prompt(self, options: LlmOptions, tools: tuple[Tool, ...]) -> Prompt:
        """All before the reply; the oldest turns are forgotten where there is no room for them.

        Without words in a turn that is over, what is remembered is to be replied to.
        """
        self.history.forget_until(lambda kept: self._size(kept, self.turn) <= self._room)
        messages, said = self.told(self.history.messages), self.said
        if said or not self.turn.over or not messages:
            messages += (Message(f"u{self.turn.number}", "user", said),)
        return Prompt(options.system_prompt, messages, tools)

    def close_turn(self, *replies: Message) -> None:
        """Remember the open turn and the reply. Where another might not fit, forget until half is.

        To forget one turn at each would have the server read all the rest at each.
        """
        self.turn = replace(self.turn, over=True)
        if self.words:
            message = Message(f"u{self.turn.number}", "user", self.words)
            self._tags[message.id] = self.said[len(message.text) :]
            self.history.messages += (message,)
        self.history.messages += replies
        self.turn = OpenTurn(self.turn.number)
        self._forget_tags()
        usual = min(USUAL_TURN, self.capacity // 4)
        if self._size(self.history.messages) + usual > self._room:
            self.history.forget_until(lambda kept: self._size(kept) <= self.capacity // 2)

    def change(self, messages: Messages, new: Message | None = None) -> None:
        """Remember these instead; the oldest turns left out where there is no room.

        Raises:
            StageError: there is none for the new one; everything stays as it was.
        """
        kept = fitting(messages, lambda some: self._size(some, self.turn) <= self._room)
        if new is not None and new not in kept:
            raise StageError(
                f"there is no room for message {new.id!r} in [llm] context {self.capacity};"
                " shorten it, remove others or raise the context"
            )
        self.history.messages = messages
        self.history.forget_until(lambda some: len(some) <= len(kept))
        self._forget_tags()

    def _forget_tags(self) -> None:
        kept = {message.id for message in self.history.messages}
        self._tags = {name: tag for name, tag in self._tags.items() if tag and name in kept}

    @property
    def _tag(self) -> str:
        return tag_of(self.turn.tone) if self.options.fusion == "tags" else ""

    @property
    def _room(self) -> int:
        """Tokens for what is remembered and said; the rest is the reply's."""
        return self.capacity - min(self.options.max_tokens, self.capacity // 4)

    def _size(self, messages: Messages, turn: OpenTurn | None = None) -> int:
        """Tokens of a prompt with these messages, and a turn's words after them."""
        user = Message("", "user", turn.text.strip() + self._tag if turn is not None else "")
        prompt = Prompt(self.options.system_prompt, (*self.told(messages), user), self.tools)
        return self.estimate.of(prompt)
