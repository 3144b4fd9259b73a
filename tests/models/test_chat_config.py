"""config.json of the chat models: those that are published, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ivsearch.errors import WeightsError
from ivsearch.models.chat_config import ChatConfig, Hico, chat_config
from ivsearch.models.internvl_chat import InternVLChat

SMALL_EYES = {
    "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_hidden_layers": 24,
    "image_size": 448, "norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True,
}  # fmt: skip
LARGE_EYES = {
    "hidden_size": 3200, "num_attention_heads": 25, "intermediate_size": 12800, "num_hidden_layers": 45,
    "image_size": 448, "qk_normalization": True, "qkv_bias": False,
}  # fmt: skip
DYNAMIC = {"type": "dynamic", "factor": 2.0}


def language(family: str, width: int, layers: int, heads: int, kv: int, mlp: int, words: int) -> dict[str, Any]:
    families: dict[str, dict[str, Any]] = {
        "internlm2": {"bias": False, "rope_scaling": DYNAMIC, "rope_theta": 1000000, "pad_token_id": 2},
        "qwen2": {"use_sliding_window": False, "sliding_window": 32768, "rope_theta": 1e6, "pad_token_id": None},
        "llama": {"attention_bias": False, "rope_scaling": None, "rope_theta": 5e6, "pad_token_id": 0},
    }
    return {
        "model_type": family, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "intermediate_size": mlp, "vocab_size": words, "hidden_act": "silu",
        "max_position_embeddings": 32768, "attn_implementation": "flash_attention_2", "tie_word_embeddings": False,
        **families[family],
    }  # fmt: skip


def whole(eyes: dict[str, Any], llm: dict[str, Any], template: str, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5,
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"}, "force_image_size": 448,
        "dynamic_image_size": True, "max_dynamic_patch": 12, "min_dynamic_patch": 1, "ps_version": "v2",
        "select_layer": -1, "template": template, "use_backbone_lora": 0, "use_llm_lora": 0, "use_thumbnail": True,
        "vision_config": eyes, "llm_config": llm, **more,
    }  # fmt: skip


INTERNLM_1_8B = language("internlm2", 2048, 24, 16, 8, 8192, 92553)
INTERNLM_7B = language("internlm2", 4096, 32, 32, 8, 14336, 92553)
INTERNLM_20B = language("internlm2", 6144, 48, 48, 8, 16384, 92553)
QWEN_HALF_B = language("qwen2", 896, 24, 14, 2, 4864, 151674)
QWEN_3B = language("qwen2", 2048, 36, 16, 2, 11008, 151674)
QWEN_32B = language("qwen2", 5120, 64, 40, 8, 27648, 151674)
QWEN_72B = language("qwen2", 8192, 80, 64, 8, 29568, 151674)
YI_34B = language("llama", 7168, 60, 56, 8, 20480, 64007)
LLAMA3_70B = language("llama", 8192, 80, 64, 8, 28672, 128265)
HICO = {"auto_map": {"AutoModel": "modeling_internvl_chat_hico2.InternVLChatModel"}}
INTERNVL2_5_8B = whole(SMALL_EYES, INTERNLM_7B, "internvl2_5")

# Millions of parameters as the model cards give them.
PUBLISHED = {
    "InternVL2-1B": (whole(SMALL_EYES, QWEN_HALF_B | {"vocab_size": 151655}, "Hermes-2"), 938),
    "InternVL2-2B": (whole(SMALL_EYES, INTERNLM_1_8B, "internlm2-chat"), 2206),
    "InternVL2-8B": (whole(SMALL_EYES, INTERNLM_7B, "internlm2-chat"), 8075),
    "InternVL2-26B": (whole(LARGE_EYES, INTERNLM_20B, "internlm2-chat"), 25514),
    "InternVL2-40B": (whole(LARGE_EYES, YI_34B, "Hermes-2"), 40069),
    "InternVL2-Llama3-76B": (whole(LARGE_EYES, LLAMA3_70B, "internlm2-chat"), 76262),
    "InternVL2_5-1B": (whole(SMALL_EYES, QWEN_HALF_B, "internvl2_5"), 938),
    "InternVL2_5-2B": (whole(SMALL_EYES, INTERNLM_1_8B, "internvl2_5"), 2206),
    "InternVL2_5-4B": (whole(SMALL_EYES, QWEN_3B, "internvl2_5"), 3713),
    "InternVL2_5-8B": (INTERNVL2_5_8B, 8075),
    "InternVL2_5-26B": (whole(LARGE_EYES, INTERNLM_20B, "internvl2_5"), 25514),
    "InternVL2_5-38B": (whole(LARGE_EYES, QWEN_32B, "internvl2_5"), 38388),
    "InternVL2_5-78B": (whole(LARGE_EYES, QWEN_72B, "internvl2_5"), 78408),
    "InternVL-Chat-V1-2": (whole(LARGE_EYES, YI_34B, "Hermes-2", ps_version="v1", dynamic_image_size=False), 40069),
    "InternVL-Chat-V1-5": (whole(LARGE_EYES, INTERNLM_20B, "internlm2-chat"), 25514),
    "Mini-InternVL-Chat-2B-V1-5": (whole(SMALL_EYES, INTERNLM_1_8B, "internlm2-chat"), 2206),
    "InternVideo2_5_Chat_8B": (whole(SMALL_EYES, INTERNLM_7B, "internvl2_5", **HICO), 8075),
}


def read(config: dict[str, Any]) -> ChatConfig:
    return chat_config(config, "config.json")


def changed(part: str | None, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(INTERNVL2_5_8B))
    (config[part] if part else config).update(more)
    return config


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_as_many_parameters_as_its_card_says(name: str) -> None:
    values, millions = PUBLISHED[name]
    config = read(values)
    with torch.device("meta"):
        model = InternVLChat(config)
    n = sum(parameter.numel() for parameter in model.parameters())
    assert n == pytest.approx(millions * 10**6, rel=0.003)
    assert config.tokens_per_tile() == (16 if config.hico else 256)


def test_the_8b_models_have_exactly_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = InternVLChat(read(INTERNVL2_5_8B))
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_075_365_376


@pytest.mark.parametrize("name", ["chat_internlm2", "chat_qwen2", "chat_llama", "iv25_168", "iv25_448"])
def test_fixtures_are_read_as_the_official_code_reads_them(shared: Path, name: str) -> None:
    folder = shared / "parity" / name
    notes = json.loads((folder / "fixture.json").read_text())
    config = read(json.loads((folder / "config.json").read_text()))
    assert config.image_size == notes["image_size"]
    assert config.tokens_per_tile() == notes["num_image_token"]
    assert config.template == notes["template"]
    if config.hico:
        assert (config.hico.frames, config.hico.tokens) == (notes["local_num_frames"], notes["num_tome_tokens"])
    else:
        assert (config.ps_version, config.select_layer) == (notes["ps_version"], notes["select_layer"])
        assert config.language.family == notes["llm"]
        assert config.language.qkv_bias == (notes["llm"] == "qwen2")


def test_what_is_not_written_is_as_in_the_official_code() -> None:
    values = {key: INTERNVL2_5_8B[key] for key in ("template", "vision_config", "llm_config")}
    config = read(values)
    assert (config.ps_version, config.select_layer, config.image_size) == ("v1", -1, 448)
    assert config.min_tiles == 1
    assert (config.use_thumbnail, config.dynamic_image_size, config.system_message) == (False, False, None)


def test_the_forced_size_is_that_of_tiles_and_not_of_the_position_table() -> None:
    config = read(changed(None, force_image_size=224))
    assert (config.image_size, config.vision.image_size, config.tokens_per_tile()) == (224, 448, 64)
    assert config.tokens_per_tile(448) == 256


def test_a_null_system_message_is_none_at_all() -> None:
    assert read(changed(None, system_message=None)).system_message is None
    assert read(changed(None, system_message="")).system_message == ""


def test_architectures_name_the_family_where_nothing_else_does() -> None:
    llm = {key: value for key, value in QWEN_3B.items() if key != "model_type"}
    assert read(whole(SMALL_EYES, llm | {"architectures": ["Qwen2ForCausalLM"]}, "t")).language.family == "qwen2"


def test_hico_may_write_its_numbers_down() -> None:
    assert read(changed(None, **HICO)).hico == Hico(4, 64)
    written = read(changed(None, **HICO, local_num_frames=4, num_tome_tokens=256))
    assert (written.hico, written.tokens_per_tile()) == (Hico(4, 256), 64)
    assert read(changed(None, local_num_frames=1, num_tome_tokens=16)).hico == Hico(1, 16)


REFUSED = {
    "another layout": ({"vision_config": {}, "text_config": {}}, "config.json has no llm_config: it is not of an Inte"),
    "LoRA": (changed(None, use_llm_lora=16), "use_llm_lora is 16; this ivsearch knows 0, None"),
    "backbone LoRA": (changed(None, use_backbone_lora=8), "use_backbone_lora is 8"),
    "another shuffle": (changed(None, downsample_ratio=0.25), "downsample_ratio is 0.25"),
    "AWQ": (changed("llm_config", quantization_config={"bits": 4}), "quantization_config is set: take the model's ori"),
    "AWQ outside": (changed(None, quantization_config={"bits": 4}), "quantization_config is set"),
    "Phi-3": (changed("llm_config", model_type="phi3"), "model_type is 'phi3'; language models of this ivsearch are"),
    "no family": (changed("llm_config", model_type=None, architectures=[None]), "model_type is None"),
    "another activation": (changed("llm_config", hidden_act="gelu"), "hidden_act is 'gelu'"),
    "wide heads": (changed("llm_config", head_dim=256), "head_dim is 256; this ivsearch knows 128, None"),
    "bias": (changed("llm_config", bias=True), "llm_config: bias is True"),
    "attention bias": (changed("llm_config", attention_bias=True), "attention_bias is True"),
    "mlp bias": (changed("llm_config", mlp_bias=True), "mlp_bias is True"),
    "window": (changed("llm_config", use_sliding_window=True), "use_sliding_window is True"),
    "newer rope": (changed("llm_config", rope_parameters={"rope_theta": 1}), "rope_parameters is"),
    "kv heads": (changed("llm_config", num_key_value_heads=5), "num_key_value_heads 5 does not divide num_attention"),
    "linear rope": (changed("llm_config", rope_scaling={"type": "linear", "factor": 2}), "knows the type 'dynamic' on"),
    "yarn": (changed("llm_config", rope_scaling={"rope_type": "yarn", "factor": 4}), "rope_scaling is {'rope_type'"),
    "no rope": (changed("llm_config", rope_scaling="dynamic"), "rope_scaling is 'dynamic'; this ivsearch knows"),
    "a list of ropes": (changed("llm_config", rope_scaling={"type": ["dynamic"]}), "rope_scaling is {'type': ['dyna"),
    "a rope's list": (changed("llm_config", rope_scaling=["dynamic"]), "rope_scaling is ['dynamic']; this ivsearch k"),
    "odd heads": (changed("llm_config", hidden_size=96), "hidden_size over num_attention_heads is 3, an odd number,"),
    "tiny heads": (changed("llm_config", hidden_size=64), "rope_scaling 'dynamic' is not defined for heads of 2 numb"),
    "normed keys": (changed("llm_config", qk_layernorm=True), "qk_layernorm is True; this ivsearch knows False, None"),
    "soft caps": (changed("llm_config", attn_logit_softcapping=50.0), "attn_logit_softcapping is 50.0; this ivsearch"),
    "final caps": (changed("llm_config", final_logit_softcapping=30.0), "final_logit_softcapping is 30.0; this ivsear"),
    "tiles": (changed(None, min_dynamic_patch=13), "min_dynamic_patch 13 is above max_dynamic_patch 12"),
    "shrinking rope": (changed("llm_config", rope_scaling=DYNAMIC | {"factor": 0.5}), "factor must be 1 or more, no"),
    "padding": (changed("llm_config", pad_token_id=92553), "pad_token_id must be a token id below 92553, not 92553"),
    "layer": (changed(None, select_layer=-26), "select_layer must be a whole number from -25 to 24, not -26"),
    "layer's type": (changed(None, select_layer=True), "select_layer must be a whole number from -25 to 24, not True"),
    "odd tiles": (changed(None, force_image_size=450), "tiles of 450 pixels do not split into blocks of 2 x 2 patches"),
    "no template": (changed(None, template=None), "template must be a text, not None: is this the folder of another"),
    "system": (changed(None, system_message=3), "system_message must be a text, not 3"),
    "order": (changed(None, ps_version="v3"), "ps_version is 'v3'; this ivsearch knows 'v1', 'v2'"),
    "R64 by name": (
        changed(None, auto_map={"AutoModel": "modeling_internvl_chat_hico.InternVLChatModel"}),
        "not known of modeling_internvl_chat_hico: add local_num_frames and num_tome_tokens to that file, as the",
    ),
    "half of HiCo": (changed(None, num_tome_tokens=64), "not known of this model: add local_num_frames and num_tome_t"),
    "uneven HiCo": (changed(None, **HICO, num_tome_tokens=66), "num_tome_tokens 66 is not divisible by local_num_fra"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_change_numbers_in_an_unknown_way_is_refused(what: str) -> None:
    values, message = REFUSED[what]
    with pytest.raises(WeightsError) as caught:
        read(values)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config.json")
