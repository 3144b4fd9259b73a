"""InternViT (Chen et al., "InternVL", CVPR 2024, section 3.2): a plain ViT with layer scale, and at 6B with RMSNorm
and queries and keys normalised over their full width.

Module names are those of the official state dict. Inference only: no dropout, no drop path.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivsearch.models.attention import Attention, attend
from ivsearch.models.fused import add_norm, gelu, normalise, qk_norm
from ivsearch.models.internvl_config import VisionConfig
from ivsearch.models.norms import Norm, RMSNorm


class Embeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, 1 + config.grid**2, width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch)
        self.grid = config.grid

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) → (b, 1 + h/14 · w/14, width)."""
        patch = self.patch_embedding.kernel_size[0]
        rows, columns = pixels.shape[-2] // patch, pixels.shape[-1] // patch
        # Patches do not overlap: the convolution is a matrix product, which GPUs do ten times as fast.
        cut = (
            pixels[..., : rows * patch, : columns * patch].unflatten(-1, (columns, patch)).unflatten(-3, (rows, patch))
        )
        flat = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        patches = F.linear(flat, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        positions = resize_positions(self.position_embedding, self.grid, rows, columns)
        first = (self.class_embedding + positions[:, :1]).expand(len(pixels), -1, -1)
        return torch.cat([first, patches + positions[:, 1:]], 1)


def resize_positions(table: Tensor, grid: int, rows: int, columns: int) -> Tensor:
    """The position table (1, 1 + grid², width) for another grid: bicubic in float32; the class token's stays."""
    if (rows, columns) == (grid, grid):
        return table
    square = table[:, 1:].float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2).to(table.dtype)], 1)


class SelfAttention(nn.Module):
    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.attention = config.num_attention_heads, attention
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.qk_normalization = config.qk_normalization
        if config.qk_normalization:
            self.q_norm = RMSNorm(width, config.layer_norm_eps)
            self.k_norm = RMSNorm(width, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        if self.qk_normalization:
            qkv = qk_norm(qkv, self.q_norm, self.k_norm)
        query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        out: Tensor = self.proj(attend(query, key, value, implementation=self.attention))
        return out


class Mlp(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(x), self.fc2))
        return out


class Layer(nn.Module):
    """One block. What it adds to the stream is scaled by ``ls1`` and ``ls2``; ``InternViT.forward`` does the adding,
    together with the next block's norm."""

    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        self.attn = SelfAttention(config, attention)
        self.mlp = Mlp(config)
        self.norm1 = _norm(config)
        self.norm2 = _norm(config)
        self.ls1 = nn.Parameter(torch.empty(config.hidden_size))
        self.ls2 = nn.Parameter(torch.empty(config.hidden_size))


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig, attention: Attention) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.num_hidden_layers))

    def blocks(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))


class InternViT(nn.Module):
    """Pictures → token states. There is no final norm."""

    def __init__(self, config: VisionConfig, attention: Attention = Attention.SDPA) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, attention)

    def forward(self, pixels: Tensor, hidden_states: list[Tensor] | None = None) -> Tensor:
        """(b, 3, h, w) normalised pixels, sides multiples of 14 → (b, 1 + patches, width); token 0 is the class token.

        ``hidden_states``, when given, receives the states before the first and after every block.
        """
        layers = self.encoder.blocks()
        first = self.embeddings.class_embedding
        x = self.embeddings(pixels.to(first.device, first.dtype)).to(layers[0].ls1.device)
        normed = normalise(x, layers[0].norm1, layers[0].attn.qkv)
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if hidden_states is not None:
                hidden_states.append(x)
            x, normed = add_norm(x, layer.attn(normed), layer.ls1, layer.norm2, layer.mlp.fc1)
            mixed = layer.mlp(normed)
            if following is None:
                x = x + layer.ls2 * mixed
            elif following.ls1.device == x.device:
                x, normed = add_norm(x, mixed, layer.ls2, following.norm1, following.attn.qkv)
            else:
                x = (x + layer.ls2 * mixed).to(following.ls1.device)
                normed = normalise(x, following.norm1, following.attn.qkv)
        if hidden_states is not None:
            hidden_states.append(x)
        return x


def _norm(config: VisionConfig) -> Norm:
    if config.norm_type == "layer_norm":
        return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
    return RMSNorm(config.hidden_size, config.layer_norm_eps)
