"""Commands from the broker: understood or refused, then done.

Whoever may write to the broker may send anything, so each payload is checked before the hub hears
of it, and no deed, failed or endless, ends the obedience.
"""

from __future__ import annotations

import asyncio

from textpro_stream.errors import TextproError
from textpro_stream.ports import SessionHub
from textpro_stream.server.fields import Refused
from textpro_stream.server.mqtt.topics import OFF, ON

SAY_MAX = 500  # characters of text to be spoken
PAYLOAD_MAX = 4096  # bytes
COMMAND_S = 5.0  # a command that takes longer is given up
COMMANDS = ("say", "stop", "listen", "volume")
CODE = "command"  # of the error event that a complaint becomes


class Commands:
    """What the broker may ask of a hub."""

    def __init__(self, hub: SessionHub) -> None:
        self._hub = hub

    async def obey(self, name: str, payload: bytes) -> str:
        """Do it; the result is a complaint for whoever sent it, or nothing."""
        try:
            async with asyncio.timeout(COMMAND_S):
                await self._do(name, payload)
        except TextproError as error:
            return f"{name}: {error}"
        except TimeoutError:
            return f"{name}: given up after {COMMAND_S:.0f} s"
        except Exception as error:  # of whatever kind: the next command shall work
            return f"{name}: unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        return ""

    async def _do(self, name: str, payload: bytes) -> None:
        if name == "say":
            text = read_say(payload)
            if not len(self._hub):
                raise Refused(CODE, "nobody is connected who could hear it")
            await self._hub.say(text)
        elif name == "stop":  # by its coming alone
            await self._hub.stop()
        elif name == "listen":
            self._hub.listen(read_listen(payload))
        elif name == "volume":
            self._hub.volume(read_volume(payload))


def read_say(payload: bytes) -> str:
    """Text to be spoken.

    Raises:
        Refused: here and below, for a payload of another kind.
    """
    text = " ".join(_text(payload).split())
    if not text:
        raise Refused(CODE, "there is no text")
    if len(text) > SAY_MAX:
        raise Refused(CODE, f"{len(text)} characters, at most {SAY_MAX}")
    return text


def read_listen(payload: bytes) -> bool:
    """`ON` or `OFF`."""
    word = _text(payload).strip().upper()
    if word not in (ON, OFF):
        raise Refused(CODE, "send ON or OFF")
    return word == ON


def read_volume(payload: bytes) -> float:
    """0 to 100, as a gain from 0 to 1."""
    try:
        percent = float(_text(payload))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise Refused(CODE, "send a number from 0 to 100")
    return percent / 100


def _text(payload: bytes) -> str:
    if len(payload) > PAYLOAD_MAX:
        raise Refused(CODE, f"{len(payload)} bytes, at most {PAYLOAD_MAX}")
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Refused(CODE, "not UTF-8") from None
