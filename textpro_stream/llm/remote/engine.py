"""A language model behind a URL, for all conversations: `ports.LlmEngine`."""

from __future__ import annotations

import logging

from textpro_stream.config import LlmOptions
from textpro_stream.llm.remote.address import Address, address_of
from textpro_stream.llm.remote.api import ChatApi
from textpro_stream.llm.remote.dialogue import RemoteDialogue
from textpro_stream.llm.remote.slots import Slots
from textpro_stream.ports import Dialogue, Observer

log = logging.getLogger(__name__)


def open_remote(options: LlmOptions) -> RemoteEngine | None:
    """The engine for `[llm] url`, or for a `model` that is a URL; None for any other model.

    Asks the server nothing yet: one that is down is told of at the first reply, and by `fault`.

    Raises:
        ConfigError: the address is none.
    """
    address = address_of(options)
    return None if address is None else RemoteEngine(address, options)


class RemoteEngine:
    """One server.

    Args:
        address: of the server and its model.
        options: `[llm]`.
    """

    def __init__(self, address: Address, options: LlmOptions) -> None:
        self._tells_tone = options.fusion == "tags"
        self._address, self._api, self._slots = address, ChatApi(address), Slots()
        if address.shows_key:
            log.warning("the key for %s is sent unencrypted; use https", address)

    @property
    def notice(self) -> str:
        """What a user should know about it."""
        if self._tells_tone:
            return (
                f"replies come from {self._address}, which is told how you sound where that is"
                " sure, as (I sound angry.) behind your words"
            )
        return (
            f"replies come from {self._address}, which reads words only; --fusion tags tells it"
            " how you sound as well"
        )

    @property
    def knows_tools(self) -> bool:
        """They are passed on; what the model makes of them is its own affair."""
        return True

    @property
    def facts(self) -> dict[str, str]:
        """Who computes."""
        server = self._api.known
        return {"address": str(self._address), "model": server.model, "engine": server.kind}

    @property
    def fault(self) -> str:
        """What was wrong at the last request; "" once one worked again, of ours or of a caller."""
        return self._api.fault

    def open(self, options: LlmOptions, _observer: Observer, /) -> Dialogue:
        """One conversation's dialogue; nothing is asked before its first `follow`."""
        return RemoteDialogue(self._api, options, self._slots)

    async def check(self) -> str:
        """Ask for one token, and say in a line who answers.

        Raises:
            StageError: nobody does.
        """
        server = await self._api.check()
        kind = f" by {server.kind}" if server.kind else ""
        context = f", {server.context} tokens of context" if server.context else ""
        return f"{server.model or 'a model'} at {self._address}{kind}{context}"

    async def close(self) -> None:
        """Close its connections."""
        await self._api.aclose()
