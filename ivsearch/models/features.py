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
    def of(cls, rows: NDArray[np.float16], device: torch.device, dtype: torch.dtype) -> Features:
        """From what ``to_numpy`` gave."""
        return cls(torch.from_numpy(rows).to(device).to(dtype))

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """One after the other, at least one."""
        return cls(torch.cat([part.tensor for part in parts]))

    def to_numpy(self) -> NDArray[np.float16]:
        """(tiles or frames, tokens, width) float16."""
        return np.asarray(self.tensor.to(torch.float16).cpu().numpy())

    def __len__(self) -> int:
        return len(self.tensor)
