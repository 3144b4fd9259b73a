"""How much of a picture has which basic colour."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# The eleven basic colour terms of Berlin & Kay, "Basic Color Terms" (1969), each with a typical sRGB value.
COLOURS = {
    "black": (20, 20, 20),
    "white": (240, 240, 240),
    "grey": (128, 128, 128),
    "red": (200, 30, 30),
    "orange": (240, 140, 30),
    "yellow": (240, 220, 50),
    "green": (50, 140, 50),
    "blue": (50, 90, 200),
    "purple": (120, 50, 150),
    "pink": (240, 150, 180),
    "brown": (110, 70, 40),
}
COLOUR_NAMES = tuple(COLOURS)

GRID = 32
"""Pictures are averaged down to a grid of this side before colours are counted."""

# Linear sRGB to CIE XYZ (IEC 61966-2-1), rows divided by the white point D65.
XYZ_OF_RGB = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


def lab(rgb: Tensor) -> Tensor:
    """sRGB (…, 3) in [0, 1] to CIE L*a*b* (…, 3) under D65."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ rgb.new_tensor(XYZ_OF_RGB).T
    cube = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-9) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube.unbind(dim=-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def colour_shares(rgb: Tensor) -> Tensor:
    """sRGB pictures (n, 3, h, w) in [0, 1] to (n, 11): the share of the picture nearest to each colour in L*a*b*."""
    cells = functional.adaptive_avg_pool2d(rgb, GRID).clamp(0, 1).flatten(2).transpose(1, 2)
    typical = lab(rgb.new_tensor(list(COLOURS.values())) / 255)
    nearest = (lab(cells)[:, :, None, :] - typical).square().sum(dim=-1).argmin(dim=-1)
    return functional.one_hot(nearest, len(COLOURS)).to(rgb.dtype).mean(dim=1)
