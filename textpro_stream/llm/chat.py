"""A model's tokenizer and chat template: text <-> ids, and what stands between the turns.

The template is rendered once with stand-ins for what will be said, and cut at them; a conversation
then only appends pieces and never renders again. User text is encoded by a tokenizer that knows
no added tokens, so nothing a person says or types can forge the template's own marks.
Read directly from `tokenizer.json` and `tokenizer_config.json`: importing transformers costs
seconds of start-up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from textpro_stream.errors import WeightsError

_USER, _REPLY, _AGAIN = "Xuser0X", "Xreply0X", "Xuser1X"  # stand-ins that no template contains


@dataclass(frozen=True, slots=True)
class Pieces:
    """What the template puts around the words, as token ids."""

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
        self._added = frozenset(self._marked.get_added_tokens_decoder())
        self._config = _json(folder / "tokenizer_config.json")
        self._template = self._compile(self._read_template())
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
        encoding = self._plain.encode(text, add_special_tokens=False)
        # Without the added tokens none of their ids can come out, except where a vocabulary
        # lists the same string as an ordinary word: leave such words out.
        kept = [
            (i, span)
            for i, span in zip(encoding.ids, encoding.offsets, strict=True)
            if i not in self._added
        ]
        return [i for i, _ in kept], [span for _, span in kept]

    def text_stream(self, hidden: int | None = None) -> TextStream:
        """A decoder for one reply, which leaves out special tokens and the one `hidden`."""
        return TextStream(self._marked, hidden)

    def pieces(self, system_prompt: str) -> Pieces:
        """What surrounds the words of a conversation with this system prompt ("" = none).

        Raises:
            WeightsError: the template fails, or changes or repeats the words given to it.
        """
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        user, lead = {"role": "user", "content": _USER}, ""
        try:
            one = self._render([*system, user])
        except jinja2.TemplateError:
            # Some templates know no system role: the prompt then leads the first user's words.
            system, lead = [], f"{system_prompt}\n\n" if system_prompt else ""
            user = {"role": "user", "content": lead + _USER}
            try:
                one = self._render([user])
            except jinja2.TemplateError as error:
                self._refuse(f"fails: {error}")
        two = self._render(
            [
                *system,
                user,
                {"role": "assistant", "content": _REPLY},
                {"role": "user", "content": _AGAIN},
            ]
        )
        if one.count(_USER) != 1 or any(two.count(s) != 1 for s in (_USER, _REPLY, _AGAIN)):
            self._refuse("does not give the words back as they are")
        opening, suffix = one.split(_USER)
        between = two.split(_REPLY)[1].split(_AGAIN)[0]
        return Pieces(self._ids(opening), self._ids(suffix), self._ids(between))

    def stop_ids(self, pieces: Pieces) -> frozenset[int]:
        """Tokens that end a reply: those the folder names, and the template's own closing mark."""
        stops: set[int] = set()
        for name in ("generation_config.json", "config.json"):
            found = _json(self._folder / name).get("eos_token_id")
            stops |= (
                set(found) if isinstance(found, list) else {found} if found is not None else set()
            )
        token = self._token("eos_token")
        if token is not None and (known := self.token_id(token)) is not None:
            stops.add(known)
        if pieces.between and pieces.between[0] in self._added:
            stops.add(pieces.between[0])
        return frozenset(stops)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._marked.encode(text, add_special_tokens=False).ids)

    def _render(self, messages: Sequence[dict[str, str]]) -> str:
        named = ("bos_token", "eos_token", "unk_token", "pad_token")
        tokens = {name: self._token(name) or "" for name in named}
        return self._template.render(messages=messages, add_generation_prompt=True, **tokens)

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


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not readable as JSON ({error})") from error
    return content


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
