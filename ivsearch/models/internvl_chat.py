"""InternVL2 and 2.5 (Chen et al., "How Far Are We to GPT-4V?", 2024) and InternVideo2.5 (Wang et al., 2025): what
InternViT sees is projected into the language model's space and stands there as tokens among the words.

Parameter names are those of the official state dicts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.attention import Attention
from ivsearch.models.chat_config import ChatConfig
from ivsearch.models.hico import merge
from ivsearch.models.intern_vit import InternViT
from ivsearch.models.language_model import LanguageModel

# Four patches, a block of 2 × 2, become one token.
BLOCK = 4


class Projector(nn.Sequential):
    """Tokens of the vision model → the width of the language model."""

    def __init__(self, seen: int, width: int) -> None:
        super().__init__(nn.LayerNorm(seen), nn.Linear(seen, width), nn.GELU(), nn.Linear(width, width))

    @property
    def bias(self) -> Tensor:
        """Of the output: it tells width, dtype and device."""
        return cast(nn.Linear, self[-1]).bias


class InternVLChat(nn.Module):
    """``vision_model`` has only the layers up to ``select_layer``: what comes after is never looked at."""

    def __init__(self, config: ChatConfig, attention: Attention = Attention.SDPA) -> None:
        """Raises WeightsError for a config whose parts do not go together."""
        super().__init__()
        depth, seen = layers_used(config), BLOCK * config.vision.hidden_size
        if config.hico and seen % config.language.num_attention_heads:
            raise WeightsError(
                f"config.json: HiCo compares tokens by as many heads as the language model has, and its "
                f"{config.language.num_attention_heads} do not divide {seen}: is this config.json of these weights?"
            )
        self.config = config
        self.vision_model = InternViT(dataclasses.replace(config.vision, num_hidden_layers=depth), attention)
        self.language_model = LanguageModel(config.language, attention)
        self.mlp1 = Projector(seen, config.language.hidden_size)

    def picture_features(self, pixels: Tensor, at_once: int = 8) -> Tensor:
        """(n, 3, s, s) normalised pixels → (n, tokens_per_tile, width), s a multiple of 28.

        At most ``at_once`` tiles (or one group of HiCo's frames) are in the vision model together, whatever n is. With
        HiCo the tiles are frames in the order of time, and what is called a frame of the result is a part of the tokens
        of its group. Raises UsageError for sizes and numbers that cannot be.
        """
        self.check_tiles(pixels.shape)
        parts = pixels.split(whole_groups(self.config, at_once)) if len(pixels) else ()
        found = [self._features(part) for part in parts]
        if not found:
            return self.mlp1.bias.new_zeros(0, self.config.tokens_per_tile(pixels.shape[-1]), len(self.mlp1.bias))
        return torch.cat(found)

    def merged(self, pixels: Tensor) -> Tensor:
        """What the projector reads, (n, tokens_per_tile, 4 × vision width), all n tiles at once."""
        tokens = pixel_shuffle(self.vision_model(pixels)[:, 1:], self.config.ps_version)
        hico = self.config.hico
        if hico is None:
            return tokens
        groups = tokens.reshape(len(tokens) // hico.frames, -1, tokens.shape[-1])
        heads = self.config.language.num_attention_heads
        return merge(groups, heads=heads, target=hico.tokens).reshape(len(tokens), -1, tokens.shape[-1])

    def _features(self, pixels: Tensor) -> Tensor:
        seen = self.merged(pixels)
        out: Tensor = self.mlp1(seen.to(self.mlp1.bias.device))
        return out

    def check_tiles(self, shape: Sequence[int]) -> None:
        """Raises UsageError unless so many tiles of such a size, (n, 3, s, s), can be looked at together."""
        n, _, height, width = shape
        block, hico = 2 * self.config.vision.patch_size, self.config.hico
        if height != width or height % block or not height:
            raise UsageError(f"tiles must be square, their sides multiples of {block} pixels, not {width} x {height}")
        if hico is None:
            return
        if n % hico.frames:
            raise UsageError(
                f"this model takes frames in groups of {hico.frames}, and {n} came: "
                f"take {n // hico.frames * hico.frames or hico.frames}"
            )
        if hico.frames * (height // block) ** 2 <= hico.tokens:
            raise UsageError(f"frames of {width} x {height} pixels are too small for this model: take larger ones")


def layers_used(config: ChatConfig) -> int:
    """How many layers of the vision model make the states that ``select_layer`` names. Raises WeightsError for none."""
    n_layers = config.vision.num_hidden_layers
    depth = config.select_layer if config.select_layer >= 0 else n_layers + 1 + config.select_layer
    if depth < 1:
        raise WeightsError(
            f"config.json: select_layer {config.select_layer} means the states before the first layer, which no "
            "official model uses: download config.json again"
        )
    return depth


def whole_groups(config: ChatConfig, tiles: int) -> int:
    """``tiles`` or a little fewer, so that no group of HiCo's frames is torn; at least one group."""
    group = config.hico.frames if config.hico else 1
    return max(group, tiles // group * group)


def pixel_shuffle(patches: Tensor, ps_version: str) -> Tensor:
    """(n, side², c) patches row by row → (n, side²/4, 4c): each block of 2 × 2 patches becomes one token, its upper
    left patch first, then the upper right, lower left and lower right one.

    With version "v2" tokens come row by row, with "v1", an oversight that its models were trained with, by columns.
    """
    half = int(patches.shape[1] ** 0.5) // 2
    blocks = patches.unflatten(1, (half, 2, half, 2))  # n, block row, row, block column, column, c
    order = (0, 1, 3, 2, 4, 5) if ps_version == "v2" else (0, 3, 1, 2, 4, 5)
    return blocks.permute(order).flatten(3).flatten(1, 2)
