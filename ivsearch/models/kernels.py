"""Triton kernels for ``fused``: one program a row, statistics in float32, one read and one write of each tensor."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from ivsearch.models.float8 import E4M3, FEW_ROWS, Rows8
from ivsearch.models.norms import Norm, RMSNorm

# Of e4m3; kernels can only read constants that say that they are.
LARGEST = tl.constexpr(448.0)
# Values a program of an elementwise kernel.
FLAT = 2048
SMALLEST_SCALE = tl.constexpr(1e-12)
# Outputs that a program of ``few_rows8`` makes, and how much of the weight's width it reads at once.
OUTPUTS = 64
STRIP = 256


@triton.jit
def _store_row(values, out_ptr, scales_ptr, row, columns, inside, width, fp8: tl.constexpr):
    if fp8:
        scale = tl.maximum(tl.max(tl.abs(values), axis=0), SMALLEST_SCALE) / LARGEST
        tl.store(scales_ptr + row, scale)
        values *= 1.0 / scale  # once a row: dividing each value would take longer than moving it
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
def _gelu(x):
    """x · Φ(x) to 2e-7: erf by Abramowitz & Stegun, Handbook of Mathematical Functions, 7.1.26, with the chip's own
    reciprocal and power of two. The library's erf takes so many instructions that the memory would wait for them."""
    magnitude = tl.abs(x) * 0.7071067811865476
    t = tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [1.0 + 0.3275911 * magnitude], dtype=tl.float32, is_pure=True, pack=1
    )
    power = tl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [-1.4426950408889634 * magnitude * magnitude],
        dtype=tl.float32, is_pure=True, pack=1,
    )  # fmt: skip
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    half_tail = 0.5 * x * series * power  # of erfc(magnitude)
    return tl.where(x > 0, x - half_tail, half_tail)


@triton.jit
def _gelu_flat(x_ptr, out_ptr, n, block: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < n
    x = tl.load(x_ptr + places, inside, 0.0).to(tl.float32)
    tl.store(out_ptr + places, _gelu(x).to(out_ptr.dtype.element_ty), inside)


@triton.jit
def _gate_flat(gate_ptr, x_ptr, out_ptr, n, block: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < n
    gate = tl.load(gate_ptr + places, inside, 0.0).to(tl.float32)
    x = tl.load(x_ptr + places, inside, 0.0).to(tl.float32)
    tl.store(out_ptr + places, (gate * tl.sigmoid(gate) * x).to(out_ptr.dtype.element_ty), inside)


@triton.jit
def _turn(
    x_ptr, cosines_ptr, sines_ptr, n, heads, half, heads_block: tl.constexpr, half_block: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, heads_block)[:, None]
    column = tl.arange(0, half_block)[None, :]
    inside = (head < heads) & (column < half)
    first = x_ptr + (row * heads + head) * 2 * half + column
    x, y = tl.load(first, inside, 0.0).to(tl.float32), tl.load(first + half, inside, 0.0).to(tl.float32)
    angle = (row % n) * 2 * half + column  # both halves of the tables are the same
    cosine, sine = tl.load(cosines_ptr + angle, column < half, 0.0), tl.load(sines_ptr + angle, column < half, 0.0)
    tl.store(first, (x * cosine - y * sine).to(x_ptr.dtype.element_ty), inside)
    tl.store(first + half, (y * cosine + x * sine).to(x_ptr.dtype.element_ty), inside)


@triton.jit
def _rows8(x_ptr, out_ptr, scales_ptr, width, gelu: tl.constexpr, a: tl.constexpr, b: tl.constexpr, c: tl.constexpr):
    """A row in three parts, powers of two: 12,800 is 8,192 + 4,096 + 512, and no lane idles."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, a)
    places_b, places_c = a + tl.arange(0, b), a + b + tl.arange(0, c)
    x_ptr += row * width
    out_ptr += row * width
    x = tl.load(x_ptr + places, places < width, 0.0).to(tl.float32)
    x_b = tl.load(x_ptr + places_b, places_b < width, 0.0).to(tl.float32)
    x_c = tl.load(x_ptr + places_c, places_c < width, 0.0).to(tl.float32)
    if gelu:
        x, x_b, x_c = _gelu(x), _gelu(x_b), _gelu(x_c)
    largest = tl.maximum(tl.max(tl.abs(x), 0), tl.maximum(tl.max(tl.abs(x_b), 0), tl.max(tl.abs(x_c), 0)))
    scale = tl.maximum(largest, SMALLEST_SCALE) / LARGEST
    tl.store(scales_ptr + row, scale)
    per_scale = 1.0 / scale
    tl.store(out_ptr + places, (x * per_scale).to(out_ptr.dtype.element_ty), places < width)
    tl.store(out_ptr + places_b, (x_b * per_scale).to(out_ptr.dtype.element_ty), places_b < width)
    tl.store(out_ptr + places_c, (x_c * per_scale).to(out_ptr.dtype.element_ty), places_c < width)


@triton.jit
def _few_rows8(
    x_ptr, x_scales_ptr, weight_ptr, scales_ptr, bias_ptr, out_ptr, n_rows, width, n_out,
    biased: tl.constexpr, rows: tl.constexpr, outputs: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A strip of the weight, read once, with all rows: what matters is how fast the weight comes in."""
    out = tl.program_id(0).to(tl.int64) * outputs + tl.arange(0, outputs)
    row = tl.arange(0, rows)
    sums = tl.zeros((outputs, rows), tl.float32)
    for start in range(0, width, block):
        column = start + tl.arange(0, block)
        weight = tl.load(
            weight_ptr + out[:, None] * width + column[None, :], (out[:, None] < n_out) & (column[None, :] < width), 0.0
        )
        x = tl.load(
            x_ptr + row[None, :] * width + column[:, None], (row[None, :] < n_rows) & (column[:, None] < width), 0.0
        )
        sums = tl.dot(weight, x, sums)
    scales = tl.load(scales_ptr + out, out < n_out, 0.0)[:, None]
    sums *= scales * tl.load(x_scales_ptr + row, row < n_rows, 0.0)[None, :]
    if biased:
        sums += tl.load(bias_ptr + out, out < n_out, 0.0).to(tl.float32)[:, None]
    at = out_ptr + row[None, :] * n_out + out[:, None]
    tl.store(at, sums.to(out_ptr.dtype.element_ty), (row[None, :] < n_rows) & (out[:, None] < n_out))


def few_rows8(x: Rows8, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """At most FEW_ROWS rows times an FP8 weight (n_out, width): (rows, n_out) bfloat16.

    cuBLAS has no kernel that reads such a weight as fast as the memory gives it.
    """
    n_rows, width = x.values.reshape(-1, x.values.shape[-1]).shape
    n_out = len(weight)
    out = torch.empty(n_rows, n_out, dtype=torch.bfloat16, device=weight.device)
    with torch.cuda.device(weight.device):
        _few_rows8[(triton.cdiv(n_out, OUTPUTS),)](
            x.values, x.scales, weight, scales, weight if bias is None else bias, out, n_rows, width, n_out,
            biased=bias is not None, rows=FEW_ROWS, outputs=OUTPUTS, block=STRIP, num_warps=4, num_stages=4,
        )  # fmt: skip
    return out


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


def gelu(x: Tensor) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    with torch.cuda.device(x.device):
        _gelu_flat[(triton.cdiv(x.numel(), FLAT),)](x, out, x.numel(), block=FLAT, num_warps=4)
    return out


def gate(gate: Tensor, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    with torch.cuda.device(x.device):
        _gate_flat[(triton.cdiv(x.numel(), FLAT),)](gate, x, out, x.numel(), block=FLAT, num_warps=4)
    return out


def turn_(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """In place, on a contiguous (b, n, heads, d)."""
    batch, n, heads, d = x.shape
    with torch.cuda.device(x.device):
        _turn[(batch * n,)](
            x, cosines, sines, n, heads, d // 2, heads_block=_block(heads), half_block=_block(d // 2), num_warps=4
        )
    return x


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
    out = torch.empty_like(x, dtype=E4M3 if fp8 else norm.weight.dtype)
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
        a, b, c = _parts(width)
        _rows8[(rows,)](x, out, scales, width, gelu=gelu, a=a, b=b, c=c, num_warps=_warps(width))
    return Rows8(out, scales)


def _block(width: int) -> int:
    return int(triton.next_power_of_2(width))


def _warps(width: int) -> int:
    """Between 16 and 50 values a thread."""
    return max(1, min(8, _block(width) // 1024))


def _parts(width: int) -> tuple[int, int, int]:
    """Three powers of two that cover ``width`` with little to spare."""
    first = _block(width) if width < 64 else _block(width) // 2
    second = max(16, _block(max(1, width - first)) // 2)
    return first, second, _block(max(16, width - first - second))
