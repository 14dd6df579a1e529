"""Piper voices from a local folder. Runs in the worker process only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textpro_stream.errors import ConfigError
from textpro_stream.files import expanded

NATURAL_WPM = 165  # what Piper's voices speak by themselves, about


class Piper:
    """One Piper voice.

    Piper gives no word marks, so positions inside a clause are spread evenly over its time.

    Args:
        voice: the voice's `.onnx` file, with its `.onnx.json` beside it, or a folder with one.

    Raises:
        ConfigError: piper-tts is not installed, or there is no such voice.
    """

    def __init__(self, voice: str) -> None:
        model = _find(expanded(voice))
        try:
            from piper import PiperVoice, SynthesisConfig
        except ImportError:
            raise ConfigError(
                "Piper is not installed: pip install piper-tts, or use speech.engine espeak"
            ) from None
        try:
            self._voice = PiperVoice.load(model)
        except Exception as error:  # onnxruntime and json raise what they like
            raise ConfigError(f"{model}: no Piper voice ({error}); download it again") from None
        self._configure = SynthesisConfig
        self.rate_hz: int = self._voice.config.sample_rate

    def speak(
        self,
        text: str,
        pause: bool,
        rate_wpm: int,
        audio: Callable[[bytes], bool],
        word: Callable[[int, int], None],
    ) -> None:
        """Say a text; see `engine.Engine`. Stops between sentences."""
        config = self._configure(length_scale=NATURAL_WPM / rate_wpm)
        for chunk in self._voice.synthesize(text, config):
            if not audio(chunk.audio_int16_bytes):
                return


def _find(path: Path) -> Path:
    models = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if len(models) > 1:
        raise ConfigError(f"{path}: holds {len(models)} voices; name one .onnx file")
    if not models or not models[0].is_file():
        raise ConfigError(
            f"{path}: no Piper voice; set speech.voice to an .onnx file or its folder"
        )
    config = models[0].with_name(models[0].name + ".json")
    if not config.is_file():
        raise ConfigError(f"{config}: missing; it belongs beside the voice")
    return models[0]
