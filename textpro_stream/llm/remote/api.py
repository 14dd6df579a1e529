"""The HTTP of an OpenAI-compatible server: requests out, JSON back, every fault as one line.

Runs on the event loop and waits for nothing but the socket. Knows no conversation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from textpro_stream.errors import StageError
from textpro_stream.llm.remote.address import Address
from textpro_stream.llm.remote.faults import Faults

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
# Between two looks at whether a fault is over: a server with a fault is not ready, gets no callers,
# and would never find out.
LOOKS_S = (2.0, 5.0, 10.0, 30.0)
PREFILL_S = 120.0  # nobody waits for it, and Ollama may have to load the model first
PAUSES_S = (0.25, 0.75)  # before further tries of what may be gone in a moment: 2 s at most ...
LONGEST_PAUSE_S = 1.0  # ... also where the server says when (Retry-After)
LIST_S = 10.0  # of its models, further tries included
KEEP_ALIVE_S = 4.0  # llama.cpp closes idle connections after 5 s
_CHAT = "/chat/completions"


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
        fault: what was wrong at last, in one line; "" once a request worked again. While there is
            one, the server is asked for a token now and then.
        opens_thoughts: its chat template was seen to begin replies inside a thought.
    """

    def __init__(self, address: Address) -> None:
        self.address, self.fault = address, ""
        self.opens_thoughts = False
        self._faults = Faults(address)
        self._server: Server | None = None
        self._asking = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
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
                            raise self._faults.cut()
                except StageError:
                    if not ended:
                        raise
                    piece, self.fault = None, ""  # it is all there but for its figures
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

    async def check(self) -> Server:
        """Ask for one token.

        Raises:
            StageError: there was none.
        """
        server = await self.server()
        messages = [{"role": "user", "content": "Hello"}]
        await self.complete({"model": server.model, "messages": messages, "max_tokens": 1})
        return server

    async def aclose(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await self._client.aclose()

    async def _look(self) -> None:
        """Until the fault is over."""
        looks = iter(LOOKS_S)
        while self.fault:
            await asyncio.sleep(next(looks, LOOKS_S[-1]))
            if self.fault:
                with suppress(StageError):
                    await self.check()

    async def _ask(self) -> Server:
        wanted = self.address.model
        models = await self._listed()
        if models is None:  # no list: a bare proxy, say; requests will tell what is wrong
            return Server(model=wanted)
        names = tuple(str(model.get("id", "")) for model in models)
        if not wanted and not names:
            raise self._faults.line(f"has no model; write its address as {self.address}#MODEL")
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
            if error.facts.get("status") in (404, 405, 501):
                return None
            raise
        content = await self._whole(response)
        found = content.get("data")
        listed = found if isinstance(found, list) else []
        return [model for model in listed if isinstance(model, dict)]

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
                if pause_s is None or not error.facts.get("passes"):
                    raise
                retry_s = error.facts.get("retry_s")
                wait_s = retry_s if isinstance(retry_s, float) else pause_s
                if wait_s > LONGEST_PAUSE_S:
                    raise
                await asyncio.sleep(wait_s)
        raise AssertionError("the last try gives or raises")

    async def _try(self, method: str, url: str, body: Json | None = None) -> httpx2.Response:
        request = self._client.build_request(method, url, json=body)
        try:
            response = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise self._faults.unreachable(error, CONNECT_S) from None
        if response.is_success:
            return response
        try:
            text = (await response.aread()).decode("utf-8", "replace")
        finally:
            await response.aclose()
        model = str((body or {}).get("model", ""))
        raise self._faults.refusal(response, text, model, self.known.models)

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
                raise self._faults.no_json(response, line)
            value = value.strip()
            if value == "[DONE]":  # read on to the end: the connection can serve again then
                continue
            began = True
            if field == "error":  # older llama.cpp
                raise self._faults.told(value)
            yield self._object(value, response)
        if not began:
            raise self._faults.no_json(response, "")

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
            raise self._faults.no_json(response, text) from None
        if not isinstance(value, dict):
            raise self._faults.no_json(response, text)
        if value.get("error"):
            raise self._faults.told(text)
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
                raise self._faults.line(f"{what}; is it overloaded, or still loading?") from None
            except httpx2.HTTPError as error:
                raise self._faults.broken(error) from None
        except StageError as error:
            if error.facts.get("status") != 400 and not error.facts.get("overflow"):
                self.fault = str(error)  # else it is what was asked that is wrong
                self._server = None  # it may come back as another one
                if self._looking is None or self._looking.done():
                    self._looking = asyncio.create_task(self._look(), name="look at the LLM")
            raise


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
