"""Triton kernels for ``fused``: one program a row, statistics in float32, one read and one write of each tensor."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from ivsearch.models.float8 import E4M3, Rows8
from ivsearch.models.norms import Norm, RMSNorm

# Of e4m3; kernels can only read constants that say that they are.
LARGEST = tl.constexpr(448.0)
SMALLEST_SCALE = tl.constexpr(1e-12)


@triton.jit
def _store_row(values, out_ptr, scales_ptr, row, columns, inside, width, fp8: tl.constexpr):
    if fp8:
        scale = tl.maximum(tl.max(tl.abs(values), axis=0), SMALLEST_SCALE) / LARGEST
        tl.store(scales_ptr + row, scale)
        values = tl.minimum(tl.maximum(values / scale, -LARGEST), LARGEST)
    tl.store(out_ptr + row * width + columns, values.to(out_ptr.dtype.element_ty), inside)


@triton.jit
def _add_norm(
    x_ptr, y_ptr, gain_ptr, weight_ptr, bias_ptr, sum_ptr, out_ptr, scales_ptr, width, eps,
    add: tl.constexpr, gained: tl.constexpr, centred: tl.constexpr, fp8: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    x = tl.load(x_ptr + row * width + columns, inside, 0.0).to(tl.float32)
    if add:
        y = tl.load(y_ptr + row * width + columns, inside, 0.0).to(tl.float32)
        if gained:
            y *= tl.load(gain_ptr + columns, inside, 0.0).to(tl.float32)
        total = (x + y).to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + row * width + columns, total, inside)
        x = total.to(tl.float32)
    if centred:
        x = tl.where(inside, x - tl.sum(x, axis=0) / width, 0.0)
    normed = (
        x * tl.rsqrt(tl.sum(x * x, axis=0) / width + eps) * tl.load(weight_ptr + columns, inside, 0.0).to(tl.float32)
    )
    if centred:
        normed += tl.load(bias_ptr + columns, inside, 0.0).to(tl.float32)
    _store_row(normed, out_ptr, scales_ptr, row, columns, inside, width, fp8)


@triton.jit
def _qk_norm(qkv_ptr, q_weight_ptr, k_weight_ptr, width, eps, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    columns = tl.arange(0, block)
    inside = columns < width
    here = qkv_ptr + row * 3 * width + part * width + columns
    x = tl.load(here, inside, 0.0).to(tl.float32)
    weight_ptr = q_weight_ptr if part == 0 else k_weight_ptr
    weight = tl.load(weight_ptr + columns, inside, 0.0).to(tl.float32)
    x *= tl.rsqrt(tl.sum(x * x, axis=0) / width + eps) * weight
    tl.store(here, x.to(qkv_ptr.dtype.element_ty), inside)


@triton.jit
def _rows8(x_ptr, out_ptr, scales_ptr, width, gelu: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    x = tl.load(x_ptr + row * width + columns, inside, 0.0).to(tl.float32)
    if gelu:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    _store_row(x, out_ptr, scales_ptr, row, columns, inside, width, True)


def normalise(x: Tensor, norm: Norm, fp8: bool) -> Tensor | Rows8:
    return _run_add_norm(x, None, None, norm, fp8)[1]


def add_norm(x: Tensor, y: Tensor, gain: Tensor | None, norm: Norm, fp8: bool) -> tuple[Tensor, Tensor | Rows8]:
    return _run_add_norm(x, y.contiguous(), gain, norm, fp8)


def qk_norm_(qkv: Tensor, q_norm: RMSNorm, k_norm: RMSNorm) -> Tensor:
    """In place, on a contiguous (b, n, 3 × width)."""
    width = qkv.shape[-1] // 3
    rows = qkv.numel() // qkv.shape[-1]
    with torch.cuda.device(qkv.device):
        _qk_norm[(rows, 2)](
            qkv, q_norm.weight, k_norm.weight, width, q_norm.eps, block=_block(width), num_warps=_warps(width)
        )
    return qkv


def quantise_rows(x: Tensor) -> Rows8:
    return _run_rows8(x.contiguous(), gelu=False)


def gelu_rows8(x: Tensor) -> Rows8:
    return _run_rows8(x.contiguous(), gelu=True)


def _run_add_norm(
    x: Tensor, y: Tensor | None, gain: Tensor | None, norm: Norm, fp8: bool
) -> tuple[Tensor, Tensor | Rows8]:
    x = x.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    centred = isinstance(norm, nn.LayerNorm)
    total = x if y is None else torch.empty_like(x)
    out = torch.empty_like(x, dtype=E4M3 if fp8 else x.dtype)
    scales = torch.empty(rows if fp8 else 0, 1, dtype=torch.float32, device=x.device)
    with torch.cuda.device(x.device):
        _add_norm[(rows,)](
            x, x if y is None else y, x if gain is None else gain, norm.weight, norm.bias if centred else x,
            total, out, scales, width, norm.eps,
            add=y is not None, gained=gain is not None, centred=centred, fp8=fp8,
            block=_block(width), num_warps=_warps(width),
        )  # fmt: skip
    return total, Rows8(out, scales) if fp8 else out


def _run_rows8(x: Tensor, gelu: bool) -> Rows8:
    width = x.shape[-1]
    rows = x.numel() // width
    out = torch.empty_like(x, dtype=E4M3)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    with torch.cuda.device(x.device):
        _rows8[(rows,)](x, out, scales, width, gelu=gelu, block=_block(width), num_warps=_warps(width))
    return Rows8(out, scales)


def _block(width: int) -> int:
    return int(triton.next_power_of_2(width))


def _warps(width: int) -> int:
    """About 16 values a thread."""
    return max(1, min(16, _block(width) // 512))
