"""InternLM2 (Cai et al., "InternLM2 Technical Report", 2024), LLaMA (Touvron et al., 2023) and Qwen2 (Yang et al.,
2024): the same network under different names. Pre-norm with RMSNorm, grouped queries (Ainslie et al., "GQA", 2023),
rotary positions (Su et al., "RoFormer", 2021), gated feed-forward.

Module names are those of the official state dicts. Inference only. ``join`` lays weights that read the same states
side by side once they are loaded, so that one product does the work of several.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ivsearch.errors import NotFinite
from ivsearch.models.attention import Attention
from ivsearch.models.chat_config import LanguageConfig
from ivsearch.models.dtypes import more_exact
from ivsearch.models.float8 import Rows8
from ivsearch.models.fused import add_norm, gate_joined, has_kernels, normalise
from ivsearch.models.grouped_attention import Heads, attend_grouped, lay
from ivsearch.models.kv_cache import KVCache
from ivsearch.models.norms import RMSNorm


class InternLM2Attention(nn.Module):
    """``wqkv``: for each key head the query heads that share it, the key and the value."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        width, d = config.hidden_size, config.head_size
        kv_heads = config.num_key_value_heads
        self.heads = Heads(config.num_attention_heads, kv_heads, d, packed=True)
        self.wqkv = _linear(width, (config.num_attention_heads + 2 * kv_heads) * d)
        self.wo = _linear(config.num_attention_heads * d, width)

    @property
    def reader(self) -> nn.Module:
        return self.wqkv

    def project(self, x: Tensor | Rows8) -> Tensor:
        return cast(Tensor, self.wqkv(x))

    def out(self, mixed: Tensor) -> Tensor:
        return cast(Tensor, self.wo(mixed))


class LlamaAttention(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        width, d, bias = config.hidden_size, config.head_size, config.qkv_bias
        self.heads = Heads(config.num_attention_heads, config.num_key_value_heads, d, packed=False)
        self.q_proj = _linear(width, config.num_attention_heads * d, bias)
        self.k_proj = _linear(width, config.num_key_value_heads * d, bias)
        self.v_proj = _linear(width, config.num_key_value_heads * d, bias)
        self.o_proj = _linear(config.num_attention_heads * d, width)
        self.joined: nn.Module | None = None

    @property
    def reader(self) -> nn.Module:
        return self.q_proj if self.joined is None else self.joined

    def join(self) -> None:
        self.joined = _joined([self.q_proj, self.k_proj, self.v_proj])
        del self.q_proj, self.k_proj, self.v_proj

    def project(self, x: Tensor | Rows8) -> Tensor:
        if self.joined is not None:
            return cast(Tensor, self.joined(x))
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)

    def out(self, mixed: Tensor) -> Tensor:
        return cast(Tensor, self.o_proj(mixed))


class InternLM2FeedForward(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.w1 = _linear(config.hidden_size, config.intermediate_size)
        self.w3 = _linear(config.hidden_size, config.intermediate_size)
        self.w2 = _linear(config.intermediate_size, config.hidden_size)
        self.joined: nn.Module | None = None

    @property
    def reader(self) -> nn.Module:
        return self.w1 if self.joined is None else self.joined

    def join(self) -> None:
        self.joined = _joined([self.w1, self.w3])
        del self.w1, self.w3

    def forward(self, x: Tensor | Rows8) -> Tensor:
        both = torch.cat([self.w1(x), self.w3(x)], -1) if self.joined is None else self.joined(x)
        return cast(Tensor, self.w2(gate_joined(both, self.w2)))


class LlamaFeedForward(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = _linear(config.hidden_size, config.intermediate_size)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size)
        self.joined: nn.Module | None = None

    @property
    def reader(self) -> nn.Module:
        return self.gate_proj if self.joined is None else self.joined

    def join(self) -> None:
        self.joined = _joined([self.gate_proj, self.up_proj])
        del self.gate_proj, self.up_proj

    def forward(self, x: Tensor | Rows8) -> Tensor:
        both = torch.cat([self.gate_proj(x), self.up_proj(x)], -1) if self.joined is None else self.joined(x)
        return cast(Tensor, self.down_proj(gate_joined(both, self.down_proj)))


class Layer(Protocol):
    """A block by what its parts do; ``LanguageModel.forward`` adds and normalises."""

    @property
    def attending(self) -> InternLM2Attention | LlamaAttention: ...
    @property
    def feeding(self) -> InternLM2FeedForward | LlamaFeedForward: ...
    @property
    def first_norm(self) -> RMSNorm: ...
    @property
    def second_norm(self) -> RMSNorm: ...


class InternLM2Layer(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.attention = InternLM2Attention(config)
        self.feed_forward = InternLM2FeedForward(config)
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def attending(self) -> InternLM2Attention:
        return self.attention

    @property
    def feeding(self) -> InternLM2FeedForward:
        return self.feed_forward

    @property
    def first_norm(self) -> RMSNorm:
        return self.attention_norm

    @property
    def second_norm(self) -> RMSNorm:
        return self.ffn_norm


class LlamaLayer(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaFeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def attending(self) -> LlamaAttention:
        return self.self_attn

    @property
    def feeding(self) -> LlamaFeedForward:
        return self.mlp

    @property
    def first_norm(self) -> RMSNorm:
        return self.input_layernorm

    @property
    def second_norm(self) -> RMSNorm:
        return self.post_attention_layernorm


class InternLM2Layers(nn.Module):
    """The official ``model`` of InternLM2: token embeddings, layers, final norm."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.tok_embeddings = _embedding(config)
        self.layers = nn.ModuleList(InternLM2Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def words(self) -> nn.Embedding:
        return self.tok_embeddings


class LlamaLayers(nn.Module):
    """The official ``model`` of LLaMA and Qwen2."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.embed_tokens = _embedding(config)
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def words(self) -> nn.Embedding:
        return self.embed_tokens


class LanguageModel(nn.Module):
    def __init__(self, config: LanguageConfig, attention: Attention = Attention.SDPA) -> None:
        super().__init__()
        self.config, self.attention = config, attention
        # What is tied in a config is written out in the official files all the same.
        if config.family == "internlm2":
            self.model: InternLM2Layers | LlamaLayers = InternLM2Layers(config)
            self.output = _linear(config.hidden_size, config.vocab_size)
        else:
            self.model = LlamaLayers(config)
            self.lm_head = _linear(config.hidden_size, config.vocab_size)

    @property
    def head(self) -> nn.Linear:
        return self.output if self.config.family == "internlm2" else self.lm_head

    def blocks(self) -> list[Layer]:
        return cast("list[Layer]", list(self.model.layers))

    @property
    def devices(self) -> list[torch.device]:
        """Of each layer."""
        return [layer.first_norm.weight.device for layer in self.blocks()]

    def join(self) -> None:
        """Lays weights side by side, a layer at a time. Once, after the weights are loaded: their names change."""
        for layer in self.blocks():
            join(layer)

    def not_finite(self) -> NotFinite:
        """The error for NaN or infinity among its numbers."""
        dtype = str(self.model.norm.weight.dtype).removeprefix("torch.")
        return NotFinite(f"the language model gives no finite numbers in {dtype}: {more_exact(dtype)}")

    def cache(self, rows: int, capacity: int) -> KVCache:
        """An empty one. Raises torch.OutOfMemoryError without room."""
        config, dtype = self.config, self.model.norm.weight.dtype
        return KVCache(rows, config.num_key_value_heads, capacity, config.head_size, dtype, self.devices)

    def embed(self, ids: Tensor) -> Tensor:
        """(b, n) ids → (b, n, width)."""
        return cast(Tensor, self.model.words(ids.to(self.model.words.weight.device)))

    def logits(self, states: Tensor) -> Tensor:
        """States after the final norm (…, width) → (…, vocabulary) float32."""
        return cast(Tensor, self.head(states.to(self.head.weight.device))).float()

    def forward(self, x: Tensor, cache: KVCache) -> Tensor:
        """Embedded places (b, n, width), after those in ``cache`` → their states after the final norm, (b, n, width).

        Their keys and values go into ``cache``, whose capacity must hold them.
        """
        layers = self.blocks()
        n = x.shape[1]
        one = n == 1 and layers[0].attending.heads.suit_kernels and has_kernels(layers[0].first_norm.weight)
        turned = self.rotation(cache.places(n), cache.length + n)
        mask = None if one else cache.mask(n)
        x = x.to(layers[0].first_norm.weight.device)
        normed = normalise(x, layers[0].first_norm, layers[0].attending.reader)
        for index, layer in enumerate(layers):
            following: RMSNorm = layers[index + 1].first_norm if index + 1 < len(layers) else self.model.norm
            consumer = layers[index + 1].attending.reader if index + 1 < len(layers) else self.head
            turned = (turned[0].to(x.device), turned[1].to(x.device))  # the layers may be spread over several GPUs
            mask = None if mask is None else mask.to(x.device)
            attending = layer.attending
            query = lay(attending.project(normed), attending.heads, turned, cache, index)
            mixed = attending.out(attend_grouped(query, cache, index, mask, one, self.attention))
            x, normed = add_norm(x, mixed, None, layer.second_norm, layer.feeding.reader)
            mixed = layer.feeding(normed)
            if following.weight.device == x.device:
                x, normed = add_norm(x, mixed, None, following, consumer)
            else:
                x = (x + mixed).to(following.weight.device)
                normed = normalise(x, following, consumer)
        cache.advance(n)
        assert isinstance(normed, Tensor)  # the head stays in the model's own dtype
        return normed

    def rotation(self, places: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the places (b, n), each (b, n, d/2) float32.

        Sequences longer than the model was made for turn more slowly (dynamic NTK scaling), by their length so far.
        """
        config = self.config
        d, base = config.head_size, config.rope_theta
        if config.rope_factor is not None and total > config.max_position_embeddings:
            stretch = config.rope_factor * total / config.max_position_embeddings - (config.rope_factor - 1)
            base *= stretch ** (d / (d - 2))
        steps = torch.arange(0, d, 2, dtype=torch.float32, device=places.device) / d
        angles = places[..., None] * (1.0 / base**steps)
        return angles.cos(), angles.sin()


def join(layer: Layer) -> None:
    layer.feeding.join()
    if isinstance(layer.attending, LlamaAttention):
        layer.attending.join()


def _linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)


def _embedding(config: LanguageConfig) -> nn.Embedding:
    # Not by its size: torch would draw numbers for it, and even on the meta device import its compiler to do so.
    return nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.hidden_size))


def _joined(layers: list[nn.Linear]) -> nn.Linear:
    """One linear layer that gives the outputs of all of them, one after the other."""
    first = layers[0]
    with torch.device("meta"):
        joined = nn.Linear(first.in_features, sum(each.out_features for each in layers), bias=first.bias is not None)
    joined.weight = nn.Parameter(torch.cat([each.weight for each in layers]), requires_grad=False)
    if first.bias is not None:
        joined.bias = nn.Parameter(torch.cat([each.bias for each in layers]), requires_grad=False)
    return joined
