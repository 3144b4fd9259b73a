"""In which numbers InternVL computes, and by which attention."""

from __future__ import annotations

import torch

from ivsearch.encode.table import LoadRequest
from ivsearch.errors import NotFinite
from ivsearch.models.attention import check_attention
from ivsearch.models.dtypes import FP8, choose_dtype, more_exact, torch_dtype
from ivsearch.models.lazy_internvl import Numerics
from ivsearch.models.spread import find_devices


def check_numerics(request: LoadRequest) -> Numerics:
    """Raises UsageError for a device, dtype or attention that is unknown or cannot work here.

    Without a dtype: bfloat16 on a GPU, as the official weights are stored; float32 on a CPU. Where the vision tower
    runs in bfloat16, QLLaMA runs in float16: as fast, three bits more exact, and what clip_benchmark measured the
    published figures in. (InternViT-6B's states can grow beyond float16.) CPUs are slow in float16 and keep bfloat16.
    """
    devices = find_devices(request.device)
    device = devices[0]
    dtype = choose_dtype(f"encoder {request.encoder!r}", request.dtype or "", devices)
    half = dtype != "float32"
    attention = check_attention(request.attention, device.type, half)
    vision = torch_dtype(dtype)
    language = torch.float16 if vision is torch.bfloat16 and device.type == "cuda" else vision
    return Numerics(vision, language, dtype == FP8, attention)


def not_finite(encoder: str, numerics: Numerics) -> NotFinite:
    """What to say when vectors, captions or judgements come out as NaN or infinity."""
    used = {str(dtype).removeprefix("torch.") for dtype in (numerics.vision, numerics.language)}
    return NotFinite(
        f"encoder {encoder!r} gives no finite numbers in {' and '.join(sorted(used))}: {more_exact(min(used))}"
    )
