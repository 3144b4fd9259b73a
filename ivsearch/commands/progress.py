"""Live lines on stderr while something runs; none where ``shown`` is False. Context managers."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from ivsearch.commands.spaces_shown import reencoding_text
from ivsearch.plain_text import printable

if TYPE_CHECKING:
    from ivsearch.pipeline import Progress
    from ivsearch.store.reencoding_state import ReencodingState


class IndexProgress:
    """Files, frames a second, how many times as fast as real time, time left."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._name = ""

    def __enter__(self) -> IndexProgress:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[files]}"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("loading", total=None, files="", rate="")
            self._bar.start()
        return self

    def update(self, progress: Progress) -> None:
        if not self._shown:
            return
        if progress.task != self._name:
            # Another rate and another time left.
            self._name = progress.task
            self._bar.reset(self._task)
        elapsed_s = max(self._bar.tasks[0].elapsed or 0.0, 1e-6)
        name = _tail(printable(progress.current.name)) if progress.current else "looking"
        self._bar.update(
            self._task,
            total=progress.bytes_total,
            completed=progress.bytes_done,
            description=f"{progress.task}: {name}" if progress.task else name,
            files=f"{progress.files_done}/{progress.files_total} files",
            rate=_rate(progress, elapsed_s),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._bar.stop()


def _rate(progress: Progress, elapsed_s: float) -> str:
    if not progress.task:
        return f"{progress.frames / elapsed_s:.1f} frames/s, {progress.media_s / elapsed_s:.1f}× real time"
    if progress.frames:
        return f"{progress.frames / elapsed_s:.1f} frames/s"
    return f"{progress.files_done / elapsed_s:.1f} files/s"


class CountProgress:
    """How many are done, and how many a second."""

    def __init__(self, unit: str, *, shown: bool) -> None:
        self._unit = unit
        self._shown = shown

    def __enter__(self) -> CountProgress:
        if self._shown:
            from rich.console import Console
            from rich.progress import Progress as Bar
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("loading", total=None)
            self._bar.start()
        return self

    def update(self, n_done: int) -> None:
        if self._shown:
            elapsed_s = max(self._bar.tasks[0].elapsed or 0.0, 1e-6)
            words = f"{n_done} {self._unit}, {n_done / elapsed_s:.1f} {self._unit}/s"
            self._bar.update(self._task, description=words)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._bar.stop()


class ReencodingProgress:
    """How far a re-encoding is."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def __enter__(self) -> ReencodingProgress:
        if self._shown:
            from rich.console import Console
            from rich.status import Status

            self._status = Status("loading the encoder", console=Console(stderr=True))
            self._status.start()
        return self

    def update(self, job: ReencodingState) -> None:
        if self._shown:
            self._status.update(reencoding_text(job, time.time()).splitlines()[0])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._status.stop()


def _tail(name: str, width: int = 24) -> str:
    return name if len(name) <= width else "…" + name[1 - width :]
