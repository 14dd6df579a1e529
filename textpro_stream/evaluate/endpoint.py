"""Is the turn over? What each way to tell costs, in turns cut off and in time waited.

    textpro eval endpoint pauses.jsonl --split dev --cache heard.npz --html curve.html

Every pause of the manifest (`turns.py` has its format) is heard by a conversation's own listener
(`evidence.py`), judged at each tenth of a second, and priced (`policies.py`): by sweeping, in the
manner of livekit/eot-bench, and as each rule stands by default. Sweeps choose their best point on
the very pauses that they are measured on, so they flatter, small sets most.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.evaluate import policies
from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.evidence import (
    Asked,
    gather,
    heard_with,
    load_hearing,
    silences_of,
    tell_progress,
)
from textpro_stream.evaluate.manifest import comma_separated
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.evaluate.policies import MOMENTS_S, Cost, Floats, Silences
from textpro_stream.evaluate.smart_turn import SmartTurn
from textpro_stream.evaluate.trade_off import draw_page
from textpro_stream.evaluate.turns import read_turns
from textpro_stream.ports import EndOfTurn
from textpro_stream.turn import Completeness
from textpro_stream.turn.endpoint import required
from textpro_stream.turn.head import SHIPPED, Head

OLD = TurnOptions(silence_ms=500, silence_long_ms=1500)  # the rule that others are held against
OLD_NAME = "words, 500 to 1500 ms"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One way to tell, over all pauses."""

    name: str
    p_end: Floats  # (n, m) at `MOMENTS_S`
    waits_s: Floats | None = None  # (n,) of the rule as it stands; None: it has no default


@dataclass(frozen=True, slots=True, eq=False)
class EndpointTable:
    """What was measured; `str` prints it."""

    silences: Silences
    kinds: Sequence[str]  # (n,)
    judged: Sequence[Judged]
    lost: int  # pauses of the manifest that the detector did not find

    def __str__(self) -> str:
        kinds = sorted(set(self.kinds))
        parts = ["all", *kinds] if len(kinds) > 1 else kinds
        lines = [line for part in parts for line in (*self._part(part), "")]
        if self.lost:
            lines.append(f"{self.lost} pauses that the detector did not find are left out.")
        return "\n".join(lines).rstrip()

    def curves(self) -> list[tuple[str, list[Cost], Cost | None]]:
        """Name, curve and default of each judge, for a picture."""
        return [
            (
                judged.name,
                policies.curve(judged.p_end, self.silences),
                None if judged.waits_s is None else policies.cost(judged.waits_s, self.silences),
            )
            for judged in self.judged
        ]

    def _part(self, part: str) -> Iterator[str]:
        chosen = np.array([part in ("all", kind) for kind in self.kinds])
        silences = self.silences.of(chosen)
        n_ends, n = int(silences.ends.sum()), len(silences.ends)
        yield f"{part}: {n_ends} ends, {n - n_ends} holds, {len(set(silences.turns))} turns"
        yield ""
        if n_ends in (0, n):
            yield from self._one_sided(chosen, silences)
            return
        yield (
            "| | AUC | cut @300 ms | @600 ms | wait @2 % | @5 % | @10 % | as it is: cut | wait |"
            " cut against the old rule | wait against it |"
        )
        yield "|" + "---|" * 11
        old = next((j.waits_s for j in self.judged if j.name == OLD_NAME), None)
        for judged in self.judged:
            p_end = judged.p_end[chosen]
            curve = policies.curve(p_end, silences)
            cells = [
                f"{policies.auc(p_end[:, 0], silences.ends):.3f}",
                *(f"{100 * policies.cut_at(curve, s):.1f} %" for s in (0.3, 0.6)),
                *(_ms(policies.wait_at(curve, cut)) for cut in (0.02, 0.05, 0.1)),
            ]
            if judged.waits_s is None:
                cells += ["", "", "", ""]
            else:
                waits_s = judged.waits_s[chosen]
                now = policies.cost(waits_s, silences)
                cells += [f"{100 * now.cut:.1f} %", _ms(now.wait_s)]
                if old is None or judged.name == OLD_NAME:
                    cells += ["", ""]
                else:
                    cells += _against(waits_s, old[chosen], silences)
            yield f"| {judged.name} | " + " | ".join(cells) + " |"

    def _one_sided(self, chosen: np.ndarray, silences: Silences) -> Iterator[str]:
        """Only ends or only holds: nothing to trade, but defaults have their price."""
        yield "| | as it is: cut | wait |"
        yield "|---|---|---|"
        for judged in self.judged:
            if judged.waits_s is not None:
                now = policies.cost(judged.waits_s[chosen], silences)
                cut = "" if np.isnan(now.cut) else f"{100 * now.cut:.1f} %"
                yield f"| {judged.name} | {cut} | {_ms(now.wait_s)} |"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `textpro eval endpoint` takes."""
    parser.add_argument("manifest", type=Path, help="JSONL list of pauses")
    parser.add_argument("--split", default="", help="only these splits, e.g. dev,test")
    parser.add_argument("--kinds", default="", help="only these kinds, e.g. dialogue")
    parser.add_argument("--cache", type=Path, help="file (.npz) that keeps what was heard")
    parser.add_argument(
        "--onnx", type=Path, action="append", default=[], help="a model with Smart Turn's input"
    )
    parser.add_argument("--head", type=Path, help="another end-of-turn head than the shipped one")
    parser.add_argument("--html", type=Path, help="write the trade-off as a page")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the tables."""
    import torch

    outside = [(path.stem, SmartTurn(path)) for path in args.onnx]
    splits, kinds = comma_separated(args.split), comma_separated(args.kinds)
    turns = read_turns(args.manifest, splits=splits, kinds=kinds)
    whisper, vad = load_hearing(settings)
    with torch.inference_mode():  # as the device thread of a conversation
        asked = gather(
            turns,
            whisper,
            vad,
            settings.turn,
            name=heard_with(settings, whisper),
            cache=args.cache,
            progress=tell_progress,
        )
    n_pauses = sum(len(turn.pauses) for turn in turns)
    head = Head.load(args.head or SHIPPED)
    table = tabulate(asked, settings.turn, outside, head=head, lost=n_pauses - len(asked))
    print(table)
    if args.html:
        args.html.write_text(draw_page(table.curves()), encoding="utf-8")
    return 0


def tabulate(
    asked: Sequence[Asked],
    options: TurnOptions,
    outside: Sequence[tuple[str, SmartTurn]] = (),
    *,
    head: Head | None = None,
    lost: int = 0,
) -> EndpointTable:
    """Judge and price pauses.

    Args:
        asked: of `gather`; backchannels and pauses that do not count are left out.
        options: bounds and budget of the head.
        outside: other models, by name.
        head: ours.
        lost: pauses that were not heard.
    """
    kept = [one for one in asked if one.pause.judged]
    silences = silences_of(kept)
    told = f"head, {100 * options.false_cutoffs:g} % budget"
    judged = [
        Judged("silence alone", np.ones((len(kept), len(MOMENTS_S)))),
        judge(OLD_NAME, Completeness(), OLD, kept),
        *([judge(told, head, options, kept)] if head is not None else []),
        *(Judged(name, _heard_by(model, kept)) for name, model in outside),
    ]
    return EndpointTable(silences, [a.pause.kind for a in kept], judged, lost)


def judge(
    name: str, end_of_turn: EndOfTurn, options: TurnOptions, asked: Sequence[Asked]
) -> Judged:
    """What an end-of-turn model says at each moment, and when its rule ends a turn."""
    p_end = np.array(
        [[end_of_turn.p_end(a.turn, round(s * SAMPLE_RATE)) for s in MOMENTS_S] for a in asked]
    ).reshape(len(asked), len(MOMENTS_S))
    needs = [required(end_of_turn.p_required, round(s * SAMPLE_RATE), options) for s in MOMENTS_S]
    return Judged(name, p_end, policies.decide(p_end - np.array(needs), 0.0, 0.0, np.inf))


def _heard_by(model: SmartTurn, asked: Sequence[Asked]) -> Floats:
    """One score a pause: these models are asked once, when the pause begins to be one."""
    read: dict[Path, np.ndarray] = {}
    scores = []
    for one in asked:
        if one.audio not in read:
            read = {one.audio: read_audio(one.audio)}
        begin = round(one.turn_start_s * SAMPLE_RATE)
        until = round((one.pause.start_s + one.asked_s) * SAMPLE_RATE)
        scores.append(model.p_end(read[one.audio][begin:until]))
    return np.repeat(np.array(scores)[:, None], len(MOMENTS_S), 1)


def _against(waits_s: Floats, old_s: Floats, silences: Silences) -> list[str]:
    def difference(of: Callable[[Cost], float], drawn: np.ndarray) -> float:
        some = silences.of(drawn)
        return of(policies.cost(waits_s[drawn], some)) - of(policies.cost(old_s[drawn], some))

    everything = np.arange(len(waits_s))
    cells = []
    for of, scale, unit in ((lambda c: c.cut, 100, ""), (lambda c: c.wait_s, 1000, " ms")):
        told = partial(difference, of)
        low, high = interval(told, silences.turns)
        form = "+.1f" if scale == 100 else "+.0f"
        cells.append(
            f"{scale * told(everything):{form}}{unit} [{scale * low:{form}}, {scale * high:{form}}]"
        )
    return cells


def _ms(s: float) -> str:
    return "" if np.isnan(s) else f"{1000 * s:.0f} ms"
