"""Steps between two matrix products, each in one pass over memory on a CUDA device, in plain torch elsewhere.

InternViT-6B moves 210 MB for every pass over the tokens of 128 pictures: add, norm, activation and rounding to FP8 in
passes of their own would take a third of the time of the products. ``kernels`` holds the Triton kernels;
``tests/models/test_fused.py`` compares the two ways.
"""

from __future__ import annotations

import importlib.util

from torch import Tensor, cat, nn
from torch.nn import functional as F

from ivsearch.models.float8 import Float8Linear, Rows8, quantise_rows
from ivsearch.models.norms import Norm, RMSNorm

HAS_TRITON = importlib.util.find_spec("triton") is not None


def normalise(x: Tensor, norm: Norm, consumer: nn.Module) -> Tensor | Rows8:
    """``norm(x)``, in the form that ``consumer`` reads: rows in FP8 for a Float8Linear."""
    if has_kernels(norm.weight):
        from ivsearch.models import kernels

        return kernels.normalise(x, norm, isinstance(consumer, Float8Linear))
    return _for(consumer, norm(x))


def add_norm(
    x: Tensor, y: Tensor, gain: Tensor | None, norm: Norm, consumer: nn.Module
) -> tuple[Tensor, Tensor | Rows8]:
    """The stream ``x + gain · y`` and its ``norm``, the latter in the form that ``consumer`` reads."""
    if has_kernels(norm.weight):
        from ivsearch.models import kernels

        return kernels.add_norm(x, y, gain, norm, isinstance(consumer, Float8Linear))
    x = x + (y if gain is None else gain * y)
    return x, _for(consumer, norm(x))


def qk_norm(qkv: Tensor, q_norm: RMSNorm, k_norm: RMSNorm) -> Tensor:
    """Queries and keys of ``qkv`` (b, n, 3 × width) normalised over all heads together. May write into ``qkv``."""
    if has_kernels(qkv):
        from ivsearch.models import kernels

        return kernels.qk_norm_(qkv, q_norm, k_norm)
    query, key, value = qkv.chunk(3, dim=-1)
    return cat([q_norm(query), k_norm(key), value], dim=-1)


def gelu(x: Tensor, consumer: nn.Module) -> Tensor | Rows8:
    """Exact (erf) GELU, in the form that ``consumer`` reads."""
    if has_kernels(x):
        from ivsearch.models import kernels

        return kernels.gelu_rows8(x) if isinstance(consumer, Float8Linear) else kernels.gelu(x)
    return _for(consumer, F.gelu(x))


def gate(gating: Tensor, x: Tensor) -> Tensor:
    """silu(gating) · x (Shazeer, "GLU Variants Improve Transformer", 2020)."""
    if has_kernels(x):
        from ivsearch.models import kernels

        return kernels.gate(gating, x)
    return F.silu(gating) * x


def gate_joined(both: Tensor, consumer: nn.Module) -> Tensor | Rows8:
    """silu(first half) · second half of the last axis, in the form that ``consumer`` reads."""
    if has_kernels(both):
        from ivsearch.models import chat_kernels

        gated = chat_kernels.gate_joined(both)
    else:
        first, second = both.chunk(2, -1)
        gated = F.silu(first) * second
    return _for(consumer, gated)


def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """``x`` (b, n, heads, d) turned by the angles of its places, (n, d) float32, halves and not pairs going together
    (Su et al., "RoFormer", 2021). In float32, rounded once. May write into ``x``."""
    if has_kernels(x):
        from ivsearch.models import kernels

        return kernels.turn_(x, cosines, sines)
    first, second = x.float().chunk(2, dim=-1)
    turned = cat([-second, first], dim=-1) * sines[:, None] + x.float() * cosines[:, None]
    return turned.to(x.dtype)


def has_kernels(x: Tensor) -> bool:
    """Whether Triton kernels take ``x``: in half precision on a CUDA device."""
    return HAS_TRITON and x.is_cuda and x.element_size() == 2


def _for(consumer: nn.Module, x: Tensor) -> Tensor | Rows8:
    return quantise_rows(x) if isinstance(consumer, Float8Linear) else x
