"""A streamed answer's JSON as deltas: text, calls, how it ended. Pure: no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterator

from textpro_stream.contracts import Delta, GenerationEnd, TextDelta, ToolCall
from textpro_stream.errors import StageError
from textpro_stream.llm.remote.api import Json
from textpro_stream.llm.remote.prompt import is_object
from textpro_stream.llm.remote.thinking import ThoughtFilter
from textpro_stream.llm.tools import CallSplitter


class DeltaReader:
    """Reads one reply.

    Args:
        thoughts: takes them out.
        calls_tools: functions were offered: calls that the server left in the text are found.
    """

    def __init__(self, thoughts: ThoughtFilter, *, calls_tools: bool) -> None:
        self._thoughts = thoughts
        self._splitter = CallSplitter() if calls_tools else None
        self._calls: dict[int, list[str]] = {}  # index: name, arguments
        self._reason = ""
        self._thought = self._said = False
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None

    def push(self, piece: Json) -> Iterator[Delta]:
        """What one piece brings."""
        self._note_usage(piece)
        choices = piece.get("choices")
        if choices and isinstance(choices, list):
            choice = _dict(choices[0])
            delta = _dict(choice.get("delta") or choice.get("message"))
            if delta.get("reasoning_content") or delta.get("reasoning"):
                self._thought = True
                self._thoughts.thinks_elsewhere()
            for call in delta.get("tool_calls") or ():
                self._note_call(_dict(call))
            if isinstance(text := delta.get("content"), str) and text:
                yield from self._say(self._thoughts.push(text))
                self._thought |= self._thoughts.thinking
            self._reason = choice.get("finish_reason") or self._reason

    def finish(self) -> Iterator[Delta]:
        """The rest, and the end.

        Raises:
            StageError: a call cannot be read, or there was nothing but thought.
        """
        rest = self._thoughts.finish()
        yield from self._say(rest)
        if self._splitter is not None and (rest := self._splitter.finish()):
            self._said = True
            yield TextDelta(rest, 0)
        length = self._reason == "length"
        calls = self._splitter.calls if self._splitter is not None else []
        calls = [*calls, *self._whole_calls(cut=length)]
        if length and self._thought and not self._said and not calls:
            raise StageError(
                "the LLM only thought until [llm] max_tokens was reached; raise it, or take a"
                " model that does not think"
            )
        yield from calls
        yield GenerationEnd("length" if length else "stop", self.prompt_tokens, self.cached_tokens)

    def _say(self, text: str) -> Iterator[Delta]:
        if self._splitter is not None:
            text = self._splitter.push(text)
        if text:
            self._said = True
            yield TextDelta(text)

    def _note_call(self, piece: Json) -> None:
        """A call's name comes at once, its arguments in parts."""
        function = _dict(piece.get("function"))
        index = piece.get("index")
        call = self._calls.setdefault(
            index if isinstance(index, int) else len(self._calls), ["", ""]
        )
        call[0] = call[0] or function.get("name") or ""
        call[1] += function.get("arguments") or ""

    def _whole_calls(self, *, cut: bool) -> Iterator[ToolCall]:
        for name, arguments in self._calls.values():
            arguments = arguments.strip() or "{}"
            if name and is_object(arguments):
                yield ToolCall(name, arguments)
            elif not cut:
                raise StageError(f"the LLM called {name!r} with what is no JSON object; ask again")

    def _note_usage(self, piece: Json) -> None:
        usage, timings = _dict(piece.get("usage")), _dict(piece.get("timings"))  # of llama.cpp
        details = _dict(usage.get("prompt_tokens_details"))
        cached, read = timings.get("cache_n"), timings.get("prompt_n")
        if isinstance(tokens := usage.get("prompt_tokens"), int):
            self.prompt_tokens = tokens
        elif isinstance(cached, int) and isinstance(read, int):
            self.prompt_tokens = cached + read
        for told in (cached, details.get("cached_tokens")):
            if isinstance(told, int):
                self.cached_tokens = told


def _dict(value: object) -> Json:
    """A server's JSON may have anything anywhere."""
    return value if isinstance(value, dict) else {}
