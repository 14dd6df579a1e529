"""The tone readout: emotion and arousal read off the recogniser's states.

    textpro train tone --manifest acted.jsonl --out runs/tone

Gives `tone.safetensors`, for `[prosody] readout`, and `report.md` with what it is worth for
speakers it has not heard, beside the commonest label, the words alone and acoustics alone. With
several corpora in the manifest each one is also read by a readout of the others. The problem is
convex and takes seconds once the clips are heard; what was heard is kept in the folder.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import heard_with, load_hearing
from textpro_stream.evaluate.manifest import comma_separated
from textpro_stream.evaluate.prosody import (
    AGITATED,
    CALM,
    Floats,
    calibration_error,
    recall,
)
from textpro_stream.evaluate.said import GROUP, Said, hear, read_labelled
from textpro_stream.prosody.tone import ToneWeights
from textpro_stream.train.augment import Augmentation, augment
from textpro_stream.train.regression import fit

_FILE, _REPORT = "tone.safetensors", "report.md"
# Shares that are right on recordings of another kind, measured: docs/notes/0013-prosody-vector.md.
ACROSS, AROUSED_ACROSS = 0.4, 0.8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro train tone`."""
    parser.add_argument(
        "--manifest", type=Path, required=True, help="JSONL: id, audio, speaker, emotion"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--split", default="", help="what is trained on; empty: everything")
    parser.add_argument(
        "--copies", type=int, default=1, help="of each clip in another room and microphone"
    )
    parser.add_argument("--ridge", type=float, default=0.01, help="how small weights are kept")
    parser.add_argument(
        "--across",
        type=float,
        default=ACROSS,
        help="share of emotions that are right on a corpus not trained on; measured instead where"
        " the manifest holds several",
    )
    parser.add_argument(
        "--aroused-across",
        type=float,
        default=AROUSED_ACROSS,
        help="the same of agitated against calm",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Train; 0."""
    clips = read_labelled(args.manifest, comma_separated(args.split))
    whisper, _ = load_hearing(settings)
    name = heard_with(settings, whisper)
    said = [hear(clips, whisper, name=name, cache=args.out / "heard.npz")]
    for copy in range(1, args.copies + 1):

        def change(samples: NDArray[np.float32], seed: int = copy) -> NDArray[np.float32]:
            drawn = zlib.crc32(samples.tobytes()) + seed
            return augment(samples, Augmentation(), (), np.random.default_rng(drawn))

        cache = args.out / f"heard_{copy}.npz"
        said.append(hear(clips, whisper, name=f"{name} {copy}", cache=cache, change=change))
    weights, report = train(
        said,
        args.ridge,
        whisper.fingerprint,
        across=args.across,
        aroused_across=args.aroused_across,
    )
    weights.save(args.out / _FILE)
    (args.out / _REPORT).write_text(report, encoding="utf-8")
    print(report)
    print(args.out / _FILE)
    return 0


def train(
    said: Sequence[Sequence[Said]],
    ridge: float,
    recogniser: str,
    *,
    across: float = ACROSS,
    aroused_across: float = AROUSED_ACROSS,
) -> tuple[ToneWeights, str]:
    """A readout, and what it is worth where it was not trained, as a text.

    Args:
        said: the clips as they are, then copies of them that were changed.
        ridge: penalty of squared weights, against a mean loss.
        recogniser: whose states these are.
        across: accuracy to expect on other corpora, where there is but one.
        aroused_across: the same of agitated against calm.

    Raises:
        ConfigError: one speaker or one label: nothing would tell what it is worth.
    """
    plain = [one for one in said[0] if len(one.states)]
    copies = [one for some in said[1:] for one in some if len(one.states)]
    labels = tuple(sorted({one.clip.emotion for one in plain}))
    speakers = sorted({one.clip.speaker for one in plain})
    if len(speakers) < 2 or len(labels) < 2:
        raise ConfigError("one speaker or one emotion alone: give clips of two or more of each")
    true = np.array([labels.index(one.clip.emotion) for one in plain])
    heard = _Examples.of([*plain, *copies], labels)
    states = np.stack([one.mean() for one in plain]).astype(np.float64)
    by_speaker = np.array([one.clip.speaker for one in plain])
    odds = _held_out(heard, states, by_speaker, "speaker", ridge)
    warmth = _temperature(odds, true)
    shares = _softmax(odds / warmth)
    right = float((shares.argmax(1) == true).mean())
    corpora = np.array([one.clip.corpus for one in plain])
    abroad = None
    if len(set(corpora)) > 1:
        abroad = _held_out(heard, states, corpora, "corpus", ridge) / warmth
        across = float((abroad.argmax(1) == true).mean())
    chance = 1 / len(labels)
    trust = _trust(across, right, chance)

    agitated, aroused_odds = _arousal(plain, copies, by_speaker, ridge)
    scale = fit(aroused_odds[0][:, None], aroused_odds[1], np.ones(len(aroused_odds[1])), 1e-6)
    emotion, bias = _fit_softmax(heard, ridge)
    p_aroused = 1 / (1 + np.exp(-(aroused_odds[0] * scale[0] + scale[1])))
    aroused = aroused_odds[1].astype(int)
    aroused_right = float(((p_aroused > 0.5) == aroused).mean())
    weights = ToneWeights(
        labels,
        emotion=(emotion / warmth).astype(np.float32),
        emotion_bias=(bias / warmth).astype(np.float32),
        arousal=(agitated[:-1] * scale[0]).astype(np.float32),
        arousal_bias=np.array([agitated[-1] * scale[0] + scale[1]], np.float32),
        trust=np.array([trust, _trust(aroused_across, aroused_right, 0.5)], np.float32),
        recogniser=recogniser,
    )
    first = np.stack([one.mean(GROUP) for one in plain]).astype(np.float64)
    rows = {
        "states, whole clip": odds,
        "states, first five tokens": _held_out(heard, first, by_speaker, "speaker", ridge),
        "acoustics alone": _alone(plain, labels, by_speaker, [o.acoustics for o in plain], ridge),
        "words alone": _alone(plain, labels, by_speaker, _bags(plain), ridge),
        "the commonest label": np.tile(np.bincount(true, minlength=len(labels)), (len(true), 1)),
    }
    lines = [
        "# Tone readout",
        "",
        f"{len(plain)} clips with words of {len(said[0])}, {len(speakers)} speakers,"
        f" {len(labels)} labels, {len(set(corpora))} corpora. Figures are for speakers not heard.",
        "",
        "| emotion, read from | right | mean recall |",
        "|---|---|---|",
    ]
    for name, found in rows.items():
        best = found.argmax(1)
        lines.append(
            f"| {name} | {100 * (best == true).mean():.1f} % | {100 * recall(best, true):.1f} % |"
        )
    if abroad is not None:
        best = abroad.argmax(1)
        lines.append(
            f"| states, corpus not heard | {100 * (best == true).mean():.1f} %"
            f" | {100 * recall(best, true):.1f} % |"
        )
    told = trust * shares + (1 - trust) * chance
    off = calibration_error(shares, true)
    aroused_off = calibration_error(np.stack([1 - p_aroused, p_aroused], 1), aroused)
    lines += [
        "",
        f"Calibration error of the emotions among such voices: {off:.3f} before trust."
        f" Trust {trust:.2f}, for {100 * across:.0f} % right on other recordings:"
        f" the likeliest label is told with {told.max(1).mean():.2f} on average.",
        "",
        "Arousal (agitated against calm), speakers not heard:"
        f" {100 * aroused_right:.1f} % of {len(aroused)} right, calibration error"
        f" {aroused_off:.3f} before trust. Trust {weights.trust[1]:.2f}, for"
        f" {100 * aroused_across:.0f} % right on other recordings.",
    ]
    return weights, "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, eq=False)
class _Examples:
    """What a fit sees; (n,) each but the numbers."""

    numbers: Floats  # (n, d)
    true: NDArray[np.int_]  # labels
    weights: Floats
    speakers: NDArray[np.str_]
    corpora: NDArray[np.str_]
    n_labels: int

    @staticmethod
    def of(said: Sequence[Said], labels: Sequence[str]) -> _Examples:
        """Each clip and its windows; together they count as one clip, and the labels alike."""
        rows = [
            (one, group, 1 / len(groups))
            for one in said
            for groups in [one.groups()]
            for group in groups
        ]
        true = np.array([labels.index(one.clip.emotion) for one, _, _ in rows])
        weights = np.array([weight for _, _, weight in rows])
        totals = np.bincount(true, weights=weights, minlength=len(labels))
        return _Examples(
            np.stack([group for _, group, _ in rows]).astype(np.float64),
            true,
            weights / totals[true],
            np.array([one.clip.speaker for one, _, _ in rows]),
            np.array([one.clip.corpus for one, _, _ in rows]),
            len(labels),
        )

    def where(self, chosen: NDArray[np.bool_]) -> _Examples:
        """Some of them."""
        return replace(
            self,
            numbers=self.numbers[chosen],
            true=self.true[chosen],
            weights=self.weights[chosen],
            speakers=self.speakers[chosen],
            corpora=self.corpora[chosen],
        )


def _held_out(
    heard: _Examples, numbers: Floats, groups: NDArray[np.str_], by: str, ridge: float
) -> Floats:
    """Log odds of clips by readouts that have not heard their group, (n, n_labels)."""
    odds = np.zeros((len(numbers), heard.n_labels))
    own = heard.speakers if by == "speaker" else heard.corpora
    for group in sorted(set(groups)):
        weights, bias = _fit_softmax(heard.where(own != group), ridge)
        odds[groups == group] = numbers[groups == group] @ weights.T + bias
    return odds


def _alone(
    plain: Sequence[Said],
    labels: Sequence[str],
    speakers: NDArray[np.str_],
    numbers: Sequence[NDArray[np.float32]],
    ridge: float,
) -> Floats:
    """The same from other numbers of the same clips."""
    rows = np.stack(numbers).astype(np.float64)
    whole = [replace(one, states=row[None]) for one, row in zip(plain, rows, strict=True)]
    return _held_out(_Examples.of(whole, labels), rows, speakers, "speaker", ridge)


def _bags(plain: Sequence[Said]) -> list[NDArray[np.float32]]:
    """Which tokens each clip has, among those that occur twice or more."""
    counts: dict[int, int] = {}
    for one in plain:
        for token in set(one.ids):
            counts[token] = counts.get(token, 0) + 1
    kept = [token for token, n in counts.items() if n > 1] or [-1]
    return [np.array([token in one.ids for token in kept], np.float32) for one in plain]


def _arousal(
    plain: Sequence[Said], copies: Sequence[Said], speakers: NDArray[np.str_], ridge: float
) -> tuple[Floats, tuple[Floats, Floats]]:
    """Weights and, last, the bias (d + 1,); log odds and truth of the clips that have one."""
    known = AGITATED | CALM
    heard = _Examples.of(
        [
            replace(one, clip=replace(one.clip, emotion=str(one.clip.emotion in AGITATED)))
            for one in (*plain, *copies)
            if one.clip.emotion in known
        ],
        ("False", "True"),
    )
    true = heard.true.astype(np.float64)
    weights = heard.weights / heard.weights.mean()
    penalty = ridge * len(true)
    chosen = np.array([one.clip.emotion in known for one in plain])
    states = np.stack([one.mean() for one in plain]).astype(np.float64)[chosen]
    odds = np.zeros(len(states))
    for speaker in sorted(set(speakers)):
        inside = heard.speakers != speaker
        found = fit(heard.numbers[inside], true[inside], weights[inside], penalty)
        outside = speakers[chosen] == speaker
        odds[outside] = states[outside] @ found[:-1] + found[-1]
    told = np.array([float(one.clip.emotion in AGITATED) for one in plain])[chosen]
    return fit(heard.numbers, true, weights, penalty), (odds, told)


def _trust(across: float, right: float, chance: float) -> float:
    """What is left, on other recordings, of how much better than chance it is on its own."""
    return float(np.clip((across - chance) / max(right - chance, 1e-6), 0.0, 1.0))


def _fit_softmax(heard: _Examples, ridge: float) -> tuple[Floats, Floats]:
    """Multinomial logistic regression: weights (n_labels, d) and biases, of plain numbers."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode(False), torch.enable_grad():
        mean, deviation = heard.numbers.mean(0), heard.numbers.std(0) + 1e-6
        x = torch.tensor((heard.numbers - mean) / deviation)
        true, share = torch.tensor(heard.true), torch.tensor(heard.weights / heard.weights.sum())
        w = torch.zeros(heard.n_labels, x.shape[1], dtype=x.dtype, requires_grad=True)
        b = torch.zeros(heard.n_labels, dtype=x.dtype, requires_grad=True)
        search = torch.optim.LBFGS([w, b], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            search.zero_grad()
            wrong = F.cross_entropy(x @ w.T + b, true, reduction="none") @ share
            total = wrong + ridge * w.square().sum()
            total.backward()  # type: ignore[no-untyped-call]  # torch's own
            return total

        search.step(loss)  # type: ignore[no-untyped-call]  # torch's own
        weights = w.detach().numpy() / deviation
        return weights, b.detach().numpy() - weights @ mean


def _softmax(odds: Floats) -> Floats:
    shares = np.exp(odds - odds.max(1, keepdims=True))
    found: Floats = shares / shares.sum(1, keepdims=True)
    return found


def _temperature(odds: Floats, true: NDArray[np.int_]) -> float:
    """By which odds of speakers not heard are divided to be as sure as they are right."""

    def surprise(warmth: float) -> float:
        return -float(np.log(_softmax(odds / warmth)[np.arange(len(true)), true] + 1e-12).mean())

    return float(min(np.geomspace(0.2, 20, 200), key=surprise))
