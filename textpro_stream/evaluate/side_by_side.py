"""Clip by clip: the same audio heard offline, in a conversation and by the recogniser alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from textpro_stream.evaluate.manifest import Item
from textpro_stream.evaluate.reference import Reference
from textpro_stream.evaluate.score import Errors, errors
from textpro_stream.evaluate.tally import Tally, points_interval

LOST = 1 / 5  # of a clip's words: whoever loses more cannot be answered
SHOWN = 10  # clips, worst first


@dataclass(frozen=True, slots=True)
class Row:
    """One clip's texts."""

    item: Item
    offline: str
    conversation: str
    alone: str

    @property
    def errors(self) -> tuple[Errors, Errors, Errors]:
        """Of the three texts, in their order."""
        said = self.item.text
        return errors(said, self.offline), errors(said, self.conversation), errors(said, self.alone)

    @property
    def worse(self) -> float:
        """Points of WER that the conversation loses against offline."""
        offline, conversation, _ = self.errors
        return conversation.wer - offline.wer

    @property
    def lost(self) -> float:
        """Share of the words that the conversation drops and offline does not."""
        offline, conversation, _ = self.errors
        return (conversation.deletions - offline.deletions) / max(1, conversation.words)


def kinds(offline: Tally, conversation: Tally, alone: Tally) -> Iterator[str]:
    """A line for each kind of clip, where there are several."""
    if len(offline.by_kind) > 1:
        yield f"  {'kind':10} words  offline  conversation  alone"
        for kind in sorted(offline.by_kind):
            e = offline.by_kind[kind]
            yield (
                f"  {kind:10} {e.words:5}  {e.wer:6.2f}  {conversation.by_kind[kind].wer:12.2f}"
                f"  {alone.by_kind[kind].wer:5.2f} %"
            )


def differences(rows: Sequence[Row]) -> Iterator[str]:
    """What each way of streaming loses against offline, and how sure that is."""
    found = [row.errors for row in rows]
    for name, at in (("conversation", 1), ("alone", 2)):
        points = sum((row[at] for row in found), Errors()).wer
        points -= sum((row[0] for row in found), Errors()).wer
        low, high = points_interval([(row[0], row[at]) for row in found])
        yield f"{name} - offline: {points:+.2f} points (95 %: {low:+.2f} to {high:+.2f})"


def equality(rows: Sequence[Row], known: Mapping[str, Reference]) -> Iterator[str]:
    """Whether offline is what the library says."""
    compared = [row for row in rows if row.item.id in known]
    if not compared:
        return
    other = [row for row in compared if row.offline != known[row.item.id].text.strip()]
    same = len(compared) - len(other)
    share = 100 * same / len(compared)
    yield f"offline text equal to transformers on {same} of {len(compared)} clips ({share:.1f} %)"
    for row in other:
        yield f"  {row.item.id}\n    ours   {row.offline}\n    theirs {known[row.item.id].text}"


def worst(rows: Sequence[Row], *, everything: bool) -> Iterator[str]:
    """The clips that lose most, or all of them, with their texts."""
    lost = [row.item.id for row in rows if row.lost > LOST]
    yield f"clips that lose more than a fifth of their words by streaming: {lost or 'none'}"
    yield "all clips, worst first:" if everything else "worst against offline:"
    ordered = sorted(rows, key=lambda row: row.worse, reverse=True)
    for row in ordered if everything else ordered[:SHOWN]:
        offline, conversation, alone = row.errors
        yield (
            f"  {row.item.id}: {offline.wer:.0f} -> {conversation.wer:.0f} %, alone {alone.wer:.0f}"
        )
        yield f"    spoken       {row.item.text}\n    offline      {row.offline}"
        yield f"    conversation {row.conversation}\n    alone        {row.alone}"
