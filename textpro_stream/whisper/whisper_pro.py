"""One Whisper as all conversations share it: model, vocabulary, slots and the rules that fit."""

from __future__ import annotations

from pathlib import Path

import torch

from textpro_stream.config import WhisperOptions
from textpro_stream.linear import Vocabulary
from textpro_stream.ports import Observer
from textpro_stream.telemetry.trace import Unobserved
from textpro_stream.whisper.cache import Pool
from textpro_stream.whisper.decoding import GreedyDecoder
from textpro_stream.whisper.mel import mel_filters
from textpro_stream.whisper.offline import Offline
from textpro_stream.whisper.policy import Policy
from textpro_stream.whisper.recognizer import Recognizer
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.vector import Vector
from textpro_stream.whisper.weights import load_weights


class WhisperPro:
    """Model, vocabulary and slots.

    Args:
        folder: Hugging Face layout.
        options: of the model, and of recognizers that are opened without a policy of their own.
        device: where it computes.

    Raises:
        WeightsError: the folder does not hold a Whisper.
        ConfigError: options that do not fit each other.
    """

    def __init__(self, folder: Path, options: WhisperOptions, device: torch.device) -> None:
        dtype: str = options.dtype
        if dtype == "auto":
            dtype = "int8" if device.type == "cpu" else "float32"
        self.model = load_weights(folder, dtype, device, options.adapter)
        adapted = self.model.whole_encoder is not self.model.encoder
        self.policy = Policy.of(options, adapted=adapted)
        dims = self.model.dims
        # On the CPU the vocabulary is a third of a pass in float32 and a thirtieth in int8.
        vocabulary = Vocabulary(self.model.decoder.embedding, int8=device.type == "cpu")
        self.model.vocabulary = vocabulary
        self.tokens = Tokens(folder, dims.n_vocabulary)
        self.vector = Vector.of(options.prosody, folder, dims)
        self.decoder = GreedyDecoder(self.model, self.tokens, self.vector)
        self.filters = mel_filters(dims.n_mels).to(device)
        self.pool = Pool(dims, self.model.dtype, device, layers=self.vector.layers)

    @classmethod
    def load(cls, folder: Path, options: WhisperOptions, device: torch.device) -> WhisperPro:
        """Read a model folder."""
        return cls(folder, options, device)

    @property
    def d_prosody(self) -> int:
        """Width of a token's prosody vector."""
        return self.vector.width(self.model.dims)

    @property
    def fingerprint(self) -> str:
        """Whose vectors these are.

        An adapter does not count: a readout that was trained without it reads on, and nearly as
        well as one trained with it (docs/notes/0013-prosody-vector.md).
        """
        return f"{self.model.base} {self.vector}"

    def open(
        self,
        start: int = 0,
        observer: Observer | None = None,
        *,
        policy: Policy | None = None,
    ) -> Recognizer:
        """A recognizer for one turn.

        Args:
            start: sample index of the first sample that it will be given.
            observer: told when the encoder and the decoder are busy.
            policy: other rules than those of the options: `Policy.of`, or a policy's `replace`.
        """
        return Recognizer(self, policy or self.policy, start, observer or Unobserved())

    def offline(self, observer: Observer | None = None) -> Offline:
        """The model as its makers run it: whole windows, no guards, through the same modules."""
        return Offline(self, observer or Unobserved())
