"""Words and tone of voice as the LLM's input rows.

Four fusions (TextPro-SLM, Cui et al. 2026, section on fusion, and what streaming adds):

- `text`: the words alone; the control.
- `tags`: the words, and behind a whole turn its tone in words of its own (`tags.py`), where that is
  sure. Needs no training; the default while no projector is trained.
- `interleave`: one prosody row before each group of five LLM tokens. Append-only: a group's row
  pools the states of the Whisper tokens whose characters begin in the group, and those of the
  group before it. It waits for its five tokens, or for the end of the turn, and is frozen then.
- `global`: one prosody row before the turn's words. It pools the whole turn, so nothing can be
  prefilled before the turn ends; kept for checkpoints trained that way.

Row lists are values: whoever owns the cache compares a new list with the old one and appends what
differs. Knows nothing of caches, and nothing of widths: `projector.py` turns tones into rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from textpro_stream.contracts import TokenSpan, text_of

FusionKind = Literal["text", "tags", "interleave", "global"]
MarkerMode = Literal["replace", "marker_then_vector"]
Encode = Callable[[str], tuple[list[int], list[tuple[int, int]]]]


@dataclass(frozen=True, slots=True)
class Tone:
    """A prosody row to be: spans whose states are pooled. Equal only if the spans are the same."""

    spans: tuple[TokenSpan, ...]

    def pooled(self) -> Tensor:
        """Mean state, float32, (d_prosody,)."""
        states = [span.states for span in self.spans if span.states is not None]
        return torch.cat(states).float().mean(dim=0)


Row = int | Tone  # a token id, or a tone of voice


@dataclass(frozen=True, slots=True)
class FusionSpec:
    """How words and tones are arranged. The defaults are the paper's, where it tells."""

    kind: FusionKind = "text"
    group: int = 5  # LLM tokens behind one prosody row
    groups_before: int = 1  # earlier groups pooled as well: the window before (ours)
    marker: int | None = None  # the token that marks a prosody row, where the tokenizer has one
    marker_mode: MarkerMode = "replace"  # the vector stands in the marker's place, or behind it


@dataclass(frozen=True, slots=True)
class AlignedText:
    """A turn's words so far, aligned: LLM ids, Whisper spans, and where each begins in the text."""

    text: str  # no leading space
    ids: tuple[int, ...]
    id_starts: tuple[int, ...]  # characters
    spans: tuple[TokenSpan, ...]
    span_starts: tuple[int, ...]  # characters; each span's first visible one

    @classmethod
    def of(cls, spans: Sequence[TokenSpan], encode: Encode) -> AlignedText:
        """Join the spans' texts and encode them for the LLM, whole.

        Whisper's words start with a space; a chat's user text does not.
        """
        joined = text_of(spans)
        text = joined.strip()
        lead = len(joined) - len(joined.lstrip())
        ids, offsets = encode(text)
        starts, at = [], -lead
        for span in spans:
            blank = len(span.text) - len(span.text.lstrip())
            starts.append(max(0, min(at + blank, len(text) - 1)))
            at += len(span.text)
        return cls(text, tuple(ids), tuple(s for s, _ in offsets), tuple(spans), tuple(starts))


def rows_of(said: AlignedText, spec: FusionSpec, *, whole: bool) -> list[Row]:
    """The rows that may enter the cache now.

    Args:
        said: the turn so far.
        spec: the arrangement.
        whole: the turn is over, or drafted as if it were: hold nothing back.

    Returns:
        While words are only appended to `said`, each list begins with the one before it, except
        at the end of `text` where the tokenizer may join what follows.
    """
    match spec.kind:
        case "text" | "tags":  # a tag stands behind a turn, and is no part of what was said
            return list(said.ids)
        case "interleave":
            return _interleaved(said, spec, whole=whole)
        case "global":
            if not whole:
                return []
            return [*_prosody(said.spans, spec), *said.ids]


def groups_of(said: AlignedText, size: int) -> list[tuple[TokenSpan, ...]]:
    """For each group of `size` LLM tokens, the spans whose first character falls into it."""
    starts = list(said.id_starts[::size])
    groups: list[list[TokenSpan]] = [[] for _ in starts]
    for span, at in zip(said.spans, said.span_starts, strict=True):
        if groups:
            groups[max(0, bisect_right(starts, at) - 1)].append(span)
    return [tuple(group) for group in groups]


def _interleaved(said: AlignedText, spec: FusionSpec, *, whole: bool) -> list[Row]:
    groups = groups_of(said, spec.group)
    rows: list[Row] = []
    for k, own in enumerate(groups):
        ids = said.ids[k * spec.group : (k + 1) * spec.group]
        if len(ids) < spec.group and not whole:
            break
        before = [s for group in groups[max(0, k - spec.groups_before) : k] for s in group]
        if not own and not before:  # a long word went on: its tone still stands
            before = next((list(group) for group in groups[:k][::-1] if group), [])
        rows += [*_prosody([*before, *own], spec), *ids]
    return rows


def _prosody(spans: Sequence[TokenSpan], spec: FusionSpec) -> list[Row]:
    """The prosody row over `spans`; nothing where none of them was spoken (typed text)."""
    spoken = tuple(span for span in spans if span.states is not None and len(span.states))
    if not spoken:
        return []
    if spec.marker_mode == "replace":
        return [Tone(spoken)]
    assert spec.marker is not None, "a marker row needs a marker"
    return [spec.marker, Tone(spoken)]
