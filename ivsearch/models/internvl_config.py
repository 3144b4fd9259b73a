"""What config.json of the InternVL models says, read through an allow-list.

Unknown keys are ignored; a key that would change the numbers in a way this code does not know is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ivsearch.errors import WeightsError

LARGEST = 10**7
MOST_LAYERS = 1000
ROPE_THETA = 10000.0


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """InternViT. ``image_size`` in pixels is what the position table on disk was made for."""

    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    num_hidden_layers: int
    patch_size: int
    image_size: int
    norm_type: str
    layer_norm_eps: float
    qk_normalization: bool
    qkv_bias: bool

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, slots=True)
class QllamaConfig:
    """QLLaMA: a LLaMA whose every ``cross_attention_frequency``-th layer lets queries look at the picture."""

    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    num_hidden_layers: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    num_query_token: int
    cross_attention_frequency: int
    eos_token_id: int


@dataclass(frozen=True, slots=True)
class InternVLConfig:
    """InternVL-14B: InternVL-C and InternVL-G in one."""

    vision: VisionConfig
    qllama: QllamaConfig
    clip_embed_dim: int
    attn_pool_num_heads: int


class Table:
    """A JSON object with where it stands, so that a complaint can name the key."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def whole(self, key: str, default: int | None = None, largest: int = LARGEST) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= largest:
            raise WeightsError(f"{self.where}: {key} must be a whole number from 1 to {largest}, not {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise WeightsError(f"{self.where}: {key} must be a number above 0, not {value!r}")
        return float(value)

    def token(self, key: str, default: int, vocab_size: int) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocab_size:
            raise WeightsError(f"{self.where}: {key} must be a token id below {vocab_size}, not {value!r}")
        return value

    def one_of(self, key: str, known: tuple[Any, ...], default: Any) -> Any:
        value = self.values.get(key, default)
        if value not in known:
            raise WeightsError(f"{self.where}: {key} is {value!r}; this ivsearch knows {', '.join(map(repr, known))}")
        return value

    def inner(self, key: str) -> Table:
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            raise WeightsError(f"{self.where} has no {key}: is this the folder of another model?")
        return Table(value, f"{self.where}, {key}")

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key, default)
        if value is None and default is None:
            raise WeightsError(f"{self.where} has no {key}: is this the folder of another model?")
        return default if value is None else value


def vision_config(config: Mapping[str, Any], where: str = "config.json") -> VisionConfig:
    """Of a stand-alone InternViT. Raises WeightsError, naming the key that is missing, wrong or not known."""
    return vision_part(Table(config, where))


def internvl_config(config: Mapping[str, Any], where: str = "config.json") -> InternVLConfig:
    """Of InternVL-14B. Raises WeightsError, naming the key that is missing, wrong or not known."""
    table = Table(config, where)
    for key in ("use_backbone_lora", "use_qllama_lora"):
        table.one_of(key, (0, None), 0)  # their tensors would have other names
    qllama = table.inner("qllama_config")
    # A checkpoint fine-tuned at another size has its position table in that size (`force_image_size`).
    forced = table.whole("force_image_size", 0) if config.get("force_image_size") else None
    vision = vision_part(table.inner("vision_config"), forced)
    heads = qllama.whole("num_attention_heads")
    qllama.one_of("num_key_value_heads", (heads, None), heads)
    qllama.one_of("hidden_act", ("silu",), "silu")
    qllama.one_of("attention_bias", (False,), False)
    qllama.one_of("rope_scaling", (None,), None)
    qllama.one_of("rope_theta", (ROPE_THETA, None), ROPE_THETA)  # the official code does not read it
    vocab_size = qllama.whole("vocab_size")
    pool_heads = table.whole("attn_pool_num_heads", 16)
    for width in (vision.hidden_size, qllama.whole("hidden_size")):
        if width % pool_heads:
            raise WeightsError(f"{where}: attn_pool_num_heads {pool_heads} does not divide hidden_size {width}")
    return InternVLConfig(
        vision=vision,
        qllama=QllamaConfig(
            hidden_size=divisible_width(qllama, heads),
            num_attention_heads=heads,
            intermediate_size=qllama.whole("intermediate_size"),
            num_hidden_layers=qllama.whole("num_hidden_layers", largest=MOST_LAYERS),
            vocab_size=vocab_size,
            rms_norm_eps=qllama.number("rms_norm_eps", 1e-6),
            rope_theta=ROPE_THETA,
            # The outer values win over those inside qllama_config, as in the official code.
            num_query_token=table.whole("num_query_token", 96),
            cross_attention_frequency=table.whole("cross_attention_frequency", 2),
            eos_token_id=qllama.token("eos_token_id", 2, vocab_size),
        ),
        clip_embed_dim=table.whole("clip_embed_dim", 768),
        attn_pool_num_heads=pool_heads,
    )


def vision_part(table: Table, forced_image_size: int | None = None) -> VisionConfig:
    """Of the ``vision_config`` of a larger model."""
    heads = table.whole("num_attention_heads")
    table.one_of("hidden_act", ("gelu",), "gelu")
    table.one_of("num_channels", (3,), 3)
    return VisionConfig(
        hidden_size=divisible_width(table, heads),
        num_attention_heads=heads,
        intermediate_size=table.whole("intermediate_size"),
        num_hidden_layers=table.whole("num_hidden_layers", largest=MOST_LAYERS),
        patch_size=table.whole("patch_size", 14),
        image_size=forced_image_size or table.whole("image_size"),
        norm_type=table.one_of("norm_type", ("rms_norm", "layer_norm"), "rms_norm"),
        layer_norm_eps=table.number("layer_norm_eps", 1e-6),
        qk_normalization=table.one_of("qk_normalization", (True, False), True),
        qkv_bias=table.one_of("qkv_bias", (True, False), False),
    )


def divisible_width(table: Table, heads: int) -> int:
    """``hidden_size``, which the heads must share evenly."""
    width = table.whole("hidden_size")
    if width % heads:
        raise WeightsError(f"{table.where}: hidden_size {width} is not divisible by num_attention_heads {heads}")
    return width
