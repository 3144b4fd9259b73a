"""The names of the numbers a model computes in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ivsearch.errors import UsageError
from ivsearch.models.float8 import check_float8

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FP8 = "fp8"


def choose_dtype(who: str, name: str, devices: Sequence[torch.device]) -> str:
    """``name``; when it is empty bfloat16 on a CUDA device, as the official weights are stored, and float32 elsewhere.

    ``who`` wants to compute in it, for the message. Raises UsageError for a name that is unknown or cannot work here.
    """
    name = name or ("bfloat16" if devices[0].type == "cuda" else "float32")
    if name not in (*DTYPES, FP8):
        raise UsageError(f"{who} cannot run in dtype {name!r}; known: {', '.join(DTYPES)}, {FP8}")
    if name == FP8:
        for device in devices:
            check_float8(device)
    return name


def torch_dtype(name: str) -> torch.dtype:
    """Of weights and states; where products are in FP8, what stands between them is in bfloat16."""
    return DTYPES.get(name, torch.bfloat16)


def more_exact(name: str) -> str:
    """What to do when numbers of this dtype come out as NaN or infinity."""
    if name == "float32":
        return "the weights may be damaged, check them with `ivsearch models verify`"
    return "take --dtype bfloat16 or float32" if name == "float16" else "take --dtype float32"
