"""Linear layers in FP8 (e4m3), for Hopper and later: half the bytes and twice the matrix rate of bfloat16.

One scale a row of the activations (a token) and one a row of the weight (an output), as in Micikevicius et al., "FP8
Formats for Deep Learning", 2022; FP8 keeps three bits of mantissa but 17 binades, so an outlier in a token costs the
token's small values little. Sums are float32, results bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ivsearch.errors import UsageError

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
SMALLEST_SCALE = 1e-12
# What ``_scaled_mm`` asks of both sides of a weight.
MULTIPLE = 16
# So few rows take as long as reading the weight does.
FEW_ROWS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Rows8:
    """``values`` (…, k) e4m3 and ``scales`` (rows, 1) float32: each row of the last axis is values × its scale."""

    values: Tensor
    scales: Tensor


class Float8Linear(nn.Module):
    """``y = x Wᵀ + b`` from FP8 rows. Takes Rows8, or a tensor that it rounds itself."""

    weight: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        rows = quantise_rows(linear.weight.detach())
        self.register_buffer("weight", rows.values)
        self.register_buffer("scales", rows.scales.reshape(1, -1))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)

    def forward(self, x: Tensor | Rows8) -> Tensor:
        rows = x if isinstance(x, Rows8) else quantise_rows(x)
        shape = rows.values.shape
        if self.weight.is_cuda and len(rows.scales) <= FEW_ROWS:
            from ivsearch.models import kernels

            few = kernels.few_rows8(rows, self.weight, self.scales, self.bias)
            return few.reshape(*shape[:-1], -1)
        product = torch._scaled_mm(
            rows.values.reshape(-1, shape[-1]),
            self.weight.t(),
            scale_a=rows.scales,
            scale_b=self.scales,
            bias=self.bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return product.reshape(*shape[:-1], -1)


def quantise_rows(x: Tensor) -> Rows8:
    """Rounds each row of the last axis to e4m3, its largest magnitude becoming 448."""
    if x.is_cuda and x.element_size() == 2:
        from ivsearch.models import kernels

        return kernels.quantise_rows(x)
    wide = x.float()
    scales = wide.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_SCALE) / LARGEST
    return Rows8((wide / scales).clamp(-LARGEST, LARGEST).to(E4M3), scales.reshape(-1, 1))


def convert_to_float8(module: nn.Module) -> None:
    """Replaces every linear layer below ``module`` that fits, one at a time, so that no second copy is needed."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and not (child.in_features % MULTIPLE or child.out_features % MULTIPLE):
            setattr(module, name, Float8Linear(child))
        else:
            convert_to_float8(child)


def check_float8(device: torch.device) -> None:
    """Raises UsageError where FP8 products cannot run."""
    if device.type != "cuda":
        raise UsageError(f"dtype 'fp8' runs on a CUDA device of the Hopper generation or later, not on {device.type}")
    if torch.cuda.get_device_capability(device) < (9, 0):
        name = torch.cuda.get_device_name(device)
        raise UsageError(
            f"dtype 'fp8' needs an NVIDIA GPU of the Hopper generation or later; {name} is older: bfloat16"
        )
