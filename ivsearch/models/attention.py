"""Scaled dot-product attention: torch's own by default, flash-attn where it is installed and asked for."""

from __future__ import annotations

import importlib.util
from enum import StrEnum

from torch import Tensor
from torch.nn import functional as F

from ivsearch.errors import UsageError


class Attention(StrEnum):
    SDPA = "sdpa"
    FLASH = "flash"


def check_attention(name: str, device_type: str, half: bool) -> Attention:
    """The implementation called ``name``. Raises UsageError when it is unknown or cannot work here."""
    if name not in list(Attention):
        raise UsageError(f"there is no attention {name!r}; known: {', '.join(Attention)}")
    if name == Attention.FLASH:
        if importlib.util.find_spec("flash_attn") is None:
            raise UsageError("attention 'flash' needs the package flash-attn: pip install flash-attn, or leave it out")
        if device_type != "cuda" or not half:
            raise UsageError("attention 'flash' runs on a CUDA device in bfloat16 or float16: leave it out")
    return Attention(name)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    implementation: Attention = Attention.SDPA,
) -> Tensor:
    """``query`` (b, n, heads, d), ``key`` and ``value`` (b, m, heads, d) → (b, n, heads × d). Scale 1/sqrt(d).

    ``mask`` (b or 1, 1, n, m) is True where a query may look; ``causal`` needs n = m. flash-attn knows no masks:
    with one, torch's kernels are used.
    """
    if implementation is Attention.FLASH and mask is None:
        from flash_attn import flash_attn_func

        return flash_attn_func(query, key, value, causal=causal).flatten(2)
    mixed = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, is_causal=causal
    )
    return mixed.transpose(1, 2).flatten(2)
