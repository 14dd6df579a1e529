"""espeak-ng by ctypes. Runs in the worker process only.

The library and its data come with the package espeakng-loader, or from the system. Names and
numbers are those of espeak-ng's `speak_lib.h`, 1.52.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

from textpro_stream.errors import ConfigError

BUFFER_MS = 60  # of audio per callback

# speak_lib.h
SYNCHRONOUS = 2  # espeak_Synth returns when all audio went through the callback
DONT_EXIT = 0x8000  # missing data is an error code, not the end of the process
RATE_PARAMETER = 1
UTF8 = 0x01
END_PAUSE = 0x1000
BY_CHARACTER = 1
EVENT_END, EVENT_WORD = 0, 1


class Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class VoiceSpec(ctypes.Structure):
    """`espeak_VOICE`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


class Espeak:
    """The synthesiser, with one voice.

    Args:
        voice: a language and, behind a `+`, a variant: `en-us`, `de`, `en-gb+f3`.

    Raises:
        ConfigError: espeak-ng is not there, or has no such voice.
    """

    def __init__(self, voice: str) -> None:
        self._library, data = _load()
        self._data = data
        path = data.encode() if data else None
        self.rate_hz: int = self._library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, path, DONT_EXIT)
        if self.rate_hz <= 0:
            raise ConfigError("espeak-ng finds no data; reinstall it: pip install espeakng-loader")
        self._choose(voice)
        self._callback = Callback(self._receive)  # kept: the library holds a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)
        self._audio: Callable[[bytes], bool] = bool
        self._word: Callable[[int, int], None] = lambda sample, character: None

    def speak(
        self,
        text: str,
        pause: bool,
        rate_wpm: int,
        audio: Callable[[bytes], bool],
        word: Callable[[int, int], None],
    ) -> None:
        """Say a text; see `engine.Engine`."""
        self._audio, self._word = audio, word
        self._library.espeak_SetParameter(RATE_PARAMETER, rate_wpm, 0)
        data = text.encode() + b"\0"
        flags = UTF8 | (END_PAUSE if pause else 0)
        result = self._library.espeak_Synth(data, len(data), 0, BY_CHARACTER, 0, flags, None, None)
        if result != 0:
            raise RuntimeError(f"espeak-ng gave up with code {result}")

    def _receive(self, samples: Any, n_samples: int, events: Any) -> int:
        """Take a buffer from the library; 1 stops it."""
        go_on = True
        if samples and n_samples:
            go_on = self._audio(ctypes.string_at(samples, 2 * n_samples))
        index = 0
        while events[index].type != EVENT_END:
            if events[index].type == EVENT_WORD:
                self._word(events[index].sample, events[index].text_position - 1)
            index += 1
        return 0 if go_on else 1

    def _choose(self, voice: str) -> None:
        """By name, else by language, as espeak-ng's own command does."""
        language, _, variant = voice.partition("+")
        variants = os.path.join(self._data, "voices", "!v")
        if variant and os.path.isdir(variants) and variant not in os.listdir(variants):
            raise ConfigError(
                f"espeak-ng has no voice variant {variant!r}; one that it has: benjamin"
            )
        if self._set(voice):
            return
        spec = VoiceSpec(languages=language.encode())
        if self._library.espeak_SetVoiceByProperties(ctypes.byref(spec)) == 0:
            self._library.espeak_GetCurrentVoice.restype = ctypes.POINTER(VoiceSpec)
            found = self._library.espeak_GetCurrentVoice().contents.identifier.decode()
            if self._set(f"{found}+{variant}" if variant else found):
                return
        raise ConfigError(
            f"espeak-ng has no voice {voice!r}; give a language such as en-us, en-gb, de or fr"
        )

    def _set(self, name: str) -> bool:
        return bool(self._library.espeak_SetVoiceByName(name.encode()) == 0)


def _load() -> tuple[ctypes.CDLL, str]:
    """The library and the folder of its data ("" for the system's own)."""
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path())
    except (ImportError, OSError, RuntimeError):
        try:
            library, data = ctypes.CDLL("libespeak-ng.so.1"), ""
        except OSError:
            raise ConfigError(
                "espeak-ng is not installed: pip install espeakng-loader, or reply in text only"
                " with speech.engine none"
            ) from None
    library.espeak_Synth.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    return library, data
