"""Batches in main memory → the device, the next part on its way while one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Feed:
    """Feeds one device. May be used from several threads."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        # One for good: torch keeps memory apart for every stream it has seen.
        return torch.cuda.Stream(self.device)

    def parts(self, batch: NDArray[np.float32] | NDArray[np.uint8], size: int) -> Iterator[Tensor]:
        """``batch`` in parts of at most ``size`` rows, on the device, in order.

        On a CUDA device the next part is copied from pinned memory on a stream of its own. That gains only while
        whoever iterates does not wait for the device between two parts.
        """
        # An empty tensor would split into one empty part.
        for part in torch.from_numpy(batch).split(size) if len(batch) else ():
            if self.device.type != "cuda":
                yield part.to(self.device)
                continue
            with torch.cuda.stream(self._stream):
                moved = part.pin_memory().to(self.device, non_blocking=True)
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)
            moved.record_stream(current)
            yield moved


class Portions:
    """Pictures through a network, as many at once as there is room for."""

    def __init__(self, feed: Feed, size: int, told: Callable[[int], None]) -> None:
        """``told`` hears of every smaller size."""
        self.feed, self.size, self._told = feed, size, told

    def run(self, embed: Callable[[Tensor], Tensor], batch: NDArray[np.float32], dim: int) -> Tensor:
        """``embed`` of (n, 3, h, w), float32 (n, dim) on the device. Raises torch.OutOfMemoryError when there is no
        room for a single picture."""
        while True:
            size = self.size
            found = self._try(embed, batch, size)
            if found is not None:
                return torch.cat(found) if found else torch.empty(0, dim)
            # Here, where the error and with it the states it held are gone.
            torch.cuda.empty_cache()
            self.size = min(self.size, size // 2)
            self._told(self.size)

    def _try(self, embed: Callable[[Tensor], Tensor], batch: NDArray[np.float32], size: int) -> list[Tensor] | None:
        try:
            return [embed(part).float() for part in self.feed.parts(batch, size)]
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            return None
