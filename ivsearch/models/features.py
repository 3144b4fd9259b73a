"""What a chat model sees, as it enters its language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """``tensor`` (tiles or frames, tokens, width) on the model's device."""

    tensor: Tensor

    @classmethod
    def of(cls, rows: NDArray[np.floating], device: torch.device, dtype: torch.dtype) -> Features:
        """From what ``to_numpy`` gave."""
        return cls(torch.from_numpy(rows).to(device).to(dtype))

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """One after the other, at least one."""
        return cls(torch.cat([part.tensor for part in parts]))

    def to_numpy(self) -> NDArray[np.floating]:
        """(tiles or frames, tokens, width) in numbers that lose nothing to speak of: float16, and float32 for what is
        computed in float32 or beyond float16. (bfloat16 has fewer digits; its smallest values end up 3e-8 away.)"""
        if self.tensor.itemsize == 2:
            half = self.tensor.to(torch.float16)
            if torch.isfinite(half).all():
                return np.asarray(half.cpu().numpy())
        return np.asarray(self.tensor.float().cpu().numpy())

    def __len__(self) -> int:
        return len(self.tensor)
