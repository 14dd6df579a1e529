"""The machine's own audio devices, by sounddevice and PortAudio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from textpro_stream.audio.devices import BLOCK_MS, Capture, Device, Kind, Playback
from textpro_stream.errors import DeviceError

if TYPE_CHECKING:
    from textpro_stream.ports import AudioStream


class PortAudio:
    """The door of `devices` on a real machine.

    Raises:
        DeviceError: the PortAudio library is not there; one line says how to get it.
    """

    def __init__(self) -> None:
        self._library = _load()

    def devices(self) -> Sequence[Device]:
        """All devices, in PortAudio's order."""
        inputs, outputs = self._library.default.device
        found = []
        for index, entry in enumerate(self._library.query_devices()):
            default: set[Kind] = set()
            if index == inputs:
                default.add("microphone")
            if index == outputs:
                default.add("loudspeaker")
            found.append(
                Device(
                    index,
                    entry["name"],
                    entry["max_input_channels"],
                    entry["max_output_channels"],
                    round(entry["default_samplerate"]),
                    frozenset(default),
                )
            )
        return found

    def capture(self, device: Device, callback: Capture, ended: Callable[[], None]) -> AudioStream:
        """See `AudioBackend`. Several channels are averaged where one alone cannot be had."""

        def receive(block: Any, n: int, times: Any, status: Any) -> None:
            callback(block.mean(axis=1, dtype=np.float32), bool(status.input_overflow))

        def start(n_channels: int) -> AudioStream:
            return self._start(
                self._library.InputStream, device, n_channels, receive, finished_callback=ended
            )

        return _one_channel_or_all(start, device.n_inputs, device, self._library)

    def play(self, device: Device, callback: Playback) -> AudioStream:
        """See `AudioBackend`. All channels get the same."""

        def fill(block: Any, n: int, times: Any, status: Any) -> None:
            mono = np.zeros(n, np.float32)
            callback(mono)
            block[:] = mono[:, None]

        def start(n_channels: int) -> AudioStream:
            return self._start(self._library.OutputStream, device, n_channels, fill)

        return _one_channel_or_all(start, min(device.n_outputs, 2), device, self._library)

    def _start(
        self, kind: Any, device: Device, n_channels: int, callback: Any, **more: Any
    ) -> AudioStream:
        stream = kind(
            device=device.index,
            samplerate=device.rate_hz,
            channels=n_channels,
            dtype="float32",
            blocksize=device.rate_hz * BLOCK_MS // 1000,
            latency="low",
            callback=callback,
            **more,
        )
        stream.start()
        return _Open(stream)


class _Open:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def latency_s(self) -> float:
        return float(self._stream.latency)

    def close(self) -> None:
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


def _one_channel_or_all(
    start: Callable[[int], AudioStream], n_channels: int, device: Device, library: ModuleType
) -> AudioStream:
    try:
        try:
            return start(1)
        except library.PortAudioError:
            if n_channels == 1:
                raise
            return start(n_channels)  # bare hardware has as many as it has
    except library.PortAudioError as error:
        raise DeviceError(
            f"{device.name}: cannot be opened ({' '.join(str(error).split())}); choose another, or"
            " close the program that uses it",
            device=device.name,
        ) from error


def _load() -> ModuleType:
    try:
        import sounddevice
    except OSError:  # the package is there, the library it needs is not
        raise DeviceError(
            "microphone and loudspeaker need the PortAudio library: sudo apt install libportaudio2"
        ) from None
    except ImportError:
        raise DeviceError(
            "microphone and loudspeaker need a package: pip install sounddevice"
        ) from None
    return sounddevice  # type: ignore[no-any-return]  # it ships no types
