"""QLLaMA (Chen et al., "InternVL", CVPR 2024, section 3.2): a LLaMA with 96 learnt queries that look at the picture.

Every second layer has cross-attention, for the first ``num_query_token`` places only and only where picture states are
given. Text alone never sees it. Module names are those of the official state dict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ivsearch.models.attention import Attention, attend
from ivsearch.models.float8 import Rows8
from ivsearch.models.fused import add_norm, gate, normalise, turn
from ivsearch.models.internvl_config import QllamaConfig
from ivsearch.models.norms import RMSNorm


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Cosines and sines of each place, (n, d) float32."""

    cosines: Tensor
    sines: Tensor

    def to(self, device: torch.device) -> Rotation:
        return self if self.cosines.device == device else Rotation(self.cosines.to(device), self.sines.to(device))


def rotation(places: Tensor, head_size: int, base: float) -> Rotation:
    """Of the places (n,) of a sequence."""
    steps = torch.arange(0, head_size, 2, dtype=torch.float32, device=places.device) / head_size
    angles = places.float()[:, None] / base**steps
    angles = torch.cat([angles, angles], -1)
    return Rotation(angles.cos(), angles.sin())


@dataclass(slots=True, eq=False)
class Cache:
    """Keys and values of the places already seen, (b, n, heads, d), a pair a layer."""

    keys: list[Tensor]
    values: list[Tensor]

    @classmethod
    def empty(cls) -> Cache:
        return cls([], [])

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], 1)
            self.values[layer] = torch.cat([self.values[layer], value], 1)
        return self.keys[layer], self.values[layer]

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows of the batch, repeated and in this order."""
        self.keys = [key.index_select(0, rows.to(key.device)) for key in self.keys]
        self.values = [value.index_select(0, rows.to(value.device)) for value in self.values]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What may be seen: ``mask`` (b or 1, 1, n, m), True where a place may look, or else ``causal`` or everything."""

    mask: Tensor | None = None
    causal: bool = False

    def to(self, device: torch.device) -> Sight:
        return self if self.mask is None else Sight(self.mask.to(device))


class SelfAttention(nn.Module):
    def __init__(self, config: QllamaConfig, attention: Attention) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.attention = config.num_attention_heads, attention
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor | Rows8, turned: Rotation, sight: Sight, cache: Cache | None, layer: int) -> Tensor:
        heads = (self.heads, -1)
        query = turn(self.q_proj(x).unflatten(-1, heads), turned.cosines, turned.sines)
        key = turn(self.k_proj(x).unflatten(-1, heads), turned.cosines, turned.sines)
        value = self.v_proj(x).unflatten(-1, heads)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        mixed = attend(query, key, value, mask=sight.mask, causal=sight.causal, implementation=self.attention)
        out: Tensor = self.o_proj(mixed)
        return out


class CrossAttention(nn.Module):
    """Queries look at all tokens of the picture. Its norms are inside it: what it adds to is not normalised."""

    def __init__(self, config: QllamaConfig, vision_width: int, attention: Attention) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.attention = config.num_attention_heads, attention
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(vision_width, width, bias=False)
        self.v_proj = nn.Linear(vision_width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.norm1 = RMSNorm(width, config.rms_norm_eps)
        self.norm2 = RMSNorm(vision_width, config.rms_norm_eps)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        heads = (self.heads, -1)
        asking, answering = normalise(x, self.norm1, self.q_proj), normalise(seen, self.norm2, self.k_proj)
        mixed = attend(
            self.q_proj(asking).unflatten(-1, heads),
            self.k_proj(answering).unflatten(-1, heads),
            self.v_proj(answering).unflatten(-1, heads),
            implementation=self.attention,
        )
        out: Tensor = self.o_proj(mixed)
        return out


class Mlp(nn.Module):
    def __init__(self, config: QllamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor | Rows8) -> Tensor:
        out: Tensor = self.down_proj(gate(self.gate_proj(x), self.up_proj(x)))
        return out


class Layer(nn.Module):
    def __init__(self, config: QllamaConfig, vision_width: int, crosses: bool, attention: Attention) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, attention)
        self.mlp = Mlp(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.cross_attn = CrossAttention(config, vision_width, attention) if crosses else None

    def look(self, x: Tensor, seen: Tensor, n_queries: int) -> Tensor:
        """Adds what the first ``n_queries`` places see."""
        if self.cross_attn is None:
            return x
        queries = x[:, :n_queries]
        return torch.cat([queries + self.cross_attn(queries, seen), x[:, n_queries:]], 1)


class Layers(nn.Module):
    """The official ``qllama.model``: token embeddings, layers, final norm."""

    def __init__(self, config: QllamaConfig, vision_width: int, attention: Attention) -> None:
        super().__init__()
        # Not by its size: torch would draw numbers for it, and even on the meta device import its compiler to do so.
        self.embed_tokens = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.hidden_size))
        self.layers = nn.ModuleList(
            Layer(config, vision_width, index % config.cross_attention_frequency == 0, attention)
            for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def blocks(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))


class Qllama(nn.Module):
    def __init__(self, config: QllamaConfig, vision_width: int, attention: Attention = Attention.SDPA) -> None:
        super().__init__()
        self.config = config
        self.model = Layers(config, vision_width, attention)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """(b, n) ids → (b, n, width)."""
        embedded: Tensor = self.model.embed_tokens(ids.to(self.model.embed_tokens.weight.device))
        return embedded

    def forward(
        self, x: Tensor, sight: Sight, *, seen: Tensor | None = None, start: int = 0, cache: Cache | None = None
    ) -> Tensor:
        """Embedded places (b, n, width) → their states after the final norm, (b, n, width).

        ``seen`` (b, tokens, vision width) are picture states, for the first ``num_query_token`` places of ``x``;
        ``start`` is the number of places before ``x``, whose keys and values ``cache`` holds.
        """
        config = self.config
        places = torch.arange(start, start + x.shape[1], device=x.device)
        turned = rotation(places, config.hidden_size // config.num_attention_heads, config.rope_theta)
        layers = self.model.blocks()
        # The sum of all layers is kept in float32: in bfloat16 each addition would round away what a layer adds.
        x = x.float().to(layers[0].input_layernorm.weight.device)
        normed = normalise(x, layers[0].input_layernorm, layers[0].self_attn.q_proj)
        for index, layer in enumerate(layers):
            following = layers[index + 1].input_layernorm if index + 1 < len(layers) else self.model.norm
            consumer = layers[index + 1].self_attn.q_proj if index + 1 < len(layers) else self.lm_head
            turned, sight = turned.to(x.device), sight.to(x.device)  # the layers may be spread over several GPUs
            mixed = layer.self_attn(normed, turned, sight, cache, index)
            if seen is None or layer.cross_attn is None:
                x, normed = add_norm(x, mixed, None, layer.post_attention_layernorm, layer.mlp.gate_proj)
            else:
                x = layer.look(x + mixed, seen.to(x.device), config.num_query_token)
                normed = normalise(x, layer.post_attention_layernorm, layer.mlp.gate_proj)
            mixed = layer.mlp(normed)
            if following.weight.device == x.device:
                x, normed = add_norm(x, mixed, None, following, consumer)
            else:
                x = (x + mixed).to(following.weight.device)
                normed = normalise(x, following, consumer)
        assert isinstance(normed, Tensor)  # lm_head stays in the model's own dtype
        return normed


def text_sight(ids: Tensor) -> Sight:
    """Of a text (b, n) that may hold zeros: each place sees itself and those before it whose id is above 0.

    Zeros at the end only are behind everything that counts, so that plain causal sight gives the same there.
    """
    holes = bool(((ids[:, :-1] == 0) & (ids[:, 1:] > 0)).any())
    return full_text_sight(ids) if holes else Sight(causal=True)


def full_text_sight(ids: Tensor) -> Sight:
    """Causal, and zeros hidden at every place, as the official code computes it also where nobody looks."""
    n = ids.shape[1]
    before = torch.ones(n, n, dtype=torch.bool, device=ids.device).tril()
    return Sight((before & (ids > 0)[:, None, :])[:, None])


def caption_sight(n_queries: int, n_text: int, device: torch.device) -> Sight:
    """Queries see each other; text sees the queries and the text up to itself."""
    mask = torch.ones(n_queries + n_text, n_queries + n_text, dtype=torch.bool, device=device).tril()
    mask[:n_queries, :n_queries] = True
    return Sight(mask[None, None])
