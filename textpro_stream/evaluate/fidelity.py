"""How far are the LLM's faster number formats from float32, and how fast?

    textpro eval fidelity PROMPTS              JSONL with a `question` a line

The float32 reply to each prompt is decoded greedily, then forced upon the other format: how often
would it have said another token, how far is its distribution (KL), what is the perplexity. Times
are CPU time of one thread, medians, for 200 rows of context.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal, get_args

import torch
from torch import Tensor

from textpro_stream import store
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import Entry, read_entries
from textpro_stream.llm import LanguageModel

Format = Literal["float32", "bfloat16", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)
ROWS = 200  # of context under which a step is timed


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt and what float32 says to it."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    logs: tuple[Tensor, ...]  # log-probabilities before each reply token, and behind the last


@dataclass(frozen=True, slots=True)
class Figures:
    """One format against float32."""

    tokens: int
    agreed: float  # share of greedy tokens
    kl: float  # nats a token
    perplexity: float  # of float32's greedy reply


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval fidelity`."""
    parser.add_argument("prompts", type=Path, metavar="PROMPTS", help="JSONL with `question`")
    parser.add_argument("--limit", type=int, default=50, help="so many prompts")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0."""
    torch.set_num_threads(1)
    questions = read_questions(args.prompts, args.limit)
    folder = store.resolve(settings.llm.model, "llm")
    options = replace(settings.llm, max_tokens=40, repetition_penalty=1.0, temperature=0.0)
    cpu = torch.device("cpu")
    exact = LanguageModel.load(folder, replace(options, dtype="float32"), cpu)
    cases = [said(exact, question) for question in questions]
    print("format     tokens  agree %       KL  perplexity  decode ms  append 8 ms  prefill rows/s")
    for name in FORMATS:
        model = (
            exact
            if name == "float32"
            else LanguageModel.load(folder, replace(options, dtype=name), cpu)
        )
        found, (decode, append, rate) = compare(model, cases), speed(model)
        print(
            f"{name:<9} {found.tokens:>7}  {100 * found.agreed:>7.1f}  {found.kl:>7.4f}"
            f"  {found.perplexity:>10.4f}  {decode:>9.1f}  {append:>11.1f}  {rate:>14.0f}",
            flush=True,
        )
    return 0


def read_questions(path: Path, limit: int) -> list[str]:
    """The first `limit` questions of a JSONL file; ids may be left out.

    Raises:
        ConfigError: it cannot be read or has faults; lists them by line.
    """

    def named(number: int, entry: Entry) -> Entry:
        return {"id": str(number), **entry}

    entries = read_entries(path, sound="none", needs=("question",), translate=named)
    if not entries:
        raise ConfigError(f"{path}: no questions; a line needs question")
    return [entry["question"] for _, entry in entries][:limit]


@torch.inference_mode()
def said(model: LanguageModel, question: str) -> Case:
    """Decode the greedy reply."""
    pieces = model.chat.pieces(model.options.system_prompt)
    prompt = (*pieces.opening, *model.chat.encode(question)[0], *pieces.suffix)
    stops = model.chat.stop_ids()
    session = model.backbone.open(len(prompt) + model.options.max_tokens)
    session.prefill(model.rows(prompt))
    reply: list[int] = []
    logs = [session.logits().log_softmax(-1)]
    while len(reply) < model.options.max_tokens and (best := int(logs[-1].argmax())) not in stops:
        reply.append(best)
        session.decode(best)
        logs.append(session.logits().log_softmax(-1))
    return Case(prompt, tuple(reply), tuple(logs))


@torch.inference_mode()
def compare(model: LanguageModel, cases: Sequence[Case]) -> Figures:
    """Force each reply upon `model`; what it would have said instead."""
    agreed, divergence, surprise, tokens, replied = 0, 0.0, 0.0, 0, 0
    for case in cases:
        session = model.backbone.open(len(case.prompt) + len(case.logs))
        session.prefill(model.rows(case.prompt))
        for i, sure in enumerate(case.logs):
            rough = session.logits().log_softmax(-1)
            agreed += int(sure.argmax()) == int(rough.argmax())
            divergence += float((sure.exp() * (sure - rough)).sum())
            tokens += 1
            if i < len(case.reply):
                surprise -= float(rough[case.reply[i]])
                replied += 1
                session.decode(case.reply[i])
    return Figures(tokens, agreed / tokens, divergence / tokens, math.exp(surprise / replied))


@torch.inference_mode()
def speed(model: LanguageModel) -> tuple[float, float, float]:
    """Milliseconds a decoded token, milliseconds for 8 appended rows, prefilled rows a second."""
    session = model.backbone.open(2 * ROWS)
    rows = model.rows(list(range(100, 100 + ROWS)))

    def prefill() -> None:
        session.crop(0)
        session.prefill(rows)

    def append() -> None:
        session.crop(ROWS)
        session.prefill(rows[:8])

    def decode() -> None:
        session.decode(50)
        session.logits()

    filled, appended = _cpu_s(prefill, times=3), _cpu_s(append, times=15)
    session.crop(ROWS)
    return 1000 * _cpu_s(decode, times=31), 1000 * appended, ROWS / filled


def _cpu_s(work: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return median(spent)
