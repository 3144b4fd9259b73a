"""What config.json of the InternVL chat models says: InternVL-Chat-V1-2 to InternVL2.5, and InternVideo2.5.

Unknown keys are ignored; a key that would change the numbers in a way this code does not know is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ivsearch.errors import WeightsError
from ivsearch.models.internvl_config import MOST_LAYERS, Table, VisionConfig, divisible_width, vision_part

FAMILIES = ("internlm2", "qwen2", "llama")
# The module of the official code that has these numbers written into it.
HICO_R16 = "modeling_internvl_chat_hico2"
HICO_FRAMES, HICO_TOKENS = 4, 64
HICO_KEYS = ("local_num_frames", "num_tome_tokens")
LONGEST_CONTEXT = 10**8


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """The language model. ``family``: "internlm2", "qwen2" or "llama".

    ``rope_factor``: that of dynamic NTK scaling, which acts beyond ``max_position_embeddings`` tokens; None without.
    ``pad_token_id``: what official batches are filled with after the end; None: the stop token.
    """

    family: str
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    num_hidden_layers: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    rope_factor: float | None
    pad_token_id: int | None

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def most_tokens(self) -> int | None:
        """What it reads at most; None where longer texts turn their positions more slowly instead."""
        return self.max_position_embeddings if self.rope_factor is None else None

    @property
    def qkv_bias(self) -> bool:
        return self.family == "qwen2"


@dataclass(frozen=True, slots=True)
class Hico:
    """Hierarchical token compression (InternVideo2.5): each ``frames`` frames become ``tokens`` tokens together."""

    frames: int = HICO_FRAMES
    tokens: int = HICO_TOKENS


@dataclass(frozen=True, slots=True)
class ChatConfig:
    """A whole chat model.

    ``image_size``: pixels a side of a tile; ``vision.image_size`` is what the position table on disk was made for.
    ``select_layer`` indexes the hidden states of the vision model (0: before its first layer, -1: after its last).
    ``ps_version``: "v1" | "v2", the order of the tokens after pixel shuffle. ``system_message`` None: the template's.
    """

    vision: VisionConfig
    language: LanguageConfig
    template: str
    select_layer: int
    ps_version: str
    image_size: int
    min_tiles: int
    use_thumbnail: bool
    dynamic_image_size: bool
    system_message: str | None
    hico: Hico | None

    def tokens_per_tile(self, side: int | None = None) -> int:
        """Tokens a tile of ``side`` pixels (default ``image_size``) takes in the prompt."""
        if self.hico:
            return self.hico.tokens // self.hico.frames
        return ((side or self.image_size) // self.vision.patch_size) ** 2 // 4


def chat_config(config: Mapping[str, Any], where: str) -> ChatConfig:
    """Of a chat model; ``where`` names the file in complaints.

    Raises WeightsError, naming the key that is missing, wrong or not known.
    """
    table = Table(config, where)
    if "llm_config" not in config:
        raise WeightsError(
            f"{where} has no llm_config: it is not of an InternVL chat model in the official layout "
            "(conversions to other layouts, such as those named -hf, are not read)"
        )
    for key in ("use_backbone_lora", "use_llm_lora"):
        table.one_of(key, (0, None), 0)  # their tensors would have other names
    table.one_of("downsample_ratio", (0.5,), 0.5)
    _no_quantisation(table)
    vision = vision_part(table.inner("vision_config"))
    language = _language(table.inner("llm_config"))
    return ChatConfig(
        vision=vision,
        language=language,
        template=_text(table, "template"),
        select_layer=_select_layer(table, vision.num_hidden_layers),
        ps_version=table.one_of("ps_version", ("v1", "v2"), "v1"),
        image_size=_image_size(table, vision),
        min_tiles=_min_tiles(table),
        use_thumbnail=table.one_of("use_thumbnail", (True, False), False),
        dynamic_image_size=table.one_of("dynamic_image_size", (True, False), False),
        # Newer official code prints a null here as the word None; that is taken for an oversight.
        system_message=None if config.get("system_message") is None else _text(table, "system_message"),
        hico=_hico(table),
    )


def _language(table: Table) -> LanguageConfig:
    family = _family(table)
    _no_quantisation(table)
    heads = table.whole("num_attention_heads")
    width = divisible_width(table, heads)
    table.one_of("hidden_act", ("silu",), "silu")
    table.one_of("head_dim", (width // heads, None), None)
    for key in ("bias", "attention_bias", "mlp_bias", "use_sliding_window", "qk_layernorm"):
        table.one_of(key, (False, None), False)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        table.one_of(key, (None,), None)
    table.one_of("rope_parameters", (None,), None)
    vocab_size = table.whole("vocab_size")
    rope_factor = _rope_factor(table)
    _check_turning(table, width // heads, rope_factor)
    return LanguageConfig(
        family=family,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=_key_value_heads(table, heads),
        intermediate_size=table.whole("intermediate_size"),
        num_hidden_layers=table.whole("num_hidden_layers", largest=MOST_LAYERS),
        vocab_size=vocab_size,
        rms_norm_eps=table.number("rms_norm_eps", 1e-6),
        rope_theta=table.number("rope_theta", 10000.0),
        max_position_embeddings=table.whole("max_position_embeddings", 2048, LONGEST_CONTEXT),
        rope_factor=rope_factor,
        pad_token_id=None if table.values.get("pad_token_id") is None else table.token("pad_token_id", 0, vocab_size),
    )


def _family(table: Table) -> str:
    family = table.values.get("model_type") or _of_architecture(table.values.get("architectures"))
    if family in FAMILIES:
        return str(family)
    raise WeightsError(
        f"{table.where}: model_type is {family!r}; language models of this ivsearch are {', '.join(FAMILIES)}: "
        "take an InternVL of another size"
    )


def _of_architecture(names: Any) -> str | None:
    """``["Qwen2ForCausalLM"]`` → ``qwen2``: older files name nothing else."""
    first = names[0] if isinstance(names, list) and names else None
    return first.removesuffix("ForCausalLM").lower() if isinstance(first, str) else None


def _key_value_heads(table: Table, heads: int) -> int:
    found = table.whole("num_key_value_heads", heads)
    if heads % found:
        raise WeightsError(f"{table.where}: num_key_value_heads {found} does not divide num_attention_heads {heads}")
    return found


def _rope_factor(table: Table) -> float | None:
    scaling = table.values.get("rope_scaling")
    if scaling is None:
        return None
    kinds = [scaling.get(key, "dynamic") for key in ("type", "rope_type")] if isinstance(scaling, Mapping) else []
    if kinds != ["dynamic", "dynamic"]:
        raise WeightsError(f"{table.where}: rope_scaling is {scaling!r}; this ivsearch knows the type 'dynamic' only")
    factor = table.inner("rope_scaling").number("factor", 1.0)
    if factor < 1:
        raise WeightsError(f"{table.where}, rope_scaling: factor must be 1 or more, not {factor!r}")
    return factor


def _check_turning(table: Table, head_size: int, rope_factor: float | None) -> None:
    """Positions turn pairs of a head's numbers, and the NTK formula has an exponent d / (d - 2)."""
    if head_size % 2:
        raise WeightsError(
            f"{table.where}: hidden_size over num_attention_heads is {head_size}, an odd number, which rotary "
            "positions cannot turn"
        )
    if rope_factor is not None and head_size == 2:
        raise WeightsError(f"{table.where}: rope_scaling 'dynamic' is not defined for heads of 2 numbers")


def _no_quantisation(table: Table) -> None:
    if table.values.get("quantization_config") is not None:
        raise WeightsError(f"{table.where}: quantization_config is set: take the model's original, unquantised weights")


def _select_layer(table: Table, n_layers: int) -> int:
    value = table.values.get("select_layer", -1)
    if isinstance(value, bool) or not isinstance(value, int) or not -n_layers - 1 <= value <= n_layers:
        raise WeightsError(
            f"{table.where}: select_layer must be a whole number from {-n_layers - 1} to {n_layers}, not {value!r}"
        )
    return value


def _min_tiles(table: Table) -> int:
    least, most = table.whole("min_dynamic_patch", 1), table.whole("max_dynamic_patch", 6)
    if least > most:
        raise WeightsError(f"{table.where}: min_dynamic_patch {least} is above max_dynamic_patch {most}")
    return least


def _image_size(table: Table, vision: VisionConfig) -> int:
    size = table.whole("force_image_size", vision.image_size)
    if size % (2 * vision.patch_size):
        raise WeightsError(f"{table.where}: tiles of {size} pixels do not split into blocks of 2 x 2 patches")
    return size


def _text(table: Table, key: str) -> str:
    value = table.values.get(key)
    if not isinstance(value, str):
        raise WeightsError(f"{table.where}: {key} must be a text, not {value!r}: is this the folder of another model?")
    return value


def _hico(table: Table) -> Hico | None:
    module = _module(table)
    written = [key for key in HICO_KEYS if table.values.get(key) is not None]
    if module is None and not written:
        return None
    if module != HICO_R16 and len(written) < len(HICO_KEYS):
        raise WeightsError(
            f"{table.where}: how many tokens the frames are merged to is not known of {module or 'this model'}: "
            f"add {' and '.join(HICO_KEYS)} to that file, as the model's own code has them (4 and 64 for R16)"
        )
    hico = Hico(table.whole("local_num_frames", HICO_FRAMES), table.whole("num_tome_tokens", HICO_TOKENS))
    if hico.tokens % hico.frames:
        raise WeightsError(
            f"{table.where}: num_tome_tokens {hico.tokens} is not divisible by local_num_frames {hico.frames}"
        )
    return hico


def _module(table: Table) -> str | None:
    """The official code's module, when it is one that compresses."""
    auto_map = table.values.get("auto_map")
    named = auto_map.get("AutoModel") if isinstance(auto_map, Mapping) else None
    found = re.search(r"\w*hico\w*(?=\.)", named) if isinstance(named, str) else None
    return found[0] if found else None
