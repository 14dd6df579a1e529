"""Downloads as they come: bars on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
from typing import Any, Self

from textpro_stream.cli.notices import tell

STEP = 0.25  # share of a download after which a line is worth printing


class Downloads:
    """A `ports.Progress`: draws nothing until something is really fetched."""

    def __init__(self) -> None:
        self._bars: Any = None  # rich.progress.Progress, made when needed
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None, stage: str, /) -> None:
        """Model `name` is `done` bytes of `total` into a stage."""
        if stage == "ready" and name not in self._tasks and name not in self._said:
            return
        if sys.stderr.isatty():
            self._draw(name, done, total, stage)
        else:
            self._say(name, done, total, stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _draw(self, name: str, done: int, total: int | None, stage: str) -> None:
        if self._bars is None:
            self._bars = _bars()
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, stage=stage)
        self._bars.update(self._tasks[name], completed=done, total=total, stage=stage)

    def _say(self, name: str, done: int, total: int | None, stage: str) -> None:
        share = done / total if total and stage == "downloading" else 0.0
        key = f"{name}: {stage}"
        if key in self._said and share < self._said[key] + STEP:
            return
        self._said[key] = self._said[name] = share
        part = f" {share:.0%} of {(total or 0) / 1e6:.0f} MB" if share else ""
        tell(f"{key}{part}")


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("[dim]{task.fields[stage]}"),
        console=Console(stderr=True),
    )
