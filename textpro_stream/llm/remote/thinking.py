"""What a model only thinks, taken out of what it says: thoughts are never spoken.

Most servers put thoughts into a field of their own, which nobody here reads. Others leave them in
the text, between `<think>` and `</think>`; where the chat template has opened the thought already,
the text begins inside it.
"""

from __future__ import annotations

import re

_TAG = re.compile(r"<(/?)think>")
_PARTIAL = re.compile(r"</?(?:t(?:h(?:i(?:nk?)?)?)?)?$")  # may yet become a tag

# Their templates open the thought: DeepSeek-R1, QwQ, Qwen3-…-Thinking.
_OPENERS = re.compile(r"deepseek-?r1|qwq|thinking", re.IGNORECASE)


def begins_thinking(model: str) -> bool:
    """Whether the text of a model of this name may begin inside a thought."""
    return bool(_OPENERS.search(model))


class ThoughtFilter:
    """One reply's text, in pieces of any size: what is to be said.

    Args:
        opened: the text may begin inside a thought. Held back until the thought ends; if no tag
            comes at all, it was none, and is given out at the end.

    Attributes:
        was_opened: a thought ended that had not begun: the template had opened it.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self.was_opened = False
        self._thinking, self._guessed = opened, opened
        self._thought = ""  # as long as it is only a guess that it is one
        self._held = ""
        self._begun = False

    @property
    def thinking(self) -> bool:
        """What came last was thought."""
        return self._thinking

    def thinks_elsewhere(self) -> None:
        """Thoughts come in a field of their own: the text begins outside of them."""
        if self._guessed and not self._thought:
            self._thinking = self._guessed = False

    def push(self, text: str) -> str:
        """The text that can be said now."""
        self._held += text
        said = ""
        while tag := _TAG.search(self._held):
            said += self._take(self._held[: tag.start()])
            self.was_opened |= bool(tag[1]) and (self._guessed or not self._thinking)
            self._thinking, self._guessed, self._thought = not tag[1], False, ""
            self._held = self._held[tag.end() :]
        partial = _PARTIAL.search(self._held)
        sure = self._held[: partial.start()] if partial else self._held
        self._held = self._held[len(sure) :]
        return self._begin(said + self._take(sure))

    def finish(self) -> str:
        """The reply is over: the rest of what can be said."""
        rest = self._take(self._held)
        if self._guessed:
            self._thinking, rest = False, self._thought
        self._held = self._thought = ""
        return self._begin(rest)

    def _take(self, text: str) -> str:
        if self._guessed:
            self._thought += text
        return "" if self._thinking else text

    def _begin(self, said: str) -> str:
        """Between a thought and what is said there are blank lines."""
        if not self._begun:
            said = said.lstrip()
            self._begun = bool(said)
        return said
