"""Any function as a step of the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textpro_stream.runtime.device import Lane, Step


@dataclass(frozen=True)
class _Hear(Step[Any]):
    function: Callable[[], Any]
    lane = Lane.HEAR

    def run(self) -> Any:
        return self.function()


@dataclass(frozen=True)
class _Prefill(_Hear):
    lane = Lane.PREFILL


@dataclass(frozen=True)
class _Decode(_Hear):
    lane = Lane.DECODE


KINDS = {Lane.HEAR: _Hear, Lane.PREFILL: _Prefill, Lane.DECODE: _Decode}


def call(lane: Lane, function: Callable[[], Any]) -> Step[Any]:
    return KINDS[lane](function)
