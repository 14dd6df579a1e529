"""The recogniser's encoder under its streaming mask, taught by itself offline.

    textpro train encoder --manifest speech.jsonl --out runs/encoder

Needs speech alone, no text. Gives `encoder.safetensors`, for `[whisper] adapter`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from textpro_stream import store
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import comma_separated, spread
from textpro_stream.runtime.hardware import torch_device
from textpro_stream.train.augment import Augmentation
from textpro_stream.train.data import Clip, as_float, hold_out, load_audio, read_clips
from textpro_stream.train.distillation import Distillation, EncoderDistillation
from textpro_stream.train.loop import Run, Schedule
from textpro_stream.train.teacher import hear
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.weights import load_weights

LOSSES = ("states", "tokens", "middle")
MEASURED = 48  # clips of those held out: more cost minutes at each look and move the means little


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro train encoder`."""
    parser.add_argument("--manifest", type=Path, required=True, help="JSONL: id, audio, speaker")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--noise", type=Path, help="JSONL of recorded noise: id, audio")
    parser.add_argument("--language", default="en", help="only clips of this one, or of none named")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--rate", type=float, default=4e-4, help="the highest learning rate")
    parser.add_argument("--accumulate", type=int, default=8, help="clips a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--evaluate-every", type=int, default=50, help="steps between two looks at what is held out"
    )
    parser.add_argument(
        "--augment",
        type=float,
        default=0.3,
        help="share of clips in another room or noise; 0: none",
    )
    parser.add_argument(
        "--losses",
        default="",
        help="weights for ablations, e.g. states=1,tokens=0,middle=0; the rest as shipped",
    )
    parser.add_argument(
        "--held-out", default="", help="speakers to measure on, comma-separated, beside one in 20"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Train; 0."""
    torch.set_num_threads(settings.device.threads or torch.get_num_threads())
    device = torch_device(settings.device)
    folder = store.resolve(settings.whisper.model, "whisper")
    clips = [c for c in read_clips(args.manifest) if c.language in ("", args.language)]
    if not clips:
        raise ConfigError(f"{args.manifest}: no clip in {args.language}; give --language")
    train, held_out = hold_out(clips, 0.05, comma_separated(args.held_out))
    if not train or not held_out:
        raise ConfigError(
            f"{args.manifest}: {len(train)} clips to train on, {len(held_out)} held out; give more"
            " speakers, or name some in --held-out"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    plain = replace(settings.whisper, adapter="", dtype="float32")
    teacher = WhisperPro.load(folder, plain, device)
    heard = hear(teacher, [*train, *held_out], args.out / "transcripts.json")
    ids = {clip.id for clip in held_out}
    objective = EncoderDistillation(
        teacher.model,
        load_weights(folder, "float32", device),
        filters=teacher.filters,
        prompt=teacher.tokens.prompt,
        train=[spoken for spoken in heard if spoken.clip.id not in ids],
        held_out=spread([spoken for spoken in heard if spoken.clip.id in ids], MEASURED),
        noises=[as_float(load_audio(clip)) for clip in read_clips(args.noise)]
        if args.noise
        else [],
        rank=args.rank,
        rules=_weighed(args.losses),
        augmentation=Augmentation().scaled(args.augment),
    )
    print(f"{_told(train)}; held out: {_told(held_out)}", flush=True)
    schedule = Schedule(
        steps=args.steps,
        accumulate=args.accumulate,
        rate=args.rate,
        seed=args.seed,
        evaluate_every=args.evaluate_every,
    )
    facts = {
        "manifest": args.manifest.name,
        "clips": len(clips),
        "rank": args.rank,
        "losses": args.losses,
        "augment": args.augment,
    }
    Run(
        objective, schedule, args.out, facts=facts, tell=lambda line: print(line, flush=True)
    ).train()
    print(f"{args.out / 'encoder.safetensors'}")
    return 0


def _weighed(told: str) -> Distillation:
    """The shipped rules with other weights of the losses."""
    weights: dict[str, float] = {}
    for part in filter(None, told.split(",")):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"--losses {part}: give NAME=NUMBER, e.g. states=1") from None
    if unknown := sorted(set(weights) - set(LOSSES)):
        raise ConfigError(f"--losses {unknown[0]}: give some of {', '.join(LOSSES)}")
    return Distillation(**weights)  # type: ignore[arg-type]  # names of numbers only


def _told(clips: list[Clip]) -> str:
    kinds = Counter(clip.kind or "speech" for clip in clips)
    speakers = len({clip.speaker for clip in clips})
    parts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    return f"{len(clips)} clips of {speakers} speaker{'s' * (speakers != 1)} ({parts})"
