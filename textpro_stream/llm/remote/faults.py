"""What can be wrong with a server, each in one line that says what to do.

Facts of these errors: `address`, `status` (of HTTP), `passes` (may be gone in a moment), `retry_s`
(when, says the server), `overflow` (the prompt is longer than the context), `prompt_tokens`.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import httpx2

from textpro_stream.errors import StageError
from textpro_stream.llm.remote.address import Address

MESSAGE = 200  # characters of what a server says about an error
KEY = "TEXTPRO_LLM__API_KEY"


class Faults:
    """Errors of one server.

    Args:
        address: that they name.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def line(self, what: str, **facts: object) -> StageError:
        """Anything."""
        address = str(self._address)
        return StageError(f"the LLM at {address} {what}", address=address, **facts)

    def told(self, text: str) -> StageError:
        """It answered with an error."""
        return self.line(f"failed: {_message(text)}", **_overflow(text))

    def cut(self) -> StageError:
        """An answer had begun, and did not end."""
        return self.line("broke off in the middle; look at its log")

    def no_json(self, response: httpx2.Response, text: str) -> StageError:
        """Something else answered."""
        kind = response.headers.get("content-type", "no type").partition(";")[0]
        start = " ".join(text.split())[:40]
        return self.line(
            f"answered {start!r} ({kind}), which is no JSON; is this the address of an"
            " OpenAI-compatible API, …/v1?"
        )

    def unreachable(self, error: httpx2.HTTPError, connect_s: float) -> StageError:
        """No answer had begun."""
        match error:
            case httpx2.ConnectTimeout():
                return self.line(f"does not answer within {connect_s:g} s; is it switched on?")
            case httpx2.ConnectError():
                cause = " ".join(str(error).split()) or "no connection"
                return self.line(
                    f"cannot be reached ({cause}); start it, or mend [llm] url", passes=True
                )
            case httpx2.TransportError():
                return self.line("closed the connection; look at its log", passes=True)
        return self.broken(error)

    def broken(self, error: httpx2.HTTPError) -> StageError:
        """An answer had begun."""
        if isinstance(error, httpx2.TransportError):
            return self.cut()
        return self.line(f"failed: {type(error).__name__}: {error}")

    def refusal(
        self, response: httpx2.Response, text: str, model: str, models: tuple[str, ...]
    ) -> StageError:
        """It answered with an HTTP status.

        Args:
            response: with that status.
            text: its body.
            model: that was asked for.
            models: that the server lists.
        """
        status = response.status_code
        facts: dict[str, Any] = {"status": status, "passes": status == 429 or status >= 500}
        if status in (401, 403):
            what = "refuses the key; mend" if self._address.api_key else "wants a key; set"
            return self.line(f"{what} {KEY}", **facts)
        if status == 404 and model:
            if models and model not in models:
                listed = ", ".join(models[:8]) + (" …" if len(models) > 8 else "")
                return self.line(f"has no model {model!r} but {listed}", **facts)
            said = _message(text)
            return self.line(f"knows no model {model!r}, or no chat: {said}", **facts)
        if 300 <= status < 400:
            target = response.headers.get("location", "elsewhere")
            return self.line(f"has moved to {target}; write that address", **facts)
        if status == 429:
            seconds = _seconds(response.headers.get("retry-after", ""))
            when = f"in {seconds:g} s" if seconds else "later, or take another server"
            return self.line(f"is too busy (429); try again {when}", retry_s=seconds, **facts)
        return self.line(f"answered {status}: {_message(text)}", **facts, **_overflow(text))


def _message(text: str) -> str:
    """What a server says about an error, in one short line."""
    said: Any = text
    with suppress(ValueError, RecursionError):
        said = json.loads(text)
    while isinstance(said, dict):
        said = next((said[key] for key in ("error", "message", "detail") if key in said), text)
    line = " ".join(str(said).split()) or "no reason given"
    return line if len(line) <= MESSAGE else line[: MESSAGE - 1] + "…"


def _overflow(text: str) -> dict[str, Any]:
    """Whether a server complains of a prompt that is longer than its context."""
    words = text.lower()
    if "context" not in words or not any(w in words for w in ("exceed", "maximum", "too long")):
        return {}
    told = re.search(r'"n_prompt_tokens":\s*(\d+)', text)  # llama.cpp
    return {"overflow": True, "prompt_tokens": int(told[1]) if told else None}


def _seconds(text: str) -> float | None:
    """Of a `Retry-After`; dates are too far away to wait for."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return None
