"""Features out of the model's numbers into numpy's and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivsearch.models.features import Features

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.float32, np.float32), (torch.float16, np.float16), (torch.bfloat16, np.uint16)],
)
def test_every_number_comes_back_as_it_was(dtype: torch.dtype, stored: type) -> None:
    """Also the largest, and the smallest, which have fewer digits."""
    drawn = torch.randn(4, 16, 96, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    kind = torch.finfo(dtype)
    scales = torch.tensor([1.0, 1e-4, kind.max / 8, kind.smallest_normal])
    tensor = (drawn * scales[:, None, None]).to(dtype)
    rows = Features(tensor).to_numpy()
    assert rows.dtype == stored and rows.shape == tensor.shape
    back = Features.of(rows, CPU, dtype).tensor
    assert back.dtype == dtype and torch.isfinite(tensor).all()
    assert torch.equal(back, tensor)


def test_join() -> None:
    parts = [Features(torch.full((n, 2, 3), float(n))) for n in (1, 2)]
    joined = Features.join(parts)
    assert len(joined) == 3 and joined.tensor[:, 0, 0].tolist() == [1, 2, 2]
