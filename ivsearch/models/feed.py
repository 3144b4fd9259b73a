"""Batches in main memory → the device, the next one on its way while this one is computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def feed(batch: NDArray[np.float32], device: torch.device, size: int) -> Iterator[Tensor]:
    """``batch`` in parts of at most ``size`` rows, on ``device``, in order.

    On a CUDA device the next part is copied from pinned memory on a stream of its own. That gains only while whoever
    iterates does not wait for the device between two parts.
    """
    parts = torch.from_numpy(batch).split(size) if len(batch) else ()  # an empty tensor splits into one empty part
    if device.type != "cuda":
        yield from (part.to(device) for part in parts)
        return
    stream = torch.cuda.Stream(device)
    for part in parts:
        with torch.cuda.stream(stream):
            pinned = part.pin_memory()
            moved = pinned.to(device, non_blocking=True)
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        moved.record_stream(current)
        yield moved
