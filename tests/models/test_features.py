"""Features out of the model's numbers into numpy's and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivsearch.models.features import Features

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "scale", "stored"),
    [
        (torch.float32, 1.0, np.float32),
        (torch.float16, 1.0, np.float16),
        (torch.bfloat16, 1.0, np.float16),
        (torch.bfloat16, 1e5, np.float32),
    ],
)
def test_there_and_back(dtype: torch.dtype, scale: float, stored: type) -> None:
    tensor = (torch.randn(4, 16, 96, generator=torch.Generator().manual_seed(5)) * scale).to(dtype)
    rows = Features(tensor).to_numpy()
    assert rows.dtype == stored
    back = Features.of(rows, CPU, dtype).tensor
    assert back.dtype == dtype
    # What bfloat16 has below the smallest normal float16 is rounded to its steps of 2**-24.
    np.testing.assert_allclose(back.float(), tensor.float(), rtol=0, atol=2**-25 if dtype is torch.bfloat16 else 0)


def test_join() -> None:
    parts = [Features(torch.full((n, 2, 3), float(n))) for n in (1, 2)]
    joined = Features.join(parts)
    assert len(joined) == 3 and joined.tensor[:, 0, 0].tolist() == [1, 2, 2]
