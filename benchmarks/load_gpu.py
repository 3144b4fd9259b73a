"""A checkpoint of InternVL-14B's full size, from files to vectors: how long loading takes, what it needs, how fast the
encoders are through ``load_encoder``, on one GPU and on all.

    python benchmarks/load_gpu.py --folder /tmp/internvl --tokenizer TOKENIZER.MODEL --json benchmarks/load_gpu.json

Writes 27.7 GB of random weights in the official layout into ``--folder`` first. They are kept, and another run uses
them again: only then is the peak of main memory that of loading.
``TOKENIZER.MODEL`` is the official one, or any with 49,954 pieces at most.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ivsearch.encode import load_encoder
from ivsearch.encode.internvl import InternVLEncoder
from ivsearch.models.internvl import InternVL
from ivsearch.models.internvl_config import internvl_config

CONFIG = {
    "model_type": "internvl", "attn_pool_num_heads": 16, "clip_embed_dim": 768, "force_image_size": None,
    "num_query_token": 96, "use_backbone_lora": 0, "use_qllama_lora": 0,
    "qllama_config": {
        "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008,
        "num_hidden_layers": 32, "vocab_size": 49954, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    },
    "vision_config": {
        "hidden_size": 3200, "num_attention_heads": 25, "intermediate_size": 12800, "num_hidden_layers": 48,
        "patch_size": 14, "image_size": 224, "qk_normalization": True, "qkv_bias": False, "hidden_act": "gelu",
    },
}  # fmt: skip
SHARD_BYTES = 10_000_000_000
SEED = 0


def write_checkpoint(folder: Path, tokenizer: Path) -> None:
    """Random weights in bfloat16, three shards and their index, as the official repository has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(tokenizer, folder / "tokenizer.model")
    with torch.device("meta"):
        shapes = {name: slot.shape for name, slot in InternVL(internvl_config(CONFIG)).state_dict().items()}
    generator = torch.Generator("cuda").manual_seed(SEED)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    number, held = 1, 0
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator, device="cuda")
        if len(shape) >= 2:
            values /= max(1, shape[-1]) ** 0.5
        elif "norm" in name and name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.05
        if held > SHARD_BYTES:
            save_file(shard, folder / f"model-{number:05d}-of-00003.safetensors", {"format": "pt"})
            shard, held, number = {}, 0, number + 1
        shard[name] = values.bfloat16().cpu()
        held += shard[name].nbytes
        weight_map[name] = f"model-{number:05d}-of-00003.safetensors"
    save_file(shard, folder / f"model-{number:05d}-of-00003.safetensors", {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def seconds(act: Callable[[], object], repeats: int = 1) -> float:
    """The median, until the results are in main memory."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def peak_ram_gib() -> float:
    """Of the process, pages of mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(folder: Path, device: str, dtype: str) -> dict[str, float]:
    """One encoder, from its files to vectors."""
    gc.collect()
    torch.cuda.empty_cache()
    for index in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(index)
    found: dict[str, float] = {}
    started = time.perf_counter()
    encoder = load_encoder("internvl-c", weights=folder, device=device, dtype=dtype)
    assert isinstance(encoder, InternVLEncoder)
    found["load_encoder_s"] = time.perf_counter() - started
    batch = np.random.default_rng(SEED).standard_normal((encoder.batch_size * 2, 3, 224, 224), np.float32)
    found["vision_tower_s"] = seconds(lambda: encoder.encode_images(batch[:1]))
    found["pictures"] = len(batch)
    encoder.encode_images(batch)
    found["pictures_per_s"] = len(batch) / seconds(lambda: encoder.encode_images(batch), 3)
    found["text_tower_s"] = seconds(lambda: encoder.encode_texts(["a cat"]))
    found["one_text_ms"] = 1e3 * seconds(lambda: encoder.encode_texts(["a cat on a sofa"]), 15)
    texts = [f"a photo of number {index}" for index in range(1024)]
    encoder.encode_texts(texts)
    found["texts_per_s"] = len(texts) / seconds(lambda: encoder.encode_texts(texts), 3)
    g = encoder.sibling("internvl-g")
    assert g is not None
    found["queries_s"] = seconds(lambda: g.encode_images(batch[:1]))
    g.encode_images(batch)
    found["g_pictures_per_s"] = len(batch) / seconds(lambda: g.encode_images(batch), 3)
    g.caption(batch[:1])
    found["caption_one_s"] = seconds(lambda: g.caption(batch[:1]), 3)
    found["caption_eight_s"] = seconds(lambda: g.caption(batch[:8]), 3)
    found["peak_ram_gib"] = peak_ram_gib()
    for index in range(torch.cuda.device_count()):
        found[f"gpu_{index}_gib"] = torch.cuda.max_memory_allocated(index) / 2**30
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--device", nargs="*", default=["cuda", "auto"], help="None: only write.")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "fp8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not (options.folder / "model.safetensors.index.json").exists():
        print(f"written in {seconds(lambda: write_checkpoint(options.folder, options.tokenizer)):.0f} s", flush=True)
    report: dict[str, object] = {"device": torch.cuda.get_device_name(), "gpus": torch.cuda.device_count()}
    for device in options.device:
        for dtype in options.dtype:
            found = measure(options.folder, device, dtype)
            report[f"{device}, {dtype}"] = found
            print(device, dtype, {name: round(value, 2) for name, value in found.items()}, flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
