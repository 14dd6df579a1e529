"""The HTTP of an OpenAI-compatible server: requests out, JSON back, every fault as one line.

Runs on the event loop and waits for nothing but the socket. Knows no conversation.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from textpro_stream.errors import StageError
from textpro_stream.llm.remote.address import Address

Json = dict[str, Any]
ServerKind = Literal["llama.cpp", "vllm", "sglang", "ollama", ""]
_OWNERS: dict[str, ServerKind] = {  # `owned_by` in the list of models
    "llamacpp": "llama.cpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "library": "ollama",
}

CONNECT_S = 3.0  # a machine that is there answers in milliseconds, and somebody waits
FIRST_TOKEN_S = 30.0  # a long prompt on a slow machine; whoever waits longer has hung up
BETWEEN_TOKENS_S = 15.0  # a reply that stands still for longer will not go on
USAGE_S = 2.0  # behind a whole reply: its figures are not worth more
PREFILL_S = 120.0  # nobody waits for it, and Ollama may have to load the model first
PAUSES_S = (0.25, 0.75)  # before further tries of what may be gone in a moment: 2 s at most ...
LONGEST_PAUSE_S = 1.0  # ... also where the server says when (Retry-After)
LIST_S = 10.0  # of its models, further tries included
KEEP_ALIVE_S = 4.0  # llama.cpp closes idle connections after 5 s
_CHAT = "/chat/completions"
MESSAGE = 200  # characters of what a server says about an error


@dataclass(frozen=True, slots=True)
class Server:
    """What a server tells of itself."""

    kind: ServerKind = ""
    model: str = ""  # that is asked for
    models: tuple[str, ...] = ()
    context: int | None = None  # tokens of one conversation
    slots: int = 0  # of llama.cpp: conversations whose prompt it keeps; 0 = it has none to choose


class ChatApi:
    """One server, for all conversations.

    Args:
        address: of the server.

    Attributes:
        fault: what was wrong at last, in one line; "" once a request worked again.
        opens_thoughts: its chat template was seen to begin replies inside a thought.
    """

    def __init__(self, address: Address) -> None:
        self.address, self.fault = address, ""
        self.opens_thoughts = False
        self._server: Server | None = None
        self._asking = asyncio.Lock()
        headers = {"Accept": "application/json"}
        if address.api_key:
            headers["Authorization"] = f"Bearer {address.api_key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(None, connect=CONNECT_S),  # the rest has deadlines of its own
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE_S),
            verify=address.url.startswith("https:"),  # loading certificates takes its time
            trust_env=not address.is_loopback,  # no proxy leads to this machine
        )

    @property
    def known(self) -> Server:
        """The server as far as it has been asked."""
        return self._server or Server(model=self.address.model)

    async def server(self) -> Server:
        """What the server tells of itself; asked once.

        Raises:
            StageError: it cannot be had.
        """
        async with self._asking:
            if self._server is None:
                async with self._watched(LIST_S, f"gave no list of models in {LIST_S:g} s"):
                    self._server = await self._ask()
        return self._server

    async def complete(self, body: Json) -> Json:
        """One answer as a whole.

        Raises:
            StageError: there was none.
        """
        async with self._watched(PREFILL_S, f"gave no answer in {PREFILL_S:g} s"):
            response = await self._request("POST", _CHAT, body, tries=1)
            return await self._whole(response)

    async def stream(self, body: Json) -> AsyncGenerator[Json, None]:
        """The pieces of one answer. Closing the generator closes the request: the server stops.

        Raises:
            StageError: there was none, or it broke off.
        """
        deadline, what = _now() + FIRST_TOKEN_S, f"gave no first token in {FIRST_TOKEN_S:g} s"
        async with self._watched(FIRST_TOKEN_S, what):
            response = await self._request("POST", _CHAT, body)
        ended = False
        try:
            pieces = self._pieces(response)
            while True:
                try:
                    async with self._watched(deadline - _now(), what):
                        piece = await anext(pieces, None)
                        if piece is None and not ended:
                            raise self._failed("broke off in the middle; look at its log")
                except StageError:
                    if not ended:
                        raise
                    piece = None  # all of it is there but for its figures
                if piece is None:
                    return
                if _ends(piece):
                    ended, deadline = True, _now() + USAGE_S
                elif _has_token(piece) and not ended:
                    what = f"gave nothing more for {BETWEEN_TOKENS_S:g} s"
                    deadline = _now() + BETWEEN_TOKENS_S
                yield piece
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _ask(self) -> Server:
        wanted = self.address.model
        models = await self._listed()
        if models is None:  # no list: a bare proxy, say; requests will tell what is wrong
            return Server(model=wanted)
        names = tuple(str(model.get("id", "")) for model in models)
        if not wanted and not names:
            raise self._failed(f"has no model; write its address as {self.address}#MODEL")
        chosen = next((m for m in models if m.get("id") == wanted), models[0] if models else {})
        kind = _OWNERS.get(str(chosen.get("owned_by", "")).lower(), "")
        meta = chosen.get("meta") or {}
        context = chosen.get("max_model_len") or chosen.get("context_length") or meta.get("n_ctx")
        slots = await self._slots() if kind == "llama.cpp" else 0
        context = context if isinstance(context, int) and context > 0 else None
        return Server(kind, wanted or names[0], names, context, slots)

    async def _listed(self) -> list[Json] | None:
        """Its models; None where it has no list of them."""
        try:
            response = await self._request("GET", "/models")
        except StageError as error:
            if getattr(error, "status", None) in (404, 405, 501):
                return None
            raise
        content = await self._whole(response)
        found = content.get("data")
        return [model for model in found if isinstance(model, dict)] if found else []

    async def _slots(self) -> int:
        root = self.address.url.removesuffix("/v1")
        try:
            response = await self._try("GET", f"{root}/props")
            slots = json.loads(await response.aread()).get("total_slots", 0)
        except (StageError, ValueError, AttributeError):
            return 0  # hidden behind a proxy; it will choose by itself
        return slots if isinstance(slots, int) else 0

    async def _request(
        self, method: str, path: str, body: Json | None = None, *, tries: int = 1 + len(PAUSES_S)
    ) -> httpx2.Response:
        """Begin a request; again where nothing came of it but may do so in a moment."""
        for pause_s in (*PAUSES_S[: tries - 1], None):
            try:
                return await self._try(method, f"{self.address}{path}", body)
            except StageError as error:
                if pause_s is None or not getattr(error, "passes", False):
                    raise
                wait_s: float = getattr(error, "retry_s", None) or pause_s
                if wait_s > LONGEST_PAUSE_S:
                    raise
                await asyncio.sleep(wait_s)
        raise AssertionError("the last try gives or raises")

    async def _try(self, method: str, url: str, body: Json | None = None) -> httpx2.Response:
        request = self._client.build_request(method, url, json=body)
        try:
            response = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if response.is_success:
            return response
        try:
            text = (await response.aread()).decode("utf-8", "replace")
        finally:
            await response.aclose()
        raise self._refusal(response, text, str((body or {}).get("model", "")))

    async def _pieces(self, response: httpx2.Response) -> AsyncIterator[Json]:
        """The JSON objects of a stream of events, or the one of a server that does not stream."""
        if "json" in response.headers.get("content-type", ""):
            yield await self._whole(response)
            return
        began = False
        async for line in response.aiter_lines():
            field, colon, value = line.partition(":")
            if not line.strip() or not field or (colon and field in ("event", "id", "retry")):
                continue  # between events; a sign of life
            if not colon or field not in ("data", "error"):
                raise self._no_json(response, line)
            value = value.strip()
            if value == "[DONE]":  # read on to the end: the connection can serve again then
                continue
            began = True
            if field == "error":  # older llama.cpp
                raise self._failed(f"failed: {_message(value)}", **_overflow(value))
            yield self._object(value, response)
        if not began:
            raise self._no_json(response, "")

    async def _whole(self, response: httpx2.Response) -> Json:
        try:
            text = (await response.aread()).decode("utf-8", "replace")
        finally:
            await response.aclose()
        return self._object(text, response)

    def _object(self, text: str, response: httpx2.Response) -> Json:
        """A JSON object.

        Raises:
            StageError: it is none, or tells of an error.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise self._no_json(response, text) from None
        if not isinstance(value, dict):
            raise self._no_json(response, text)
        if value.get("error"):
            raise self._failed(f"failed: {_message(text)}", **_overflow(text))
        self.fault = ""
        return value

    @asynccontextmanager
    async def _watched(self, seconds: float, what: str) -> AsyncIterator[None]:
        """What goes wrong inside becomes one line, and the server's `fault`."""
        try:
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    yield
            except TimeoutError:
                raise self._failed(f"{what}; is it overloaded, or still loading?") from None
            except httpx2.HTTPError as error:
                raise self._broken(error) from None
        except StageError as error:
            if getattr(error, "status", None) != 400 and not getattr(error, "overflow", False):
                self.fault = str(error)  # else it is what was asked that is wrong
                self._server = None  # it may come back as another one
            raise

    def _unreachable(self, error: httpx2.HTTPError) -> StageError:
        """No answer has begun."""
        match error:
            case httpx2.ConnectTimeout():
                return self._failed(f"does not answer within {CONNECT_S:g} s; is it switched on?")
            case httpx2.ConnectError():
                cause = " ".join(str(error).split()) or "no connection"
                return self._failed(
                    f"cannot be reached ({cause}); start it, or mend [llm] url", passes=True
                )
            case httpx2.TransportError():
                return self._failed("closed the connection; look at its log", passes=True)
        return self._broken(error)

    def _broken(self, error: httpx2.HTTPError) -> StageError:
        """An answer has begun."""
        if isinstance(error, httpx2.TransportError):
            return self._failed("broke off in the middle; look at its log")
        return self._failed(f"failed: {type(error).__name__}: {error}")

    def _refusal(self, response: httpx2.Response, text: str, model: str) -> StageError:
        status, key = response.status_code, "TEXTPRO_LLM__API_KEY"
        facts: Json = {"status": status, "passes": status == 429 or status >= 500}
        if status in (401, 403):
            what = "refuses the key; mend" if self.address.api_key else "wants a key; set"
            return self._failed(f"{what} {key}", **facts)
        if status == 404 and model:
            names = self.known.models
            if names and model not in names:
                listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
                return self._failed(f"has no model {model!r} but {listed}", **facts)
            return self._failed(
                f"knows no model {model!r}, or no /chat/completions: {_message(text)}", **facts
            )
        if 300 <= status < 400:
            target = response.headers.get("location", "elsewhere")
            return self._failed(f"has moved to {target}; write that address", **facts)
        if status == 429:
            seconds = _seconds(response.headers.get("retry-after", ""))
            when = f"in {seconds:g} s" if seconds else "later, or take another server"
            return self._failed(f"is too busy (429); try again {when}", retry_s=seconds, **facts)
        return self._failed(f"answered {status}: {_message(text)}", **facts, **_overflow(text))

    def _no_json(self, response: httpx2.Response, text: str) -> StageError:
        kind = response.headers.get("content-type", "no type").partition(";")[0]
        start = " ".join(text.split())[:40]
        return self._failed(
            f"answered {start!r} ({kind}), which is no JSON; is this the address of an"
            f" OpenAI-compatible API, …/v1?"
        )

    def _failed(self, what: str, **facts: Any) -> StageError:
        return StageError(f"the LLM at {self.address} {what}", address=str(self.address), **facts)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ends(piece: Json) -> bool:
    """The reply is complete; only its figures may follow."""
    choices = piece.get("choices") or [{}]
    return bool(isinstance(choices[0], dict) and choices[0].get("finish_reason"))


def _has_token(piece: Json) -> bool:
    """Some servers tell the role before they have read the prompt."""
    choices = piece.get("choices") or [{}]
    delta = choices[0].get("delta") or {} if isinstance(choices[0], dict) else {}
    return any(value for key, value in delta.items() if key != "role")


def _message(text: str) -> str:
    """What a server says about an error, in one short line."""
    said: Any = text
    with suppress(ValueError, RecursionError):
        said = json.loads(text)
    while isinstance(said, dict):
        said = next((said[key] for key in ("error", "message", "detail") if key in said), text)
    line = " ".join(str(said).split()) or "no reason given"
    return line if len(line) <= MESSAGE else line[: MESSAGE - 1] + "…"


def _overflow(text: str) -> Json:
    """Whether a server complains of a prompt that is longer than its context."""
    words = text.lower()
    complains = "context" in words and any(w in words for w in ("exceed", "maximum", "too long"))
    if not complains:
        return {}
    told = re.search(r'"n_prompt_tokens":\s*(\d+)', text)  # llama.cpp
    return {"overflow": True, "prompt_tokens": int(told[1]) if told else None}


def _seconds(text: str) -> float | None:
    """Of a `Retry-After`; dates are too far away to wait for."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return None
