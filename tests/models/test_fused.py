"""The fused kernels against the plain path, and FP8 rows against plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivsearch.errors import UsageError
from ivsearch.models import fused
from ivsearch.models.float8 import LARGEST, Float8Linear, Rows8, check_float8, convert_to_float8, quantise_rows
from ivsearch.models.norms import RMSNorm

WIDTHS = (80, 320, 3200, 11008, 12800)


def distance(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖, in float64; NaN fails every comparison."""
    found, wanted = found.double().cpu(), wanted.double().cpu()
    return float((found - wanted).norm() / wanted.norm())


def plain(rows: Rows8) -> Tensor:
    return rows.values.float() * rows.scales.reshape(*rows.values.shape[:-1], 1)


def norm_of(kind: str, width: int, seed: Callable[..., Tensor]) -> Any:
    norm: Any = RMSNorm(width, 1e-6) if kind == "rms" else nn.LayerNorm(width, eps=1e-6)
    norm.weight.data = seed(width)
    if kind == "layer":
        norm.bias.data = seed(width)
    return norm


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("width", WIDTHS)
def test_add_and_norm_are_those_of_float64(
    cuda: torch.device, draw: Callable[..., Tensor], kind: str, width: int
) -> None:
    x, y, gain = draw(3, 5, width), draw(3, 5, width), draw(width)
    norm = norm_of(kind, width, draw)
    total = x.double() + gain.double() * y.double()
    wanted = (
        norm.double()(total) if kind == "layer" else total * torch.rsqrt(total.square().mean(-1, keepdim=True) + 1e-6)
    )
    if kind == "rms":
        wanted = wanted * norm.weight.double()
    norm = norm.bfloat16().to(cuda)
    half = [each.bfloat16().to(cuda) for each in (x, y, gain)]
    linear = nn.Linear(width, 16).bfloat16().to(cuda)
    stream, normed = fused.add_norm(*half, norm, linear)
    assert isinstance(normed, Tensor)
    assert distance(stream, total) < 4e-3
    assert distance(normed, wanted) < 8e-3
    _, rounded = fused.add_norm(*half, norm, Float8Linear(linear) if width % 16 == 0 else linear)
    assert isinstance(rounded, Rows8)
    assert distance(plain(rounded), wanted) < 0.04


@pytest.mark.gpu
@pytest.mark.parametrize("width", WIDTHS)
def test_kernels_leave_queries_keys_and_values_as_the_plain_path(
    cuda: torch.device, draw: Callable[..., Tensor], width: int
) -> None:
    qkv = draw(2, 7, 3 * width)
    q_norm, k_norm = norm_of("rms", width, draw), norm_of("rms", width, draw)
    wanted = fused.qk_norm(qkv.double(), q_norm.double(), k_norm.double())
    found = fused.qk_norm(qkv.bfloat16().to(cuda), q_norm.bfloat16().to(cuda), k_norm.bfloat16().to(cuda))
    assert distance(found, wanted) < 6e-3


@pytest.mark.gpu
@pytest.mark.parametrize("width", WIDTHS)
def test_gelu_is_the_exact_one(cuda: torch.device, draw: Callable[..., Tensor], width: int) -> None:
    x = (3 * draw(9, width)).bfloat16()
    wanted = F.gelu(x.double())
    linear = nn.Linear(width, 16).bfloat16().to(cuda)
    found = fused.gelu(x.to(cuda), linear)
    assert isinstance(found, Tensor)
    assert distance(found, wanted) < 3e-3
    # Rounded once: not farther from the exact value than torch's own, but for the last bit.
    assert distance(found, wanted) <= 1.01 * distance(F.gelu(x.to(cuda)), wanted)
    rounded = fused.gelu(x.to(cuda), Float8Linear(linear))
    assert isinstance(rounded, Rows8)
    assert distance(plain(rounded), wanted) < 0.04


@pytest.mark.gpu
def test_fp8_products_are_close_to_those_of_float64(cuda: torch.device, draw: Callable[..., Tensor]) -> None:
    linear = nn.Linear(320, 96)
    x = draw(4, 50, 320)
    x[..., 3] *= 100  # an outlier channel, as trained transformers have
    wanted = F.linear(x.double(), linear.weight.double(), linear.bias.double())
    found = Float8Linear(linear.bfloat16().to(cuda))(x.bfloat16().to(cuda))
    assert distance(found, wanted) < 0.05


def test_rows_in_fp8_keep_their_largest_value_and_three_bits_of_the_rest(draw: Callable[..., Tensor]) -> None:
    x = draw(6, 64) * torch.logspace(-6, 6, 6)[:, None]
    rows = quantise_rows(x)
    assert rows.values.float().abs().amax(-1).tolist() == [LARGEST] * 6
    # Round to nearest with 3 bits of mantissa: half a unit in the last place is 2⁻⁴ of a number.
    large = x.abs() > x.abs().amax(-1, keepdim=True) / 2**12
    assert float(((plain(rows) - x).abs() / x.abs())[large].max()) <= 2**-4 * 1.001


def test_a_row_of_zeros_stays_zeros() -> None:
    rows = quantise_rows(torch.zeros(2, 16))
    assert plain(rows).tolist() == torch.zeros(2, 16).tolist()


def test_only_layers_that_fp8_products_take_are_converted() -> None:
    stack = nn.Sequential(nn.Linear(32, 48), nn.Sequential(nn.Linear(30, 48)), nn.LayerNorm(48))
    convert_to_float8(stack)
    assert isinstance(stack[0], Float8Linear)
    assert type(stack[1][0]) is nn.Linear


def test_fp8_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="'fp8' runs on a CUDA device of the Hopper generation or later, not on cpu"):
        check_float8(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("n_rows", [1, 3, 16])
@pytest.mark.parametrize(("width", "n_out"), [(4096, 6144), (14336, 4096), (176, 48), (80, 4112)])
def test_few_rows_of_fp8_are_the_product_of_what_was_rounded(
    cuda: torch.device, draw: Callable[..., Tensor], n_rows: int, width: int, n_out: int
) -> None:
    linear = nn.Linear(width, n_out)
    linear.weight.data, linear.bias.data = draw(n_out, width), draw(n_out)
    layer = Float8Linear(linear.requires_grad_(False).to(cuda).bfloat16())
    x = quantise_rows(draw(n_rows, 1, width).to(cuda).bfloat16())
    weight = layer.weight.double() * layer.scales.double().reshape(-1, 1)
    assert layer.bias is not None
    wanted = plain(x).double() @ weight.t() + layer.bias.double()
    found = layer(x)
    assert found.shape == (n_rows, 1, n_out)
    # bfloat16 rounds to 2 ** -9; the chip itself keeps fewer bits of long FP8 sums than float32 has.
    assert distance(found, wanted) < 5e-3
