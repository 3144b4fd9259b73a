"""HiCo, the hierarchical compression of InternVideo2.5 (Wang et al., 2025, section 3.1): the tokens of a few frames are
merged, the most alike first, until few are left. One merge is that of ToMe (Bolya et al., "Token Merging", ICLR 2023):
every even token looks for the odd one most like it, and the r best pairs become one.

A merged token is the mean of all first tokens in it, and what tokens are compared by, the mean over their heads, is
linear. So the rounds work on those means, 1/heads as wide, summed up in float32, and the tokens themselves are read
twice: for their means, and in the end to be averaged. In bfloat16 that is also more exact than to round them in every
round, as the official code does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One merge of g groups of t tokens to t - r.

    ``partners`` (g, evens): the odd token most like each even one. ``order`` (g, evens): the even tokens by how alike
    they are to it, or None when all are merged. ``places`` (g, t): which new token each token goes into.
    """

    partners: Tensor
    order: Tensor | None
    places: Tensor


def merge(tokens: Tensor, *, heads: int, target: int) -> Tensor:
    """(g, t, c) → (g, ``target``, c), each group by itself. ``heads`` divides c; no group may have fewer than
    ``target`` tokens. Kept tokens come first, in order of their likeness, as in the official code."""
    owners = assign(compared_by(tokens, heads), target)
    return average(tokens, owners, target)


def schedule(tokens: int, target: int) -> list[int]:
    """How many tokens each round merges away: as many as have a partner, until ``target`` are left."""
    rounds = []
    while tokens > target:
        rounds.append(min(tokens // 2, tokens - target))
        tokens -= rounds[-1]
    return rounds


def compared_by(tokens: Tensor, heads: int) -> Tensor:
    """(g, t, c) → (g, t, c / heads) float32: the mean over heads."""
    return tokens.unflatten(-1, (heads, -1)).mean(2, dtype=torch.float32)


def assign(sums: Tensor, target: int) -> Tensor:
    """(g, t, d) float32 → (g, t): which of the ``target`` tokens each token ends up in."""
    groups, count, _ = sums.shape
    owners = torch.arange(count, device=sums.device).expand(groups, -1)
    for merged in schedule(count, target):
        places = pair(sums, merged).places
        sums = add_up(sums, places, sums.shape[1] - merged)
        owners = places.gather(1, owners)
    return owners


def pair(sums: Tensor, merged: int) -> Round:
    """Which tokens of (g, t, d) become one when ``merged`` of the even ones go into their partners.

    Sums compare like means: only their directions count.
    """
    units = F.normalize(sums, dim=-1)
    best, partners = (units[:, ::2] @ units[:, 1::2].transpose(1, 2)).max(-1)
    evens, odds = best.shape[1], units.shape[1] // 2
    kept = evens - merged
    if kept == 0:
        order, into = None, partners
    else:
        # Stable: tokens of a still scene are exactly alike, and must not change places from device to device.
        order = best.argsort(dim=-1, descending=True, stable=True)
        ranks = torch.empty_like(order).scatter_(1, order, torch.arange(evens, device=order.device).expand_as(order))
        into = torch.where(ranks < merged, kept + partners, ranks - merged)
    places = torch.empty(units.shape[:2], dtype=torch.long, device=units.device)
    places[:, ::2] = into
    places[:, 1::2] = kept + torch.arange(odds, device=units.device)
    return Round(partners, order, places)


def add_up(sums: Tensor, places: Tensor, count: int) -> Tensor:
    """(g, t, d) → (g, ``count``, d): the sums of what goes to the same place."""
    added = sums.new_zeros(len(sums), count, sums.shape[-1])
    return added.scatter_add_(1, places[..., None].expand_as(sums), sums)


def average(tokens: Tensor, owners: Tensor, count: int) -> Tensor:
    """(g, t, c) → (g, ``count``, c): the mean of the tokens of each owner, as one matrix product."""
    # CPUs take a hundred times as long for products in half precision.
    x = tokens.float() if tokens.itemsize == 2 and tokens.device.type == "cpu" else tokens
    shares = sizes_of(owners, count).reciprocal().gather(1, owners).to(x.dtype)
    weights = x.new_zeros(len(x), count, x.shape[1])
    weights.scatter_(1, owners[:, None], shares[:, None])
    return (weights @ x).to(tokens.dtype)


def sizes_of(owners: Tensor, count: int) -> Tensor:
    """(g, t) → (g, ``count``) float32: how many tokens each owner has."""
    sizes = torch.zeros(len(owners), count, device=owners.device)
    return sizes.scatter_add_(1, owners, torch.ones_like(owners, dtype=torch.float32))
