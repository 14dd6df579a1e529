from __future__ import annotations

import sys

import pytest

from textpro_stream.audio.devices import Device, Kind, choose
from textpro_stream.audio.portaudio import PortAudio
from textpro_stream.errors import DeviceError

DEVICES = [
    Device(0, "HDMI", 0, 2, 48_000),
    Device(1, "USB Headset", 1, 2, 44_100),
    Device(2, "USB Headset Pro", 2, 0, 48_000, frozenset({"microphone"})),
    Device(3, "Built-in", 2, 2, 48_000, frozenset({"loudspeaker"})),
]


@pytest.mark.parametrize(
    ("wanted", "kind", "index"),
    [
        ("", "microphone", 2),
        ("", "loudspeaker", 3),
        ("1", "microphone", 1),
        ("built", "microphone", 3),
        ("usb headset", "microphone", 1),  # a whole name wins over a part of another
        ("PRO", "microphone", 2),
        ("usb", "loudspeaker", 1),
        ("hdmi", "loudspeaker", 0),
    ],
)
def test_what_a_person_means(wanted: str, kind: Kind, index: int) -> None:
    assert choose(DEVICES, wanted, kind).index == index


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        ("hdmi", "microphone", "this machine has: 1 USB Headset, 2 USB Headset Pro, 3 Built-in"),
        ("7", "loudspeaker", "no loudspeaker '7'"),
        ("usb", "microphone", "may be any of: 1 USB Headset, 2 USB Headset Pro"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(wanted: str, kind: Kind, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        choose(DEVICES, wanted, kind)


def test_a_machine_without_a_default_takes_the_first() -> None:
    assert choose(DEVICES[:2], "", "loudspeaker").index == 0
    with pytest.raises(DeviceError, match="no microphone on this machine"):
        choose(DEVICES[:1], "", "microphone")


class Flags:
    input_overflow = False


class Entries:
    """What PortAudio knows, and streams that can be refused."""

    class PortAudioError(Exception):
        pass

    class default:  # as sounddevice spells it
        device = (0, -1)

    refuses_mono = True
    refuses_all = False
    opened: list[dict[str, object]]

    def query_devices(self) -> list[dict[str, object]]:
        return [
            {
                "name": "Bare Card",
                "max_input_channels": 4,
                "max_output_channels": 8,
                "default_samplerate": 44_100.0,
            }
        ]

    def stream(self, **options: object) -> object:
        if self.refuses_all or (self.refuses_mono and options["channels"] == 1):
            raise self.PortAudioError("Invalid number of channels\n[PaErrorCode -9998]")
        self.opened.append(options)
        return type("Open", (), {"start": lambda self: None, "latency": 0.04})()

    InputStream = OutputStream = property(lambda self: self.stream)


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> Entries:
    entries = Entries()
    entries.opened = []
    monkeypatch.setitem(sys.modules, "sounddevice", entries)
    return entries


def test_portaudio_lists_and_opens_devices(sounddevice: Entries) -> None:
    import numpy as np

    audio = PortAudio()
    (device,) = audio.devices()
    assert device == Device(0, "Bare Card", 4, 8, 44_100, frozenset({"microphone"}))
    heard: list[tuple[np.ndarray, bool]] = []
    stream = audio.capture(
        device, lambda samples, lost: heard.append((samples, lost)), lambda: None
    )
    assert stream.latency_s == 0.04
    assert (sounddevice.opened[0]["channels"], sounddevice.opened[0]["samplerate"]) == (4, 44_100)
    receive = sounddevice.opened[0]["callback"]
    assert callable(receive)
    receive(np.array([[1, 0, 0, 0], [0, 1, 1, 0]], np.float32), 2, None, Flags())
    assert heard[0][0] == pytest.approx([0.25, 0.5])
    audio.play(device, lambda block: block.fill(0.5))
    assert sounddevice.opened[1]["channels"] == 2
    fill, block = sounddevice.opened[1]["callback"], np.ones((3, 2), np.float32)
    assert callable(fill)
    fill(block, 3, None, Flags())
    assert np.array_equal(block, np.full((3, 2), 0.5))


def test_a_device_that_cannot_be_opened_is_one_line(sounddevice: Entries) -> None:
    sounddevice.refuses_all = True
    audio = PortAudio()
    with pytest.raises(DeviceError, match="Bare Card: cannot be opened") as caught:
        audio.play(audio.devices()[0], lambda block: None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
        (ImportError("No module named sounddevice"), "pip install sounddevice"),
    ],
)
def test_what_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, fix: str
) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(DeviceError, match=fix):
        PortAudio()


def test_nothing_of_it_is_loaded_before_it_is_needed() -> None:
    import subprocess

    script = (
        "import sys, textpro_stream.audio.microphone, textpro_stream.audio.speaker,"
        " textpro_stream.audio.portaudio; print('sounddevice' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout.strip() == b"False"
