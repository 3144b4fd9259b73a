"""What one file of weights can do, whatever its format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

# Mapped pages count as this process's memory until the file is unmapped, so a file is mapped anew after so much of it.
MAPPED_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored tensor: its shape, its dtype on disk and the file that holds it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path

    @property
    def size_bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


class WeightFile(Protocol):
    """A file of named tensors. Opening one reads no tensor."""

    @property
    def path(self) -> Path: ...

    @property
    def entries(self) -> Mapping[str, Entry]: ...

    def tensors(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Each named tensor on the CPU as stored, memory-mapped where the format allows: copy what is to be kept."""
        ...


def mapped_spans(names: Iterable[str], entries: Mapping[str, Entry]) -> Iterator[list[str]]:
    """``names`` in runs of about ``MAPPED_BYTES``, at least one name each."""
    span: list[str] = []
    span_bytes = 0
    for name in names:
        if span and span_bytes + entries[name].size_bytes > MAPPED_BYTES:
            yield span
            span, span_bytes = [], 0
        span.append(name)
        span_bytes += entries[name].size_bytes
    if span:
        yield span
