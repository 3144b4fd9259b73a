"""Keys and values of the places a language model has read, in tensors that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KVCache:
    """Of ``rows`` sequences, padded on the left to the same length. ``length`` slots are filled, the same of each row.

    ``keys`` and ``values``: one (rows, kv_heads, capacity, d) a layer, on that layer's device. ``padding`` (rows,)
    int32: how many of a row's first slots hold nothing; ``slot`` (1,) int32: ``length``, where kernels can read it.
    """

    def __init__(
        self,
        rows: int,
        kv_heads: int,
        capacity: int,
        head_size: int,
        dtype: torch.dtype,
        devices: Sequence[torch.device],
    ) -> None:
        """``devices``: of each layer. Raises torch.OutOfMemoryError without room."""
        shape = (rows, kv_heads, capacity, head_size)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for device in devices]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for device in devices]
        self.rows, self.capacity = rows, capacity
        self.padding = torch.zeros(rows, dtype=torch.int32, device=devices[0])
        self.slot = torch.zeros(1, dtype=torch.int32, device=devices[0])
        self.length = 0
        self.is_padded = False

    def pad(self, padding: Sequence[int]) -> None:
        """Before anything is read: how many places each row lacks at its beginning."""
        self.padding.copy_(torch.tensor(padding, dtype=torch.int32))
        self.is_padded = any(padding)

    def keep(self, length: int) -> None:
        """Forgets all but the first ``length`` slots."""
        self.length = length
        self.slot.fill_(length)

    def advance(self, n: int) -> None:
        """``n`` more slots are filled."""
        self.length += n
        self.slot.add_(n)

    def places(self, n: int) -> Tensor:
        """Positions (rows, n) of the next ``n`` slots; those of padding are 0."""
        steps = torch.arange(n, dtype=torch.int32, device=self.slot.device)
        return (self.slot + steps - self.padding[:, None]).clamp_min(0)

    def mask(self, n: int) -> Tensor | None:
        """(rows, 1, n, length + n), True where one of the next ``n`` slots may look: at what came before in its own
        row, and at itself. None where plain causal sight is the same."""
        if not self.is_padded and (self.length == 0 or n == 1):
            return None
        there = torch.arange(self.length + n, device=self.slot.device)
        here = there[self.length :, None]
        seen = (there <= here) & (there >= self.padding[:, None, None])
        # Padding sees itself: a row of nothing would become NaN, and spoil those that multiply it by 0.
        return (seen | (there == here))[:, None]
