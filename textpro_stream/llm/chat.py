"""A model's tokenizer and chat template: text <-> ids, and what stands between the turns.

The template is rendered with stand-ins for what is said, and cut at them: the same messages in the
same order need it once. User text is encoded by a tokenizer that knows no added tokens, so nothing
a person says or types can forge the template's own marks.
Read directly from `tokenizer.json` and `tokenizer_config.json`: importing transformers costs
seconds of start-up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from textpro_stream.checkpoint import read_json
from textpro_stream.contracts import Role, Tool, ToolCall
from textpro_stream.errors import WeightsError
from textpro_stream.llm.tools import declared, requested, written

FRAMES = 64  # kept; a conversation uses two for each turn
STAND_IN = "Xpart"  # begins what stands in for words
LONE = re.compile("[\ud800-\udfff]")  # half a surrogate pair, which is no text
STANDING_IN = re.compile(rf"{STAND_IN}\d+X")


@dataclass(frozen=True, slots=True)
class Part:
    """A message as the template sees it, its words left out."""

    role: Role
    calls: tuple[ToolCall, ...] = ()  # rendered by the template, beside the words
    wordless: bool = False  # there are no words to stand in for


@dataclass(frozen=True, slots=True)
class Frame:
    """What the template puts around the words, as token ids."""

    pieces: tuple[tuple[int, ...], ...]  # before the words of each part that has any, and after
    suffix: tuple[int, ...]  # behind the open user's words: end of turn, assistant header


@dataclass(frozen=True, slots=True)
class Pieces:
    """The same for the usual case: a user and an assistant who take turns."""

    opening: tuple[int, ...]  # before the first user's words: system prompt, user header
    suffix: tuple[int, ...]  # after the user's words: end of turn, assistant header
    between: tuple[int, ...]  # after a reply: end of turn, next user header


class Chat:
    """Tokenizer and template of one folder.

    Raises:
        WeightsError: no tokenizer.json, no chat template, or one that loses the user's words.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "tokenizer.json"
        if not path.exists():
            raise WeightsError(
                f"{folder}: no tokenizer.json; save the tokenizer in its fast form", folder=folder
            )
        try:
            self._marked = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise WeightsError(f"{path}: not a tokenizer ({error})", folder=folder) from error
        self._plain = Tokenizer(self._marked.model)  # the same vocabulary, without added tokens
        self._plain.pre_tokenizer = self._marked.pre_tokenizer
        if self._marked.normalizer is not None:
            self._plain.normalizer = self._marked.normalizer
        added = self._marked.get_added_tokens_decoder()
        self._added = frozenset(added)
        self._added_texts = [t.content for t in added.values() if len(t.content.strip()) > 1]
        self._config = read_json(folder / "tokenizer_config.json")
        self._template = self._compile(self._read_template())
        self._frames: dict[object, Frame] = {}
        self.knows_tools = self._shows_tools()
        self._knows_calls = self._shows_calls()
        self._n_ids = 1 + max(self._marked.get_vocab().values())

    @property
    def n_ids(self) -> int:
        """Ids that the tokenizer can produce, counted with gaps."""
        return self._n_ids

    def token_id(self, token: str) -> int | None:
        """The id of an added or ordinary token."""
        found: int | None = self._marked.token_to_id(token)
        return found

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """User text as ids, each with the characters [start, end) that it covers."""
        encoding = self._plain.encode(
            LONE.sub("\N{REPLACEMENT CHARACTER}", text), add_special_tokens=False
        )
        # Without the added tokens none of their ids can come out, except where a vocabulary
        # lists the same string as an ordinary word: leave such words out.
        kept = [
            (i, span)
            for i, span in zip(encoding.ids, encoding.offsets, strict=True)
            if i not in self._added
        ]
        return [i for i, _ in kept], [span for _, span in kept]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as text, the template's marks in it."""
        text: str = self._marked.decode(list(ids), skip_special_tokens=False)
        return text

    def text_stream(self, hidden: int | None = None) -> TextStream:
        """A decoder for one reply, which leaves out special tokens and the one `hidden`."""
        return TextStream(self._marked, hidden)

    def frame(
        self, system_prompt: str, parts: Sequence[Part], tools: Sequence[Tool] = (), *, user: bool
    ) -> Frame:
        """What surrounds the words of a conversation.

        Args:
            system_prompt: "" = none.
            parts: the messages so far.
            tools: functions that the model may call; left out where the template knows none.
            user: another user's turn is open behind them. Otherwise the assistant is to reply.

        Raises:
            WeightsError: the template fails, or changes or repeats the words given to it.
        """
        key = (system_prompt, tuple(parts), tuple(tools), user)
        found = self._frames.get(key)
        if found is None:
            if len(self._frames) >= FRAMES:
                self._frames.clear()
            found = self._frames[key] = self._frame(system_prompt, parts, tools, user)
        return found

    def pieces(self, system_prompt: str, tools: Sequence[Tool] = ()) -> Pieces:
        """What surrounds the words of a conversation in which nothing unusual happens.

        Raises:
            WeightsError: as `frame`.
        """
        turn = [Part("user"), Part("assistant")]
        return Pieces(*self.frame(system_prompt, turn, tools, user=True).pieces)

    def _frame(
        self, system_prompt: str, parts: Sequence[Part], tools: Sequence[Tool], user: bool
    ) -> Frame:
        prompt = self.harmless(system_prompt)
        wanted = [*parts, Part("user")] if user else list(parts)
        marks = [_stand_in(i) for i, part in enumerate(wanted) if not part.wordless]
        why = "does not give the words back as they are"
        for messages in self._attempts(prompt, wanted):
            try:
                text = self._render(messages, self._declared(tools))
            except jinja2.TemplateError as error:
                why = f"fails: {error}"
                continue
            if STANDING_IN.findall(text) == marks:
                cut = STANDING_IN.split(text)
                known = {piece: self._ids(piece) for piece in set(cut)}  # most are alike
                pieces = [known[piece] for piece in cut]
                return Frame(tuple(pieces[:-1] if user else pieces), pieces[-1] if user else ())
        self._refuse(why)

    def _attempts(self, prompt: str, parts: Sequence[Part]) -> Iterator[list[dict[str, Any]]]:
        """Ways to tell a template the same; some know no system role, or insist on taking turns."""
        system = [{"role": "system", "content": prompt}] if prompt else []
        plain = [self._message(i, part) for i, part in enumerate(parts)]
        turns = self._in_turns(parts)
        yield [*system, *plain]
        yield [*system, *turns]
        if prompt:
            for messages in (plain, turns):
                if messages and messages[0]["role"] == "user":
                    first = {**messages[0], "content": f"{prompt}\n\n{messages[0]['content']}"}
                    yield [first, *messages[1:]]

    def _message(self, index: int, part: Part) -> dict[str, Any]:
        message: dict[str, Any] = {"role": part.role, "content": self._content(index, part)}
        if part.calls and self._knows_calls:
            message["content"] = "" if part.wordless else _stand_in(index)
            message["tool_calls"] = self._harmless_value(requested(part.calls))
        return message

    def _content(self, index: int, part: Part) -> str:
        """A message's words, and its calls written out."""
        words = "" if part.wordless else _stand_in(index)
        return words + self.harmless(written(part.calls))

    def _in_turns(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """Only users and assistants, one after the other, beginning with a user."""
        messages: list[dict[str, Any]] = []
        for i, part in enumerate(parts):
            role = "assistant" if part.role == "assistant" else "user"
            content = self._content(i, part)
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += "\n" + content
                continue
            if not messages and role == "assistant":
                messages.append({"role": "user", "content": "..."})
            messages.append({"role": role, "content": content})
        return messages

    def harmless(self, text: str) -> str:
        """The text with its special tokens broken up, so that they are words like others."""
        text = LONE.sub("\N{REPLACEMENT CHARACTER}", text)
        for token in (*self._added_texts, STAND_IN):
            text = text.replace(token, f"{token[0]}\N{ZERO WIDTH SPACE}{token[1:]}")
        return text

    def _harmless_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.harmless(value)
        if isinstance(value, dict):
            return {self.harmless(key): self._harmless_value(v) for key, v in value.items()}
        if isinstance(value, list):
            return [self._harmless_value(v) for v in value]
        return value

    def _declared(self, tools: Sequence[Tool]) -> list[dict[str, object]] | None:
        if not tools or not self.knows_tools:
            return None
        shown: list[dict[str, object]] = self._harmless_value(declared(tools))
        return shown

    def _shows_tools(self) -> bool:
        """Whether the template does anything with tools."""
        asked = [{"role": "user", "content": _stand_in(0)}]
        probe = Tool("Xprobe0X", "", "{}")
        try:
            return probe.name in self._render(asked, declared([probe]))
        except jinja2.TemplateError:
            return False

    def _shows_calls(self) -> bool:
        """Whether the template tells which functions an assistant asked for."""
        call = ToolCall("Xprobe0X", "{}")
        asking = {"role": "assistant", "content": "", "tool_calls": requested([call])}
        try:
            return call.name in self._render([{"role": "user", "content": "?"}, asking])
        except jinja2.TemplateError:
            return False

    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a reply: those the folder names, and the template's own closing mark."""
        stops: set[int] = set()
        for name in ("generation_config.json", "config.json"):
            found = read_json(self._folder / name).get("eos_token_id")
            stops |= (
                set(found) if isinstance(found, list) else {found} if found is not None else set()
            )
        token = self._token("eos_token")
        if token is not None and (known := self.token_id(token)) is not None:
            stops.add(known)
        between = self.pieces("").between
        if between and between[0] in self._added:
            stops.add(between[0])
        return frozenset(stops)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._marked.encode(text, add_special_tokens=False).ids)

    def _render(
        self, messages: Sequence[dict[str, Any]], tools: list[dict[str, object]] | None = None
    ) -> str:
        named = ("bos_token", "eos_token", "unk_token", "pad_token")
        tokens = {name: self._token(name) or "" for name in named}
        return self._template.render(
            messages=messages, tools=tools, add_generation_prompt=True, **tokens
        )

    def _token(self, name: str) -> str | None:
        token = self._config.get(name)
        return token.get("content") if isinstance(token, dict) else token

    def _read_template(self) -> str:
        path = self._folder / "chat_template.jinja"
        if path.exists():
            return path.read_text(encoding="utf-8")
        template = self._config.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = {entry.get("name"): entry.get("template") for entry in template}
            template = named.get("default")
        if not isinstance(template, str):
            raise WeightsError(
                f"{self._folder}: no chat template; choose an instruction-tuned model",
                folder=self._folder,
            )
        return template

    def _compile(self, template: str) -> jinja2.Template:
        # The conventions that published templates rely on; sandboxed, since they are programs.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
        try:
            return environment.from_string(template)
        except jinja2.TemplateError as error:
            self._refuse(f"does not parse: {error}")

    def _refuse(self, why: str) -> NoReturn:
        raise WeightsError(
            f"{self._folder}: the chat template {why}; choose an instruction-tuned model",
            folder=self._folder,
        )


class TextStream:
    """Ids of one reply to text, in pieces of whole characters."""

    def __init__(self, tokenizer: Tokenizer, hidden: int | None) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token: int) -> str:
        """The characters that this token completed; "" while one is still in parts."""
        if token == self._hidden:
            return ""
        return self._stream.step(self._tokenizer, token) or ""


def _stand_in(index: int) -> str:
    """A word that no template contains."""
    return f"{STAND_IN}{index}X"


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
