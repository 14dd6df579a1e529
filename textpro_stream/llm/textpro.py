"""What a fusion checkpoint says about itself, in our words.

The released TextPro checkpoints carry a `textpro_config.json` whose keys are not published. This is
the one place that guesses them: each of our fields lists the names it may have there; the first of
each list is ours, also used in the metadata of the projector files that we write. What is not found
keeps the default of the published model cards.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textpro_stream.checkpoint import read_json
from textpro_stream.errors import WeightsError
from textpro_stream.llm.chat import Chat
from textpro_stream.llm.fusion import FusionKind, FusionSpec, MarkerMode

log = logging.getLogger(__name__)

CONFIG_NAME = "textpro_config.json"
DEFAULT_MARKER = "<|repo_name|>"  # the unused Qwen2.5 token that the cards name

_NAMES = {
    "fusion": ("fusion", "fusion_type", "fusion_mode", "fusion_method", "fusion_strategy"),
    "group": ("group", "group_size", "text_per_prosody", "interleave_ratio", "ratio"),
    "groups_before": ("groups_before",),
    "marker": ("marker", "prosody_token", "prosody_marker", "marker_token"),
    "marker_id": ("marker_id", "prosody_token_id", "marker_token_id"),
    "marker_mode": ("marker_mode",),  # replace | marker_then_vector
}
_MODES: dict[str, MarkerMode] = {
    "replace": "replace",
    "marker_then_vector": "marker_then_vector",
}
_KINDS: dict[str, FusionKind] = {
    "interleave": "interleave",
    "interleaving": "interleave",
    "interleaved": "interleave",
    "global": "global",
    "global_prepend": "global",
    "global_prepending": "global",
    "prepend": "global",
    "text": "text",
}


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The checkpoint's `textpro_config.json`; None where there is none.

    Raises:
        WeightsError: not readable.
    """
    path = folder / CONFIG_NAME
    return read_json(path) if path.exists() else None


def fusion_spec(
    settings: Mapping[str, Any], chat: Chat, where: Path, *, released: bool
) -> FusionSpec:
    """Read the arrangement of rows from a checkpoint's settings.

    Args:
        settings: of `textpro_config.json` or a projector file's metadata.
        chat: the tokenizer that has to know the marker.
        where: named in refusals.
        released: a whole TextPro checkpoint, whose tokenizer has the marker. A projector file may
            belong to any LLM, and needs a marker only where it names one or keeps its row.

    Raises:
        WeightsError: an unknown fusion, a marker that is not in the tokenizer or has another id.
    """
    told = {ours: value for ours, names in _NAMES.items() for value in _first(settings, names)}
    unknown = sorted(set(settings) - {name for names in _NAMES.values() for name in names})
    if unknown:
        log.info("%s: keys not understood: %s", where, ", ".join(unknown))
    word = str(told.get("fusion", "interleave")).lower().replace("-", "_")
    if word not in _KINDS:
        raise WeightsError(f"{where}: unknown fusion {word!r}; known: {', '.join(_KINDS)}")
    mode = str(told.get("marker_mode", "replace"))
    if mode not in _MODES:
        raise WeightsError(f"{where}: marker_mode {mode!r}; known: {', '.join(_MODES)}")
    needed = released or "marker" in told or mode != "replace"
    return FusionSpec(
        kind=_KINDS[word],
        group=_group(told.get("group", 5), where),
        groups_before=int(told.get("groups_before", 1)),
        marker=_marker(told, chat, where) if needed else None,
        marker_mode=_MODES[mode],
    )


def _marker(told: Mapping[str, Any], chat: Chat, where: Path) -> int:
    """The marker's id. A tokenizer without it is not the one the checkpoint was trained with."""
    token = str(told.get("marker", DEFAULT_MARKER))
    found = chat.token_id(token)
    if found is None:
        raise WeightsError(
            f"{where}: the prosody marker {token} is not in the tokenizer; keep the tokenizer that"
            " came with the checkpoint",
            marker=token,
        )
    if int(told.get("marker_id", found)) != found:
        raise WeightsError(
            f"{where}: the prosody marker {token} has id {found} in the tokenizer,"
            f" {told['marker_id']} in {CONFIG_NAME}; keep the tokenizer that came with it",
            marker=token,
        )
    return found


def _group(value: object, where: Path) -> int:
    """5, "5", "5:1" and [5, 1] all mean five tokens to one prosody row."""
    parts = value if isinstance(value, list) else str(value).split(":")
    if len(parts) in (1, 2) and all(str(p).isdigit() for p in parts) and int(parts[0]) > 0:
        text, prosody = int(parts[0]), int(parts[1]) if len(parts) == 2 else 1
        if prosody == 1:
            return text
    raise WeightsError(f"{where}: group {value!r}; expected tokens to one prosody row, such as 5")


def _first(settings: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    return [settings[name] for name in names if name in settings][:1]
