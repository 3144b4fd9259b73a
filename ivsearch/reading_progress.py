"""How far the reading of words is, told file by file as the encoding of pictures is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ivsearch.pipeline import Progress


class ReadingProgress:
    """Of one pass. ``task``: what is read, in words; ``sizes``: the bytes of every file that is to be looked into."""

    def __init__(self, task: str, sizes: Mapping[Path, int], on_progress: Callable[[Progress], None]) -> None:
        self._sizes = sizes
        self._on_progress = on_progress
        self._progress = Progress(files_total=len(sizes), bytes_total=sum(sizes.values()), task=task)

    def begin(self, path: Path) -> None:
        self._progress.current = path
        self._on_progress(self._progress)

    def count_frame(self) -> None:
        self._progress.frames += 1
        self._on_progress(self._progress)

    def end(self, path: Path) -> None:
        self._progress.files_done += 1
        self._progress.bytes_done += self._sizes[path]
        self._on_progress(self._progress)
