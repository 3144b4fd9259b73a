"""Attention in which several query heads share a key head, over keys and values kept from earlier places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ivsearch.models.attention import Attention
from ivsearch.models.fused import has_kernels
from ivsearch.models.kv_cache import KVCache

LEAST_SIZE = 16


@dataclass(frozen=True, slots=True)
class Heads:
    """How one product holds queries, keys and values of size ``d``.

    ``packed``: a key head's queries, the key, the value, then the next key head's. Otherwise all queries, all keys, all
    values.
    """

    queries: int
    keys: int
    d: int
    packed: bool

    @property
    def group(self) -> int:
        """Query heads a key head."""
        return self.queries // self.keys

    @property
    def suit_kernels(self) -> bool:
        """Whether their size is a power of two that a matrix product of a kernel takes."""
        return self.d >= LEAST_SIZE and self.d & (self.d - 1) == 0

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, …) → queries (b, n, queries, d), keys and values (b, n, keys, d)."""
        if self.packed:
            slots = qkv.unflatten(-1, (self.keys, self.group + 2, self.d))
            return slots[..., : self.group, :].flatten(2, 3), slots[..., self.group, :], slots[..., self.group + 1, :]
        query, key, value = qkv.unflatten(-1, (-1, self.d)).split([self.queries, self.keys, self.keys], 2)
        return query, key, value


def lay(qkv: Tensor, heads: Heads, turned: tuple[Tensor, Tensor], cache: KVCache, layer: int) -> Tensor:
    """Turns queries and keys by their places, puts keys and values into the cache's next slots → queries (b, n, h, d).

    ``turned``: cosines and sines (b, n, d/2) float32. Products in float32, rounded once.
    """
    if heads.suit_kernels and has_kernels(qkv):
        from ivsearch.models import chat_kernels

        return chat_kernels.lay(qkv, heads, turned, cache, layer)
    query, key, value = heads.split(qkv)
    here = slice(cache.length, cache.length + qkv.shape[1])
    cache.keys[layer][:, :, here] = _turned(key, turned).transpose(1, 2)
    cache.values[layer][:, :, here] = value.transpose(1, 2)
    return _turned(query, turned)


def attend_grouped(
    query: Tensor, cache: KVCache, layer: int, mask: Tensor | None, one: bool, implementation: Attention
) -> Tensor:
    """``query`` (b, n, h, d) over the first ``cache.length + n`` slots → (b, n, h × d). Scale 1/sqrt(d).

    Causal, or by ``mask`` (b, 1, n, slots). ``one``: a single place, on a device with kernels.
    """
    n = query.shape[1]
    if one:
        from ivsearch.models import chat_kernels

        return chat_kernels.attend_one(query, cache, layer)
    keys = cache.keys[layer][:, :, : cache.length + n]
    values = cache.values[layer][:, :, : cache.length + n]
    if implementation is Attention.FLASH and not cache.is_padded:
        from flash_attn import flash_attn_func

        # Its causal sight ends at the last key, as it should behind earlier places.
        return flash_attn_func(query, keys.transpose(1, 2), values.transpose(1, 2), causal=True).flatten(2)
    grouped = not query.is_cuda or (mask is None and n == keys.shape[2] and has_kernels(query))
    if not grouped:
        # On CUDA, torch shares keys between heads only in its flash kernel; elsewhere it would hold all scores at once.
        group = query.shape[2] // keys.shape[1]
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    mixed = F.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, attn_mask=mask, is_causal=mask is None and n > 1, enable_gqa=grouped
    )
    return mixed.transpose(1, 2).flatten(2)


def _turned(x: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
    """The first half of each head with the second (Su et al., "RoFormer", 2021, in LLaMA's arrangement)."""
    cosines, sines = (each[:, :, None] for each in turned)
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1).to(x.dtype)
