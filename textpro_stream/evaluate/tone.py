"""Does the answer hear the tone? One LLM told the true tone, another clip's, and words only.

    textpro eval tone MANIFEST --split dev --report tone.html

JSONL: id, audio, speaker, emotion, and where known source and split. Each clip is heard
once through the streaming recogniser; its words and how they sounded become a turn. "How do I
sound?" should be answered by the label, "What did I just say?" as if nobody had heard how, and a
neutral turn as well. Corpora and splits stand apart. The readout must not have been trained on the
speakers: train one without them, and give it by --set prosody.readout=FILE.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textpro_stream import store
from textpro_stream.config import Settings
from textpro_stream.contracts import ToneReading, has_words
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import heard_with, load_hearing, tell_progress
from textpro_stream.evaluate.manifest import comma_separated, spread
from textpro_stream.evaluate.prosody import reading_of
from textpro_stream.evaluate.said import PLAIN, Said, hear, read_labelled
from textpro_stream.evaluate.tone_answers import OTHERS, Answers
from textpro_stream.evaluate.tone_figures import COLUMNS, WORDS, Answered, figures
from textpro_stream.evaluate.tone_page import Parts, draw_page, table
from textpro_stream.prosody.tone import ToneHead, find_tone

if TYPE_CHECKING:
    from textpro_stream.llm import LanguageModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval tone`."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSONL list of clips")
    parser.add_argument("--split", default="", help="only these, comma-separated")
    parser.add_argument(
        "--plain", type=int, default=0, help="clips without an emotion: what does tone change?"
    )
    parser.add_argument("--limit", type=int, default=0, help="so many clips, spread evenly")
    parser.add_argument("--cache", type=Path, help="file (.npz) that keeps what was heard")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write a page (HTML)")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure; print a table and a line of JSON; 0."""
    found = read_labelled(args.manifest, comma_separated(args.split), plain=args.plain)
    clips = spread(found, args.limit)
    if settings.llm.is_remote:
        raise ConfigError("eval tone compares probabilities: give an LLM in this process, --llm")
    whisper, _ = load_hearing(settings)
    head = find_tone(settings.prosody.readout, whisper.fingerprint)
    if head is None:
        raise ConfigError(
            f"no readout is shipped for {settings.whisper.model}; train one: textpro train tone"
        )
    said = hear(clips, whisper, name=heard_with(settings, whisper), cache=args.cache)
    words = [whisper.tokens.text(one.ids) for one in said]
    model = load_llm(settings)
    parts = measure(said, words, head, model)
    about = (
        f"{settings.llm.model} in {model.dtype}, {settings.whisper.model}, readout"
        f" {settings.prosody.readout}; {len(clips)} clips of {args.manifest.name}."
    )
    print(f"{about}\n\n{table(parts)}")
    told = {
        part: {f.name: dict(zip(COLUMNS, map(asdict, f.columns), strict=True)) for f in some}
        for part, some in parts.items()
    }
    print("\n" + json.dumps({"about": about, "parts": told}))
    if args.report:
        args.report.write_text(draw_page(parts, about), encoding="utf-8")
    return 0


def load_llm(settings: Settings) -> LanguageModel:
    """The LLM of some options, told of tone in words."""
    from textpro_stream.llm import LanguageModel
    from textpro_stream.runtime.hardware import torch_device

    folder = store.resolve(settings.llm.model, "llm")
    options = replace(settings.llm, fusion="tags", projector="")
    return LanguageModel.load(folder, options, torch_device(settings.device))


def measure(
    said: Sequence[Said], words: Sequence[str], head: ToneHead, model: LanguageModel
) -> Parts:
    """Figures by corpus and split; clips in which no words were heard are left out.

    Args:
        said: the clips as they were heard.
        words: of each.
        head: what reads their tone.
        model: what answers.

    Raises:
        ConfigError: no words were heard in any clip.
    """
    import torch

    parts: dict[str, list[int]] = {}
    for i, (one, text) in enumerate(zip(said, words, strict=True)):
        if len(one.states) and has_words(text):
            clip = one.clip
            named = ", ".join(filter(None, (clip.corpus, clip.split)))
            parts.setdefault(named if clip.emotion != PLAIN else "plain speech", []).append(i)
    if not parts:
        raise ConfigError("no words were heard in any clip")
    answers = Answers(model, tuple(dict.fromkeys(WORDS[label] for label in sorted(WORDS))))
    found = {}
    with torch.inference_mode():
        for name, members in parts.items():
            tones = [reading_of(head, said[i]) for i in members]
            answered = []
            for n, (i, own, other) in enumerate(zip(members, tones, shuffled(tones), strict=True)):
                others = [words[k] for k in members[n + 1 :] + members[:n] if words[k] != words[i]]
                told = tuple(answers.to(words[i], (own, other, None), others[:OTHERS]))
                answered.append(Answered(said[i].clip.emotion, said[i].clip.speaker, told))
                tell_progress(n + 1, len(members), "turns answered")
            found[name] = figures(answered)
    return found


def shuffled(tones: Sequence[ToneReading], seed: int = 0) -> list[ToneReading]:
    """To each clip another one's tone; a single one keeps its own."""
    order = np.random.default_rng(seed).permutation(len(tones))
    found = list(tones)
    for to, source in zip(order, np.roll(order, 1), strict=True):
        found[to] = tones[source]
    return found
