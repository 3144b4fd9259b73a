"""In which numbers InternVL computes, and by which attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ivsearch.encode.placement import DTYPES
from ivsearch.encode.table import LoadRequest
from ivsearch.errors import UsageError
from ivsearch.models.attention import Attention, check_attention
from ivsearch.models.float8 import check_float8
from ivsearch.models.spread import find_devices


@dataclass(frozen=True, slots=True)
class Precision:
    """``dtype`` of weights and states; with ``fp8`` the products of the blocks are in FP8."""

    dtype: torch.dtype
    fp8: bool
    attention: Attention


def check_precision(request: LoadRequest) -> Precision:
    """Raises UsageError for a device, dtype or attention that is unknown or cannot work here.

    Without a dtype: bfloat16 on a GPU, which the official weights are stored in; float32 on a CPU.
    """
    devices = find_devices(request.device)
    device = devices[0]
    dtype = request.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    if dtype not in (*DTYPES, "fp8"):
        raise UsageError(f"encoder {request.encoder!r} cannot run in dtype {dtype!r}; known: {', '.join(DTYPES)}, fp8")
    if dtype == "fp8":
        for each in devices:
            check_float8(each)
    half = dtype != "float32"
    attention = check_attention(request.attention, device.type, half)
    return Precision(DTYPES.get(dtype, torch.bfloat16), dtype == "fp8", attention)
