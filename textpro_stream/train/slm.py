"""The projector: an LLM reads how something was said from rows among the words.

    textpro train slm --manifest acted.jsonl --out runs/slm

Two stages. First the projector alone, seconds: a row shall point at the embeddings of the words
that are true of a clip. Then, with low-rank adapters in the LLM, replies: to be those to the words
with the tone told in words, or, where there is none to tell, those to the words alone; --steps 0
leaves this out. Gives `projector.safetensors`, for `[llm] projector`, and `report.md`: what it
is worth on speakers it has not heard, beside words alone and tags. A projector that does not pass
that gate, or tells no more than tags do, is no default.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from textpro_stream import store
from textpro_stream.checkpoint import Checkpoint
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import heard_with, load_hearing
from textpro_stream.evaluate.manifest import comma_separated, spread
from textpro_stream.evaluate.said import PLAIN, Said, hear, read_labelled
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.adapter import llm_fingerprint, save_trained
from textpro_stream.llm.fusion import FusionSpec
from textpro_stream.llm.session import LlamaBackbone
from textpro_stream.lora import lora_tensors
from textpro_stream.prosody.tone import ToneHead
from textpro_stream.runtime.hardware import torch_device
from textpro_stream.train.data import hold_out
from textpro_stream.train.loop import Run, Schedule
from textpro_stream.train.slm_gate import measure
from textpro_stream.train.tone import train as train_readout
from textpro_stream.train.tone_distillation import ToneDistillation, Weighing, adapted
from textpro_stream.train.utterances import LABELS, Utterance, utterances
from textpro_stream.train.warm_start import Rows, WarmStart, Words
from textpro_stream.whisper import WhisperPro

FILE, REPORT = "projector.safetensors", "report.md"
SPEC = FusionSpec("interleave")
HELD_OUT = 0.15  # of speakers, beside those that are named
LOOKED_AT = 12  # held-out clips at each look of the second stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro train slm`."""
    parser.add_argument(
        "--manifest", type=Path, required=True, help="JSONL: id, audio, speaker, emotion"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--split", default="", help="what is used; empty: everything")
    parser.add_argument(
        "--plain", type=int, default=200, help="clips without an emotion, taken for neutral"
    )
    parser.add_argument(
        "--held-out", default="", help="speakers to measure on, comma-separated, beside one in 7"
    )
    parser.add_argument("--warm-steps", type=int, default=400, help="of the projector alone")
    parser.add_argument("--warm-rate", type=float, default=1e-3, help="highest learning rate there")
    parser.add_argument("--steps", type=int, default=300, help="with the LLM; 0: none")
    parser.add_argument("--rate", type=float, default=5e-4, help="the highest learning rate there")
    parser.add_argument("--rank", type=int, default=8, help="of the adapters")
    parser.add_argument("--accumulate", type=int, default=8, help="clips a step, with the LLM")
    parser.add_argument("--answer", type=float, default=1.0, help="weight: true answer")
    parser.add_argument("--anchor", type=float, default=0.5, help="weight: first stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--evaluate-every", type=int, default=50, help="steps between two looks at what is held out"
    )
    parser.add_argument(
        "--measured", type=int, default=0, help="held-out clips of the gate; 0: all of them"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Train; 0."""
    if settings.llm.is_remote:
        raise ConfigError("train slm needs an LLM in this process: give one by --llm")
    clips = read_labelled(
        args.manifest, comma_separated(args.split), plain=args.plain, labels=LABELS
    )
    train, held_out = hold_out(clips, HELD_OUT, comma_separated(args.held_out))
    for name, some in (("to train on", train), ("held out", held_out)):
        if len({clip.emotion for clip in some} - {PLAIN}) < 2:
            raise ConfigError(
                f"{args.manifest}: fewer than two emotions {name}; give more speakers, or name"
                " some in --held-out"
            )
    whisper, _ = load_hearing(settings)
    cache = args.out / "heard.npz"
    heard = hear(clips, whisper, name=heard_with(settings, whisper), cache=cache)
    ids = {clip.id for clip in held_out}
    taught = [one for one in heard if one.clip.id not in ids]
    # What the tags are told from, of the same speakers; what is wrong with them is told first
    readout = ToneHead(train_readout([taught], 0.01, whisper.fingerprint)[0])
    made = Training.of(args, settings, whisper, taught, [o for o in heard if o.clip.id in ids])
    path = made.train()
    report = made.report(path, readout)
    (args.out / REPORT).write_text(report, encoding="utf-8")
    print(report)
    print(path)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """Both stages on one LLM and one recogniser."""

    args: argparse.Namespace
    llm: LanguageModel  # as it is, float32
    folder: Path  # of it
    whisper: WhisperPro
    taught: Sequence[Utterance]
    held_out: Sequence[Utterance]

    @staticmethod
    def of(
        args: argparse.Namespace,
        settings: Settings,
        whisper: WhisperPro,
        taught: Sequence[Said],
        held_out: Sequence[Said],
    ) -> Training:
        """Load the LLM, and arrange what was heard for it.

        Raises:
            ConfigError: an LLM that our own step does not run, or no words in what was heard.
        """
        folder = store.resolve(settings.llm.model, "llm")
        options = replace(settings.llm, fusion="text", projector="", dtype="float32")
        llm = LanguageModel.load(folder, options, torch_device(settings.device))
        if not isinstance(llm.backbone, LlamaBackbone):
            raise ConfigError("train slm wants a Llama, Qwen2 or Mistral: give one by --llm")
        sides = [
            utterances(some, whisper.tokens, llm.chat.encode, SPEC) for some in (taught, held_out)
        ]
        if not all(sides):
            raise ConfigError(f"{args.manifest}: no words were heard in what is used")
        return Training(args, llm, folder, whisper, *sides)

    def train(self) -> Path:
        """Go through both stages, or on with them.

        Returns:
            The file of the projector.
        """
        args, backbone = self.args, self.llm.backbone
        assert isinstance(backbone, LlamaBackbone)
        model = backbone.model
        words = Words(model.embedding, self.llm.chat.encode)
        every = torch.cat([one.pooled for one in self.taught])
        rows = Rows(every, model.dims.d_model, args.seed).to(model.device)
        objective = WarmStart(
            rows, words, self.taught, self.held_out, lambda folder: self._save(folder, rows, {})
        )
        self._run(objective, "rows", args.warm_steps, args.warm_rate, 1, every=100)
        student = adapted(model, args.rank, args.seed)
        if args.steps:
            self._run(
                ToneDistillation(
                    self.llm,
                    student,
                    rows,
                    words,
                    SPEC,
                    train=self.taught,
                    held_out=spread(self.held_out, LOOKED_AT),
                    weighing=Weighing(args.answer, args.anchor),
                    save=lambda folder: self._save(folder, rows, lora_tensors(student)),
                ),
                "replies",
                args.steps,
                args.rate,
                args.accumulate,
                every=args.evaluate_every,
            )
        return self._save(args.out, rows, lora_tensors(student) if args.steps else {})

    def report(self, path: Path, readout: ToneHead) -> str:
        """The gate of a projector's file, loaded as a conversation loads it."""
        options = replace(self.llm.options, fusion="auto", projector=str(path))
        trained = LanguageModel.load(
            self.folder,
            options,
            self.llm.device,
            d_prosody=self.whisper.d_prosody,
            recogniser=self.whisper.fingerprint,
        )
        some = spread(self.held_out, self.args.measured)
        gate = measure(self.llm, trained, readout, some)
        speakers = len({one.said.clip.speaker for one in some})
        return (
            f"{self.folder.name} in float32; {len(self.taught)} clips to train on, {len(some)} held"
            f" out, of {speakers} speakers; {self.args.warm_steps} steps of the projector,"
            f" {self.args.steps} with the LLM. In brackets 95 % when clips are drawn anew.\n\n"
            f"{gate}\n"
        )

    def _run(
        self,
        objective: WarmStart | ToneDistillation,
        name: str,
        steps: int,
        rate: float,
        accumulate: int,
        *,
        every: int,
    ) -> None:
        args = self.args
        schedule = Schedule(
            steps, accumulate, rate, weight_decay=0.0, evaluate_every=every, seed=args.seed
        )
        facts: dict[str, object] = {
            "manifest": args.manifest.name,
            "clips": len(self.taught) + len(self.held_out),
            "held_out": sorted({one.said.clip.speaker for one in self.held_out}),
            "llm": self.folder.name,
        }
        if isinstance(objective, ToneDistillation):
            first = {"warm_steps": args.warm_steps, "warm_rate": args.warm_rate}
            facts |= {**first, "rank": args.rank, "answer": args.answer, "anchor": args.anchor}
        training: Run[object] = Run(
            objective,  # type: ignore[arg-type]  # each stage has examples of its own
            schedule,
            args.out / name,
            facts=facts,
            tell=lambda line: print(f"{name}: {line}", flush=True),
        )
        training.train()

    def _save(self, folder: Path, rows: Rows, lora: Mapping[str, Tensor]) -> Path:
        settings = {
            "fusion": SPEC.kind,
            "group": str(SPEC.group),
            "groups_before": str(SPEC.groups_before),
            "marker_mode": SPEC.marker_mode,
        }
        path = folder / FILE
        save_trained(
            path,
            rows.folded(),
            lora,
            settings=settings,
            llm=llm_fingerprint(Checkpoint(self.folder)),
            recogniser=self.whisper.fingerprint,
            vector=str(self.whisper.vector),
        )
        return path
