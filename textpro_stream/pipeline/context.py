"""What the parts of one conversation share."""

from __future__ import annotations

from dataclasses import dataclass

from textpro_stream.events import Failed, FailureCode
from textpro_stream.pipeline.audience import Audience
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.ports import Clock
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.runtime.health import Health
from textpro_stream.runtime.lateness import Lateness
from textpro_stream.telemetry.trace import Trace


@dataclass(frozen=True, slots=True)
class ConversationContext:
    """One conversation's surroundings."""

    device: DeviceThread  # where it listens
    outbox: Outbox  # where its events go
    audience: Audience  # who hears its replies
    health: Health  # of the models; shared by all conversations
    lateness: Lateness  # of hearing; likewise
    trace: Trace  # knows where the audio clock stands
    clock: Clock  # for marks and playback

    async def fail(self, turn: int, code: FailureCode, error: Exception) -> None:
        """Tell of a failure that costs a turn or a reply."""
        await self.outbox.put(Failed(turn, self.trace.position, code, str(error)))
