"""Drafted tokens -> spans of whole characters, with times in samples that never go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from textpro_stream.contracts import POSITION_HOP, TokenSpan
from textpro_stream.whisper.draft import Drafted
from textpro_stream.whisper.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a token sounds around the position it attends to, in positions of 20 ms.

    Both are Whisper's, of any size: its alignment heads look at the middle of a token.
    """

    lead: int = 8  # positions before the attended one at which a token begins: 0.16 s
    lag: int = 6  # positions behind it at which a token ends when nothing follows at once: 0.12 s


def time_spans(
    drafted: Sequence[Drafted], tokens: Tokens, timing: Timing, *, origin: int, after: int, end: int
) -> tuple[TokenSpan, ...]:
    """Give tokens their text and times.

    Args:
        drafted: tokens that follow each other.
        tokens: the vocabulary.
        timing: where they sound.
        origin: sample of position 0.
        after: sample at which the first may begin: where the last span ended.
        end: samples of audio there are; no word ends after it.
    """
    spans: list[TokenSpan] = []
    at = 0
    for size in tokens.whole_characters([d.token for d in drafted]):
        run = drafted[at : at + size]
        at += size
        first = origin + (run[0].position - timing.lead) * POSITION_HOP
        last = origin + (run[-1].position + timing.lag) * POSITION_HOP
        if at < len(drafted):
            last = min(last, origin + drafted[at].position * POSITION_HOP)
        begin = max(after, first)
        last = min(max(begin, last), end)
        after = last
        ids = tuple(d.token for d in run)
        spans.append(
            TokenSpan(
                ids=ids,
                text=tokens.text(ids),
                start=min(begin, last),
                end=last,
                logprob=sum(d.logprob for d in run) / len(run),
                states=torch.stack([d.state for d in run]),
            )
        )
    return tuple(spans)
