"""Triton kernels of the language model: what stands between its products, and attention of one place to all before.

The number of filled slots is read on the device, so that a CUDA graph of one step serves every step.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ivsearch.models.grouped_attention import Heads
from ivsearch.models.kv_cache import KVCache

FLAT = 2048
# Slots a program looks at in one go, and the most programs that share the slots of one key head. Enough to fill the
# processors of an H200 at batch 1 with 8 key heads.
SLOTS = 64
SPLITS = 32
# tl.dot wants at least so many rows.
LEAST_ROWS = 16


@triton.jit
def _lay(
    qkv_ptr, cosines_ptr, sines_ptr, query_ptr, keys_ptr, values_ptr, slot_ptr,
    n, kv_heads, capacity, group: tl.constexpr, half: tl.constexpr, packed: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """One program: one place, one key head with its queries. Slots 0…group-1 are queries, then key, then value."""
    place = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    slot = tl.arange(0, rows)[:, None]
    column = tl.arange(0, half)[None, :]
    inside = slot < group + 2
    if packed:
        at = head * (group + 2) + slot
    else:
        at = tl.where(slot < group, head * group + slot, kv_heads * group + (slot - group) * kv_heads + head)
    source = qkv_ptr + (place * (group + 2) * kv_heads + at) * 2 * half + column
    first = tl.load(source, inside, 0.0).to(tl.float32)
    second = tl.load(source + half, inside, 0.0).to(tl.float32)
    angle = place * half + column
    turns = slot <= group
    cosine = tl.where(turns, tl.load(cosines_ptr + angle), 1.0)
    sine = tl.where(turns, tl.load(sines_ptr + angle), 0.0)
    turned_first = (first * cosine - second * sine).to(query_ptr.dtype.element_ty)
    turned_second = (second * cosine + first * sine).to(query_ptr.dtype.element_ty)
    query = query_ptr + ((place * kv_heads + head) * group + slot) * 2 * half + column
    tl.store(query, turned_first, slot < group)
    tl.store(query + half, turned_second, slot < group)
    row, step = place // n, place % n
    kept = ((row * kv_heads + head) * capacity + tl.load(slot_ptr) + step) * 2 * half + column
    key = keys_ptr + kept + slot * 0
    tl.store(key, turned_first, slot == group)
    tl.store(key + half, turned_second, slot == group)
    value = values_ptr + kept + slot * 0
    tl.store(value, turned_first, slot == group + 1)
    tl.store(value + half, turned_second, slot == group + 1)


@triton.jit
def _attend_part(
    query_ptr, keys_ptr, values_ptr, slot_ptr, padding_ptr, sums_ptr, tops_ptr, totals_ptr,
    kv_heads, capacity, scale, group: tl.constexpr, d: tl.constexpr, rows: tl.constexpr,
    slots: tl.constexpr, splits: tl.constexpr,
):  # fmt: skip
    """Online softmax over one part of the slots of one key head (Dao et al., "Flash-Decoding", 2023)."""
    pair = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    begin = tl.load(padding_ptr + pair // kv_heads)
    end = tl.load(slot_ptr) + 1
    share = tl.cdiv(tl.cdiv(end - begin, splits), slots) * slots
    begin += split * share
    end = tl.minimum(end, begin + share)
    head = tl.arange(0, rows)[:, None]
    column = tl.arange(0, d)[None, :]
    query = tl.load(query_ptr + (pair * group + head) * d + column, head < group, 0.0)
    top = tl.full((rows,), -1e30, tl.float32)
    total = tl.zeros((rows,), tl.float32)
    mixed = tl.zeros((rows, d), tl.float32)
    place = tl.arange(0, slots)
    keys_ptr += pair * capacity * d
    values_ptr += pair * capacity * d
    for start in range(begin, end, slots):
        here = start + place
        inside = here < end
        at = here[:, None] * d + column
        key = tl.load(keys_ptr + at, inside[:, None], 0.0)
        value = tl.load(values_ptr + at, inside[:, None], 0.0)
        scores = tl.dot(query, tl.trans(key)) * scale
        scores = tl.where(inside[None, :], scores, -1e30)
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp(scores - higher[:, None])
        shrunk = tl.exp(top - higher)
        total = total * shrunk + tl.sum(weights, 1)
        mixed = mixed * shrunk[:, None] + tl.dot(weights.to(value.dtype), value)
        top = higher
    part = (pair * splits + split) * rows
    tl.store(sums_ptr + (part + head) * d + column, mixed)
    line = tl.arange(0, rows)
    tl.store(tops_ptr + part + line, top)
    tl.store(totals_ptr + part + line, total)


@triton.jit
def _attend_join(
    sums_ptr, tops_ptr, totals_ptr, out_ptr, group: tl.constexpr, d: tl.constexpr, rows: tl.constexpr,
    splits: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.arange(0, splits)
    column = tl.arange(0, d)[None, :]
    part = (pair * splits + split) * rows + head
    tops = tl.load(tops_ptr + part)
    weights = tl.exp(tops - tl.max(tops, 0))
    total = tl.sum(tl.load(totals_ptr + part) * weights, 0)
    mixed = tl.sum(tl.load(sums_ptr + part[:, None] * d + column) * weights[:, None], 0)
    tl.store(out_ptr + (pair * group + head) * d + tl.arange(0, d), (mixed / total).to(out_ptr.dtype.element_ty))


@triton.jit
def _gate_joined(both_ptr, out_ptr, width, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < width
    gate = tl.load(both_ptr + row * 2 * width + column, inside, 0.0).to(tl.float32)
    x = tl.load(both_ptr + (row * 2 + 1) * width + column, inside, 0.0).to(tl.float32)
    # Rounded after silu, as a module of its own would.
    silu = (gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty).to(tl.float32)
    tl.store(out_ptr + row * width + column, (silu * x).to(out_ptr.dtype.element_ty), inside)


def lay(qkv: Tensor, heads: Heads, turned: tuple[Tensor, Tensor], cache: KVCache, layer: int) -> Tensor:
    """As ``grouped_attention.lay``. The size of a head must be a power of two."""
    rows, n = qkv.shape[:2]
    query = torch.empty(rows, n, heads.queries, heads.d, dtype=qkv.dtype, device=qkv.device)
    with torch.cuda.device(qkv.device):
        _lay[(rows * n, heads.keys)](
            qkv.contiguous(), turned[0], turned[1], query, cache.keys[layer], cache.values[layer],
            cache.slot.to(qkv.device), n, heads.keys, cache.capacity, group=heads.group, half=heads.d // 2,
            packed=heads.packed, rows=triton.next_power_of_2(heads.group + 2), num_warps=1 if heads.group < 8 else 4,
        )  # fmt: skip
    return query


def attend_one(query: Tensor, cache: KVCache, layer: int) -> Tensor:
    """``query`` (b, 1, h, d) over all filled slots and the one just laid → (b, 1, h × d)."""
    batch, _, n_heads, d = query.shape
    keys, values = cache.keys[layer], cache.values[layer]
    kv_heads = keys.shape[1]
    group = n_heads // kv_heads
    rows = max(LEAST_ROWS, triton.next_power_of_2(group))
    pairs = batch * kv_heads
    sums = torch.empty(pairs, SPLITS, rows, d, dtype=torch.float32, device=query.device)
    tops = torch.empty(pairs, SPLITS, rows, dtype=torch.float32, device=query.device)
    totals = torch.empty_like(tops)
    out = torch.empty(batch, 1, n_heads * d, dtype=query.dtype, device=query.device)
    slot, padding = cache.slot.to(query.device), cache.padding.to(query.device)
    with torch.cuda.device(query.device):
        _attend_part[(pairs, SPLITS)](
            query, keys, values, slot, padding, sums, tops, totals, kv_heads, cache.capacity, d**-0.5,
            group=group, d=d, rows=rows, slots=SLOTS, splits=SPLITS, num_warps=4, num_stages=2,
        )  # fmt: skip
        _attend_join[(pairs, group)](sums, tops, totals, out, group=group, d=d, rows=rows, splits=SPLITS, num_warps=4)
    return out


def gate_joined(both: Tensor) -> Tensor:
    """(…, 2 × width) → (…, width)."""
    both = both.contiguous()
    width = both.shape[-1] // 2
    out = torch.empty(*both.shape[:-1], width, dtype=both.dtype, device=both.device)
    with torch.cuda.device(both.device):
        _gate_joined[(both.numel() // (2 * width), triton.cdiv(width, FLAT))](both, out, width, block=FLAT, num_warps=4)
    return out
