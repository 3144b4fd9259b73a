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
    def of(cls, rows: NDArray[np.generic], device: torch.device, dtype: torch.dtype) -> Features:
        """From what ``to_numpy`` gave."""
        tensor = torch.from_numpy(rows)
        if rows.dtype == np.uint16:
            tensor = tensor.view(torch.bfloat16)
        return cls(tensor.to(device).to(dtype))

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """One after the other, at least one."""
        return cls(torch.cat([part.tensor for part in parts]))

    def to_numpy(self) -> NDArray[np.generic]:
        """(tiles or frames, tokens, width), without loss: float16, float32, or uint16, the bits of bfloat16, which
        numpy has not."""
        tensor = self.tensor.view(torch.uint16) if self.tensor.dtype is torch.bfloat16 else self.tensor
        return np.asarray(tensor.cpu().numpy())

    def __len__(self) -> int:
        return len(self.tensor)
