"""What all sessions of a server share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textpro_stream.config import ServerOptions
from textpro_stream.ports import OpenTalk
from textpro_stream.server.hub import Hub
from textpro_stream.server.metrics import Metrics

if TYPE_CHECKING:
    from textpro_stream.pipeline import Engine


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What all sessions of a server share."""

    engine: Engine
    options: ServerOptions
    open_conversation: OpenTalk  # as Engine.open
    hub: Hub
    metrics: Metrics
    draining: asyncio.Event  # the server has been told to stop
