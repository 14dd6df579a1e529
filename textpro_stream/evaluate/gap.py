"""What does it cost to speak a question instead of typing it?

    textpro eval gap                           our own 36 questions, read out by three voices
    textpro eval gap QUESTIONS.jsonl --limit 50 --report gap.html

Each question is asked as text; spoken, through a conversation (its very prompt: words, tone, and
whatever a cut turn leaves); and spoken, record-then-run: Whisper as published over the whole clip,
then the LLM. What the conversation heard is asked as text once more: the part of the gap that it
explains is due to words, the rest to how they enter the LLM. Where nobody recorded a question our
voices read it out, which is told apart. Formats and figures: docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.answers import Answer, Judge
from textpro_stream.evaluate.gap_figures import Asked, Column, Gap, draw, figures, lines
from textpro_stream.evaluate.manifest import comma_separated, spread
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.evaluate.overheard import PromptEngine, overhear
from textpro_stream.evaluate.questions import (
    OURS,
    RECORDED,
    VOICES,
    Question,
    Spoken,
    read_questions,
    speak_all,
)
from textpro_stream.evaluate.ways import as_published, recognize
from textpro_stream.llm.fusion import Row
from textpro_stream.llm.local import LocalEngine
from textpro_stream.pipeline import Engine
from textpro_stream.whisper import WhisperPro

_TOLD_EVERY = 10  # questions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval gap`."""
    parser.add_argument(
        "manifest",
        type=Path,
        nargs="?",
        default=OURS,
        metavar="MANIFEST",
        help="JSONL: id, question, options, answer; or a folder of VoiceBench; default: our own",
    )
    parser.add_argument("--limit", type=int, default=0, help="so many questions, spread evenly")
    parser.add_argument(
        "--voices", default=",".join(VOICES), help="espeak voices for what nobody recorded"
    )
    parser.add_argument("--tokens", type=int, default=16, help="of a reply, to compare")
    parser.add_argument("--json", type=Path, help="write the figures here, as one line")
    parser.add_argument("--report", type=Path, help="write a page with plots here")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0."""
    if settings.llm.is_remote:
        raise ConfigError("eval gap needs likelihoods, so an LLM in this process: leave --llm out")
    if args.tokens < 1:
        raise ConfigError(f"--tokens {args.tokens}: at least one has to be compared")
    voices = sorted(comma_separated(args.voices))
    questions = spread(read_questions(args.manifest), args.limit)
    if not voices and any(question.audio is None for question in questions):
        raise ConfigError("--voices is empty, and some questions have no audio; name a voice")
    threads = settings.device.threads or 1
    settings = replace(
        settings,
        device=replace(settings.device, threads=threads),
        turn=replace(settings.turn, barge_in=False, push_to_talk=False),  # a file has no listener
    )
    asked = asyncio.run(ask_all(questions, voices, settings, n_tokens=args.tokens))
    gaps = [
        Gap(name, some)
        for name, some in (
            (RECORDED, [one for one in asked if one.voice == RECORDED]),
            ("synthetic", [one for one in asked if one.voice != RECORDED]),
        )
        if some
    ]
    for gap in gaps:
        print("\n".join(lines(gap, args.tokens)))
    if args.json:
        told = {"manifest": args.manifest.name, "llm": settings.llm.model, "tokens": args.tokens}
        told |= {"whisper": settings.whisper.model, "block_ms": settings.whisper.block_ms}
        args.json.write_text(json.dumps(told | {g.name: figures(g) for g in gaps}) + os.linesep)
    if args.report:
        args.report.write_text(draw(gaps, args.tokens), encoding="utf-8")
    return 0


async def ask_all(
    questions: Sequence[Question], voices: Sequence[str], settings: Settings, *, n_tokens: int
) -> list[Asked]:
    """Every question in every voice, or as it was recorded.

    Raises:
        ConfigError, WeightsError: one line says what to do.
    """
    silent = [question for question in questions if question.audio is None]
    spoken = await speak_all(silent, settings.speech, voices)
    published = as_published(settings)
    asked: list[Asked] = []
    async with await Engine.load(settings, speech=False) as engine:
        assert isinstance(engine.llm, LocalEngine)
        engine.llm = PromptEngine(engine.llm.model, engine.llm.device)
        judge = Judge(engine.llm.model, n_tokens)
        for i, question in enumerate(questions, 1):
            asker = Asker(question, engine, published, judge)
            clips = spoken.get(question.id) or [_recorded(question)]
            asked += [await asker.ask(clip) for clip in clips]
            if i % _TOLD_EVERY == 0 or i == len(questions):
                print(f"{i} of {len(questions)} questions asked", flush=True)
    return asked


def _recorded(question: Question) -> Spoken:
    assert question.audio is not None
    return Spoken(question, RECORDED, read_audio(question.audio))


class Asker:
    """Asks one question in several voices; what is heard alike is judged once."""

    def __init__(
        self, question: Question, engine: Engine, published: WhisperPro, judge: Judge
    ) -> None:
        self._question, self._engine = question, engine
        self._published, self._judge = published, judge
        self._text = judge.prompt(question.text)
        self._expected = judge.reply(self._text)
        self._known: dict[tuple[Row, ...], Answer] = {}

    async def ask(self, clip: Spoken) -> Asked:
        """All columns for one voice."""
        heard = await overhear(self._engine, clip.samples)
        offline = recognize(self._published, clip.samples, offline=True).text
        typed = self._judge.prompt(heard.text)
        answers: dict[Column, Answer] = {
            "text": self._answer(self._text),
            "streamed": self._answer(heard.prompt or typed),  # nothing heard: nothing was asked
            "record-then-run": self._answer(self._judge.prompt(offline)),
            "heard as text": self._answer(typed),
        }
        return Asked(self._question, clip.voice, answers, heard.text, offline, heard.turns)

    def _answer(self, prompt: tuple[Row, ...]) -> Answer:
        if prompt not in self._known:
            self._known[prompt] = self._judge.answer(prompt, self._question.options, self._expected)
        return self._known[prompt]
