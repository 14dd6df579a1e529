"""What the tests of whole conversations start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted import Script
from stand import Stand

from textpro_stream.runtime.device import DeviceThread


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    thread = DeviceThread("test device")
    yield thread
    thread.close()


@pytest.fixture
def stand(device: DeviceThread) -> Stand:
    """A question of three words within the second after 0.5 s."""
    return Stand(device, Script([(" What", 0.8), (" time", 1.1), (" is it?", 1.4)]))
