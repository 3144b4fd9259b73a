"""Where an encoder computes, and in which numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ivsearch.encode.table import LoadRequest
from ivsearch.errors import UsageError
from ivsearch.models.device import available_devices
from ivsearch.models.dtypes import DTYPES

CPU_BATCH = 16
GPU_BATCH = 128


@dataclass(frozen=True, slots=True)
class Placement:
    device: torch.device
    dtype: torch.dtype

    @property
    def batch_size(self) -> int:
        """Pictures at once: enough to keep a GPU busy; a CPU gains nothing from more."""
        return CPU_BATCH if self.device.type == "cpu" else GPU_BATCH


def place(encoder: str, request: LoadRequest) -> Placement:
    """Device and dtype of the request. Raises UsageError when the device is not here or what is asked not supported."""
    if request.attention != "sdpa":
        raise UsageError(f"encoder {encoder!r} runs with attention 'sdpa', not {request.attention!r}: leave it out")
    dtype = request.dtype or "float32"
    if dtype not in DTYPES:
        raise UsageError(f"encoder {encoder!r} cannot run in dtype {request.dtype!r}; known: {', '.join(DTYPES)}")
    available = available_devices()
    if request.device not in available:
        raise UsageError(
            f"encoder {encoder!r} cannot run on device {request.device!r}: available here: {', '.join(available)}"
        )
    return Placement(torch.device(request.device), DTYPES[dtype])
