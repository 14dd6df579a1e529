"""Does minute 10 cost what minute 1 costs?

    textpro eval steady FILE                    FILE over and over until --minutes are full

One recogniser hears it all, as in a turn that never ends: the hardest case for bounded work.
CPU seconds, encoder frames and decoder passes are printed for each minute.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import numpy as np
import torch

from textpro_stream import store
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.whisper import WhisperPro

CHUNK = 1600  # samples a push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval steady`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="speech; a minute or more is best")
    parser.add_argument("--minutes", type=int, default=10)


@torch.inference_mode()  # as the device thread of a conversation
def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0."""
    torch.set_num_threads(settings.device.threads or 1)
    clip = read_audio(args.file)
    minute = 60 * SAMPLE_RATE
    # Every minute hears the same audio, so that only its place in the stream differs.
    audio = np.resize(clip, minute)
    folder = store.resolve(settings.whisper.model, "whisper")
    recognizer = WhisperPro.load(folder, settings.whisper, torch.device("cpu")).open()
    clock = MonotonicClock()
    costs: list[float] = []
    print(
        "minute  CPU s per audio s  frames encoded  decoder passes  tokens  segments  peak RSS MB"
    )
    for index in range(args.minutes):
        work = recognizer.work
        before = (work.positions_final + work.positions_provisional, work.decoder_passes)
        tokens = work.tokens_committed
        began = clock.cpu()
        for at in range(0, minute, CHUNK):
            recognizer.push(AudioChunk(audio[at : at + CHUNK], index * minute + at))
        costs.append((clock.cpu() - began) / 60)
        frames = work.positions_final + work.positions_provisional - before[0]
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # the peak so far
        passes = work.decoder_passes - before[1]
        print(
            f"{index + 1:>6}  {costs[-1]:>17.3f}  {frames:>14}  {passes:>14}"
            f"  {work.tokens_committed - tokens:>6}  {work.segments:>8}  {rss:>11.0f}",
            flush=True,
        )
    print(f"last minute against the first: {costs[-1] / costs[0]:.2f}")
    return 0
