"""How fast InternVideo2.5 answers on a GPU, at full size, with random weights.

    python benchmarks/chat_gpu.py --json benchmarks/chat_gpu.json      # needs a CUDA device with 80 GB

One table: our path in bfloat16 and FP8 beside a plain eager implementation of the same network in the same run: what
is seen of 512 frames, reading the prompt, the first token, decoding at batch 1, a second question about the same
frames, memory, and how far the numbers of the three are apart. Frames are random pixels and weights have the outliers
of trained ones, so times are real and texts are not. The plain implementation takes the published code step by step:
attention with its whole matrix of weights, HiCo in rounds over the tokens, one tile of memory after the other.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.encode_gpu import cosines, draw_weights, kernel_times, matrix_peaks
from ivsearch.models.chat_config import ChatConfig, Hico, LanguageConfig
from ivsearch.models.checkpoint import Checkpoint
from ivsearch.models.decoding import Steps
from ivsearch.models.features import Features
from ivsearch.models.float8 import convert_to_float8
from ivsearch.models.hico import schedule
from ivsearch.models.internvl_chat import InternVLChat, pixel_shuffle
from ivsearch.models.internvl_config import VisionConfig
from ivsearch.models.language_model import InternLM2Layer
from ivsearch.models.loaded_chat import LoadedChat
from ivsearch.models.replier import Replier

FRAMES = 512
PROMPT = 8292  # 512 frames of 16 tokens, and words
CONTEXT, STOP = 92546, 92542
SEED = 0
VISION = VisionConfig(1024, 16, 4096, 24, 14, 448, "layer_norm", 1e-6, False, True)
LANGUAGE = LanguageConfig("internlm2", 4096, 32, 8, 14336, 32, 92553, 1e-5, 1e6, 32768, 2.0, 2)
CONFIG = ChatConfig(
    vision=VISION, language=LANGUAGE, template="internvl2_5", select_layer=-1, ps_version="v2", image_size=448,
    min_tiles=1, use_thumbnail=True, dynamic_image_size=True, system_message=None, hico=Hico(),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """``plain``, ``bfloat16``, ``fp8``: seconds, or what ``unit`` says. The plain path keeps nothing to ask again."""

    what: str
    unit: str
    goal: str
    plain: float | None
    bfloat16: float
    fp8: float | None


def median_s(act: Callable[[], object], repeats: int = 5, rest_s: float = 0.5) -> float:
    """Wall time until the GPU is done. A question comes after a pause, so there is one before each."""
    times = []
    for _ in range(repeats):
        time.sleep(rest_s)
        torch.cuda.synchronize()
        start = time.perf_counter()
        act()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


# ---- the plain implementation: what the published code computes, operation by operation ----


def plain_vision(model: InternVLChat, pixels: Tensor) -> Tensor:
    """(n, 3, 448, 448) → (n, 16, width), all frames at once."""
    vit = model.vision_model
    x = vit.embeddings(pixels)
    for layer in vit.encoder.blocks():
        attention = layer.attn
        normed = F.layer_norm(x, (x.shape[-1],), layer.norm1.weight, layer.norm1.bias, layer.norm1.eps)
        query, key, value = attention.qkv(normed).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1)
        x = x + attention.proj((weights @ value).transpose(1, 2).flatten(2)) * layer.ls1
        normed = F.layer_norm(x, (x.shape[-1],), layer.norm2.weight, layer.norm2.bias, layer.norm2.eps)
        x = x + layer.mlp.fc2(F.gelu(layer.mlp.fc1(normed))) * layer.ls2
    tokens = pixel_shuffle(x[:, 1:], CONFIG.ps_version)
    groups = tokens.reshape(len(tokens) // 4, -1, tokens.shape[-1])
    return model.mlp1(plain_merge(groups).reshape(len(tokens), -1, tokens.shape[-1]))


def plain_merge(x: Tensor) -> Tensor:
    """Rounds over the tokens themselves, weighted by how many each stands for."""
    sizes = torch.ones_like(x[..., :1])
    for merged in schedule(x.shape[1], 64):
        metric = x.unflatten(-1, (LANGUAGE.num_attention_heads, -1)).mean(2)
        metric = metric / metric.norm(dim=-1, keepdim=True)
        best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)).max(-1)
        order = best.argsort(-1, descending=True)[..., None]
        gone, stay = order[:, :merged], order[:, merged:]
        into = partner[..., None].gather(1, gone)
        weighted = []
        for values in (x * sizes, sizes):
            even, odd = values[:, ::2], values[:, 1::2]
            width = values.shape[-1]
            left = even.gather(1, stay.expand(-1, -1, width))
            folded = even.gather(1, gone.expand(-1, -1, width))
            weighted.append(torch.cat([left, odd.scatter_add(1, into.expand(-1, -1, width), folded)], 1))
        x, sizes = weighted[0] / weighted[1], weighted[1]
    return x


class PlainLanguage:
    """Keys and values are joined to those before at every step."""

    def __init__(self, model: InternVLChat) -> None:
        self.language = model.language_model
        self.kept: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """(1, n, width) → logits (1, vocabulary) float32 of the last place."""
        start = self.kept[0][0].shape[2] if self.kept else 0
        n = x.shape[1]
        cosines_, sines = self.language.rotation(torch.arange(start, start + n, device=x.device)[None], start + n)
        cosines_, sines = torch.cat([cosines_] * 2, -1)[:, None], torch.cat([sines] * 2, -1)[:, None]
        mask = torch.full((n, start + n), torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device).triu(start + 1)
        for index, layer in enumerate(self.language.blocks()):
            assert isinstance(layer, InternLM2Layer)
            x = x + self._attention(layer, plain_rms(x, layer.attention_norm), index, cosines_, sines, mask)
            gate, up = layer.feed_forward.joined(plain_rms(x, layer.ffn_norm)).chunk(2, -1)  # type: ignore[misc]
            x = x + layer.feed_forward.w2(F.silu(gate) * up)
        return self.language.head(plain_rms(x, self.language.model.norm)).float()[:, -1]

    def _attention(
        self, layer: InternLM2Layer, x: Tensor, index: int, cosines_: Tensor, sines: Tensor, mask: Tensor
    ) -> Tensor:
        heads = layer.attention.heads
        query, key, value = (each.transpose(1, 2) for each in heads.split(layer.attention.wqkv(x)))
        query, key = (
            (each * cosines_ + torch.cat([-each.chunk(2, -1)[1], each.chunk(2, -1)[0]], -1) * sines).to(x.dtype)
            for each in (query, key)
        )
        if index < len(self.kept):
            key = torch.cat([self.kept[index][0], key], 2)
            value = torch.cat([self.kept[index][1], value], 2)
            self.kept[index] = (key, value)
        else:
            self.kept.append((key, value))
        key, value = key.repeat_interleave(heads.group, 1), value.repeat_interleave(heads.group, 1)
        weights = (query @ key.transpose(2, 3) / heads.d**0.5 + mask).softmax(-1, dtype=torch.float32).to(x.dtype)
        return layer.attention.wo((weights @ value).transpose(1, 2).flatten(2))


def plain_rms(x: Tensor, norm: torch.nn.Module) -> Tensor:
    wide = x.float()
    return norm.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.eps)).to(x.dtype)


# ---- the table ----


def build(device: torch.device) -> InternVLChat:
    with torch.device("meta"):
        model = InternVLChat(CONFIG).eval().requires_grad_(False)
    draw_weights(model, device, torch.bfloat16)
    model.language_model.join()
    return model


def prompt_ids() -> list[int]:
    words = np.random.default_rng(SEED).integers(100, 92000, PROMPT - 16 * FRAMES).tolist()
    return [*words[: len(words) // 2], *[CONTEXT] * (16 * FRAMES), *words[len(words) // 2 :]]


@dataclass(slots=True)
class Measured:
    vision_s: float
    prefill_s: float
    first_s: float
    tokens_per_s: float
    peak_gb: float
    again_s: float = 0.0
    kept_s: float = 0.0


def ours(model: InternVLChat, tiles: np.ndarray, found: dict[str, object], name: str) -> tuple[Measured, Tensor]:
    """Times of our path, and the logits after the prompt."""
    loaded = LoadedChat(model, Checkpoint(Path("random weights"), {}, {}, []), torch.device("cuda"), name)
    replier = Replier(model.language_model, context_id=CONTEXT, stop_ids=frozenset({STOP}), pad_id=2)
    ids = prompt_ids()
    other = [*ids[:-20], *range(1000, 1020)]
    features = loaded.look(tiles)
    list(replier.stream(ids, features, max_new_tokens=8))  # compiles and records
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()

    def first(asked: list[int], seen: Features | None) -> None:
        reply = replier.stream(asked, seen or loaded.look(tiles), max_new_tokens=256)
        next(reply)
        reply.close()

    def first_of_new() -> None:
        replier.forget()
        first(ids, None)

    def read() -> None:
        replier.forget()
        first(ids, features)

    vision_s = median_s(lambda: loaded.look(tiles))
    prefill_s = median_s(read)
    first_s = median_s(first_of_new)
    again_s = median_s(lambda: (first(other, features), first(ids, features))) / 2
    rows = features.to_numpy()
    dtype = model.mlp1.bias.dtype

    def kept() -> None:
        replier.forget()
        first(ids, Features.of(rows, torch.device("cuda"), dtype))

    kept_s = median_s(kept)
    logits = torch.from_numpy(replier.first_logits([ids], [features]))
    replier.forget()
    # Without a stop, so that so many tokens come.
    endless = Replier(model.language_model, context_id=CONTEXT, stop_ids=frozenset({-1}), pad_id=2)
    times = []
    for _ in range(3):
        last = 0.0
        for count, _token in enumerate(endless.stream(ids, features, max_new_tokens=200)):
            if count == 20:
                last = time.perf_counter()
        times.append(179 / (time.perf_counter() - last))
    peak_gb = torch.cuda.max_memory_allocated() / 1e9
    if name == "bfloat16":
        found["kernels, vision of 64 frames, ms"] = kernel_times(lambda: loaded.look(tiles[:64]))
        found["kernels, prefill, ms"] = kernel_times(read)
        steps = endless._steps
        assert isinstance(steps, Steps)
        with torch.inference_mode():
            found["kernels, one token, ms"] = kernel_times(lambda: steps(torch.tensor([5], device="cuda")))
    return Measured(vision_s, prefill_s, first_s, sorted(times)[1], peak_gb, again_s, kept_s), logits


def plain(model: InternVLChat, pixels: Tensor, features: Features) -> tuple[Measured, Tensor]:
    ids = torch.tensor([prompt_ids()], device="cuda")
    embedded = model.language_model.embed(ids)
    embedded[ids == CONTEXT] = features.tensor.flatten(0, 1)
    torch.cuda.reset_peak_memory_stats()
    plain_vision(model, pixels)
    vision_s = median_s(lambda: plain_vision(model, pixels), 3)
    PlainLanguage(model)(embedded)
    prefill_s = median_s(lambda: PlainLanguage(model)(embedded), 3)

    def first() -> None:
        x = model.language_model.embed(ids)
        x[ids == CONTEXT] = plain_vision(model, pixels).flatten(0, 1)
        PlainLanguage(model)(x).argmax(-1).tolist()

    first_s = median_s(first, 3)
    language = PlainLanguage(model)
    logits = language(embedded)
    chosen, start = logits.argmax(-1), 0.0
    for count in range(100):
        if count == 20:
            torch.cuda.synchronize()
            start = time.perf_counter()
        chosen = language(model.language_model.embed(chosen[:, None])).argmax(-1)
        chosen.tolist()
    speed = 80 / (time.perf_counter() - start)
    return Measured(vision_s, prefill_s, first_s, speed, torch.cuda.max_memory_allocated() / 1e9), logits.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip", nargs="*", default=[], choices=["plain", "fp8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    device = torch.device("cuda")
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    peaks = matrix_peaks(device)
    print("matrix peaks, TFLOP/s:", {name: round(value) for name, value in peaks.items()})
    torch.cuda.empty_cache()
    model = build(device)
    found: dict[str, object] = {"weights GB": torch.cuda.memory_allocated() / 1e9}
    tiles = np.random.default_rng(SEED).integers(0, 256, (FRAMES, 448, 448, 3), np.uint8)
    half, logits = ours(model, tiles, found, "bfloat16")
    print(half, flush=True)
    eager = eighth = None
    if "plain" not in options.skip:
        loaded = LoadedChat(model, Checkpoint(Path("random weights"), {}, {}, []), device, "bfloat16")
        pixels = torch.from_numpy(tiles).to(device).permute(0, 3, 1, 2).to(torch.bfloat16) / 128 - 1
        eager, plain_logits = plain(model, pixels, loaded.look(tiles))
        print(eager, flush=True)
        found["cosine of the plain path to ours, logits"] = cosines(plain_logits, logits)
        del pixels
        torch.cuda.empty_cache()
    if "fp8" not in options.skip:
        pixels = torch.randn(16, 3, 448, 448, device=device).bfloat16()
        states = model.vision_model(pixels)
        convert_to_float8(model.vision_model.encoder)
        found["cosine of FP8 to bfloat16, states of the vision model"] = cosines(
            model.vision_model(pixels).flatten(0, 1), states.flatten(0, 1)
        )
        convert_to_float8(model.language_model.model)
        del states, pixels
        torch.cuda.empty_cache()
        found["weights in FP8, GB"] = torch.cuda.memory_allocated() / 1e9
        eighth, fp8_logits = ours(model, tiles, found, "fp8")
        print(eighth, flush=True)
        found["cosine of FP8 to bfloat16, logits"] = cosines(fp8_logits, logits)
    table = [
        ("vision, 512 frames", "s", "0.75", "vision_s"), ("prefill, 8,292 tokens", "s", "0.22", "prefill_s"),
        ("first token after frames are decoded", "s", "1.1", "first_s"),
        ("decoding, batch 1", "tok/s", "180", "tokens_per_s"),
        ("second question, same frames", "s", "", "again_s"), ("frames from kept visual tokens", "s", "", "kept_s"),
        ("peak memory", "GB", "24", "peak_gb"),
    ]  # fmt: skip
    rows = [
        Row(what, unit, goal, (getattr(eager, field) or None) if eager else None, getattr(half, field),
            getattr(eighth, field) if eighth else None)
        for what, unit, goal, field in table
    ]  # fmt: skip
    print(f"{'':<40}{'plain eager':>12}{'bfloat16':>12}{'FP8':>12}{'goal':>8}")
    for row in rows:
        cells = "".join(
            f"{'–' if value is None else f'{value:.3g}':>12}" for value in (row.plain, row.bfloat16, row.fp8)
        )
        print(f"{row.what + ', ' + row.unit:<40}{cells}{row.goal:>8}")
    print(json.dumps(found, indent=2))
    if options.json:
        report = {
            "device": torch.cuda.get_device_name(), "torch": torch.__version__, "matrix_peaks_tflops": peaks,
            "rows": [asdict(row) for row in rows], **found,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
