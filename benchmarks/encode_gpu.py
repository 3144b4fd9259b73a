"""How fast InternVL-C, InternVL-G and their text side run on a GPU, at full size, with random weights.

    python benchmarks/encode_gpu.py --json benchmarks/encode_gpu.json      # needs a CUDA device with 80 GB

One table: our path in bfloat16 and FP8 beside a plain eager implementation of the same network in the same run, the
share of the matrix rate measured on this chip, memory, and what FP8 and bfloat16 cost in cosine. Weights are drawn with
the outliers that trained transformers have: heavy-tailed entries, uneven rows and columns, and a few norm gains far
above the rest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivsearch.models.float8 import convert_to_float8, quantise_rows
from ivsearch.models.intern_vit import InternViT, Layer
from ivsearch.models.internvl import InternVL
from ivsearch.models.internvl_config import InternVLConfig, QllamaConfig, VisionConfig

VISION = VisionConfig(3200, 25, 12800, 48, 14, 224, "rms_norm", 1e-6, True, False)
QLLAMA = QllamaConfig(4096, 32, 11008, 32, 49954, 1e-6, 10000.0, 96, 2, 2)
SEED = 0


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    batch: int
    ms: float
    per_s: float
    tflops: float
    share_of_peak: float
    peak_gib: float


def draw_weights(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Fills a module made on the meta device. See the docstring above for the statistics."""
    generator = torch.Generator(device).manual_seed(SEED)
    module.to_empty(device=device).to(dtype)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    for name, parameter in module.named_parameters():
        parameter.requires_grad_(False)
        if parameter.dim() == 2 and "position" not in name:
            n_out, n_in = parameter.shape
            # Student's t with 5 degrees of freedom: a normal over the root of a chi-square.
            tails = (sum(normal(n_out, n_in).square() for _ in range(5)) / 5).sqrt_().reciprocal_()
            weight = (
                normal(n_out, n_in).mul_(tails).mul_((0.4 * normal(n_out, 1)).exp()).mul_((0.4 * normal(1, n_in)).exp())
            )
            parameter.copy_(weight / (weight.std() * n_in**0.5))
        elif name.endswith("norm1.weight") or name.endswith("norm2.weight") or "layernorm" in name:
            gains = (0.3 * normal(*parameter.shape)).exp()
            outliers = torch.rand(parameter.shape, generator=generator, device=device) < 0.003
            parameter.copy_(torch.where(outliers, 8 * gains, gains))
        elif name.endswith(("ls1", "ls2")):
            parameter.copy_(0.1 * (0.5 * normal(*parameter.shape)).exp())
        elif "norm" in name and name.endswith("weight"):
            parameter.copy_((0.2 * normal(*parameter.shape)).exp())
        else:
            parameter.copy_(0.02 * normal(*parameter.shape))


def median_ms(act: Callable[[], object], repeats: int) -> float:
    """By CUDA events, after warming up."""
    for _ in range(2):
        act()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        act()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def matrix_peaks(device: torch.device) -> dict[str, float]:
    """TFLOP/s of 8192³ products of random numbers, in bfloat16 and in FP8 with row-wise scales."""
    n = 8192
    a, b = torch.randn(n, n, device=device).bfloat16(), torch.randn(n, n, device=device).bfloat16()
    rows, columns = quantise_rows(a), quantise_rows(b)

    def fp8() -> Tensor:
        return torch._scaled_mm(
            rows.values, columns.values.t(), scale_a=rows.scales, scale_b=columns.scales.t().contiguous(),
            out_dtype=torch.bfloat16, use_fast_accum=True,
        )  # fmt: skip

    flop = 2 * n**3 / 1e9
    return {"bfloat16": flop / median_ms(lambda: a @ b.t(), 20), "fp8": flop / median_ms(fp8, 20)}


# ---- the plain implementation: what the published code computes, operation by operation ----


def plain_rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def plain_block(layer: Layer, x: Tensor) -> Tensor:
    attention, mlp, eps = layer.attn, layer.mlp, layer.norm1.eps
    query, key, value = attention.qkv(plain_rms(x, layer.norm1.weight, eps)).chunk(3, -1)
    query, key = plain_rms(query, attention.q_norm.weight, eps), plain_rms(key, attention.k_norm.weight, eps)
    query, key, value = (each.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for each in (query, key, value))
    weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1)
    x = x + attention.proj((weights @ value).transpose(1, 2).flatten(2)) * layer.ls1
    return x + mlp.fc2(F.gelu(mlp.fc1(plain_rms(x, layer.norm2.weight, eps)))) * layer.ls2


def plain_vit(model: InternViT, pixels: Tensor) -> Tensor:
    x = model.embeddings(pixels)
    for layer in model.encoder.layers:
        x = plain_block(layer, x)
    return x


# ---- the table ----


def vit_flop(pictures: int) -> float:
    tokens, width, layers = VISION.grid**2 + 1, VISION.hidden_size, VISION.num_hidden_layers
    products = 2 * tokens * (4 * width**2 + 2 * width * VISION.intermediate_size)
    return pictures * layers * (products + 4 * tokens**2 * width)


def text_flop(texts: int, tokens: int) -> float:
    width, layers = QLLAMA.hidden_size, QLLAMA.num_hidden_layers
    return texts * tokens * layers * 2 * (4 * width**2 + 3 * width * QLLAMA.intermediate_size)


def query_flop(pictures: int) -> float:
    """QLLaMA's queries: their layers, and the cross-attention of every second one."""
    width, seen, tokens, queries = QLLAMA.hidden_size, VISION.hidden_size, VISION.grid**2 + 1, QLLAMA.num_query_token
    crossing = QLLAMA.num_hidden_layers // QLLAMA.cross_attention_frequency
    return text_flop(pictures, queries) + pictures * crossing * 4 * (queries * width**2 + tokens * width * seen)


def measure(what: str, batch: int, flop: float, peak: float, act: Callable[[], object], repeats: int = 5) -> Row:
    torch.cuda.reset_peak_memory_stats()
    ms = median_ms(act, repeats)
    tflops = flop / ms / 1e9
    row = Row(what, batch, ms, batch / ms * 1e3, tflops, tflops / peak, torch.cuda.max_memory_allocated() / 2**30)
    print(
        f"{row.what:<44} {row.batch:>5} {row.ms:>9.1f} ms {row.per_s:>9.1f}/s {row.tflops:>7.0f} TFLOP/s "
        f"{row.share_of_peak:>5.0%} {row.peak_gib:>6.1f} GiB",
        flush=True,
    )
    return row


def cosines(a: Tensor, b: Tensor) -> dict[str, float]:
    each = F.cosine_similarity(a.double(), b.double(), dim=-1)
    return {"mean": float(each.mean()), "lowest": float(each.min())}


def kernel_times(act: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of each kernel in one call, the longest twelve."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        act()
        torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)[:12]
    return {row.key[:90]: row.self_device_time_total / 1e3 for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--skip", nargs="*", default=[], choices=["plain", "fp8", "qllama", "float32", "kernels"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    device = torch.device("cuda")
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    peaks = matrix_peaks(device)
    print("matrix peaks, TFLOP/s:", {name: round(value) for name, value in peaks.items()})
    rows: list[Row] = []
    found: dict[str, object] = {}

    started = time.perf_counter()
    with torch.device("meta"):
        model = InternVL(InternVLConfig(VISION, QLLAMA, 768, 16))
    for name, child in model.named_children():
        if name != "qllama" or "qllama" not in options.skip:
            # As the encoder runs them: QLLaMA and what follows it in float16.
            draw_weights(child, device, torch.bfloat16 if name in ("vision_model", "clip_projector") else torch.float16)
    model.query_tokens = nn.Parameter(torch.randn(1, 96, 4096, device=device).half() * 0.02, requires_grad=False)
    model.text_projection = nn.Parameter(torch.randn(4096, 768, device=device).half() / 64, requires_grad=False)
    print(f"weights drawn in {time.perf_counter() - started:.0f} s")

    vit = model.vision_model
    few = torch.randn(16, 3, 224, 224, device=device)
    reference = model.embed_c(few)
    if "float32" not in options.skip:
        model.vision_model.float(), model.clip_projector.float()
        exact = model.embed_c(few)
        model.vision_model.bfloat16(), model.clip_projector.bfloat16()
        found["cosine of bfloat16 to float32"] = cosines(reference, exact)
    found["cosine of the plain path to ours"] = cosines(model.clip_projector(plain_vit(vit, few.bfloat16())), reference)
    for batch in options.batch:
        pixels = torch.randn(batch, 3, 224, 224, device=device).bfloat16()
        if "plain" not in options.skip:
            rows.append(
                measure(
                    "InternViT-6B, plain eager",
                    batch,
                    vit_flop(batch),
                    peaks["bfloat16"],
                    lambda pixels=pixels: plain_vit(vit, pixels),
                    3,
                )
            )
        rows.append(
            measure(
                "InternViT-6B, ours, bfloat16",
                batch,
                vit_flop(batch),
                peaks["bfloat16"],
                lambda pixels=pixels: vit(pixels),
            )
        )
    if "kernels" not in options.skip:
        found["kernels, bfloat16, ms"] = kernel_times(lambda: vit(pixels))
    if "qllama" not in options.skip:
        batch = options.batch[-1]
        rows.append(
            measure(
                "InternVL-G, ours, bfloat16", batch, vit_flop(batch) + query_flop(batch), peaks["bfloat16"],
                lambda: model.embed_g(pixels),
            )
        )  # fmt: skip
        for batch, tokens in ((256, 12), (1, 12), (256, 80)):
            ids = torch.randint(3, 49000, (batch, tokens), device=device)
            rows.append(
                measure(
                    f"texts of {tokens} tokens, float16", batch, text_flop(batch, tokens), peaks["bfloat16"],
                    lambda ids=ids: model.embed_text(ids), 10,
                )
            )  # fmt: skip
        texts = torch.randint(3, 49000, (64, 12), device=device)
        read = model.embed_text(texts)
    if "fp8" not in options.skip:
        convert_to_float8(vit.encoder)
        found["cosine of FP8 to bfloat16"] = cosines(model.embed_c(few), reference)
        for batch in options.batch:
            pixels = torch.randn(batch, 3, 224, 224, device=device).bfloat16()
            rows.append(
                measure(
                    "InternViT-6B, ours, FP8", batch, vit_flop(batch), peaks["fp8"], lambda pixels=pixels: vit(pixels)
                )
            )
        if "kernels" not in options.skip:
            found["kernels, FP8, ms"] = kernel_times(lambda: vit(pixels))
        if "qllama" not in options.skip:
            # Not what the encoder does: this shows why.
            convert_to_float8(model.qllama.model.layers)
            found["cosine of FP8 to bfloat16, texts"] = cosines(model.embed_text(texts), read)
            ids = torch.randint(3, 49000, (256, 12), device=device)
            rows.append(
                measure(
                    "texts of 12 tokens, FP8", 256, text_flop(256, 12), peaks["fp8"], lambda: model.embed_text(ids), 10
                )
            )
    print(json.dumps(found, indent=2))
    if options.json:
        report = {
            "device": torch.cuda.get_device_name(), "torch": torch.__version__, "matrix_peaks_tflops": peaks,
            "rows": [asdict(row) for row in rows], **found,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
