"""The attention pooling that turns token states into one embedding (InternVL's ``clip_projector``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivsearch.models.attention import attend

# The official code's; unlike the 1e-6 of the layers around it.
EPS = 1e-5


class PoolAttention(nn.Module):
    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        # The checkpoints keep these three apart from their layers.
        self.q_bias = nn.Parameter(torch.empty(width))
        self.k_bias = nn.Parameter(torch.empty(width))
        self.v_bias = nn.Parameter(torch.empty(width))
        self.proj = nn.Linear(width, out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = (self.heads, -1)
        mixed = attend(
            F.linear(query, self.q.weight, self.q_bias).unflatten(-1, heads),
            F.linear(key, self.k.weight, self.k_bias).unflatten(-1, heads),
            F.linear(value, self.v.weight, self.v_bias).unflatten(-1, heads),
        )
        out: Tensor = self.proj(mixed)
        return out


class AttentionPool(nn.Module):
    """(b, n, width) → (b, out): the mean of all tokens asks, all tokens answer."""

    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.norm1_q = nn.LayerNorm(width, eps=EPS)
        self.norm1_k = nn.LayerNorm(width, eps=EPS)
        self.norm1_v = nn.LayerNorm(width, eps=EPS)
        self.cross_attn = PoolAttention(width, heads, out)

    def forward(self, x: Tensor) -> Tensor:
        query = self.norm1_q(x.mean(1, keepdim=True))
        pooled: Tensor = self.cross_attn(query, self.norm1_k(x), self.norm1_v(x))
        return pooled[:, 0]
