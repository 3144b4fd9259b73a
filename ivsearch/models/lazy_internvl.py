"""InternVL-14B read from a checkpoint part by part: indexing needs no text tower, searching by text no vision tower."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import Enum

import torch
from torch import nn

from ivsearch.errors import UsageError
from ivsearch.models.attention import Attention
from ivsearch.models.checkpoint import Checkpoint
from ivsearch.models.float8 import convert_to_float8
from ivsearch.models.internvl import InternVL
from ivsearch.models.internvl_config import InternVLConfig, internvl_config
from ivsearch.models.spread import Spread, find_devices, free_memory, plan

GIB = 2**30


class Part(Enum):
    """``value``: whether a tensor of that name belongs to it."""

    VISION = ("vision_model.", "clip_projector.")
    TEXT = ("qllama.model.", "text_projection", "logit_scale")
    QUERIES = ("qllama.model.layers.*.cross_attn.", "query_tokens", "clip_projector2.")
    WORDS = ("qllama.lm_head.",)
    MATCHING = ("itm_head.",)

    def holds(self, name: str) -> bool:
        if ".cross_attn." in name and name.startswith("qllama."):
            return self is Part.QUERIES
        return name.startswith(tuple(start for start in self.value if "*" not in start))


class LazyInternVL:
    """The network on its devices. ``need`` reads what is not there yet; it may be called from several threads."""

    def __init__(
        self, checkpoint: Checkpoint, device: str, dtype: torch.dtype, fp8: bool, attention: Attention
    ) -> None:
        """Reads no weights, but checks that every tensor is there in its shape, and no other. Raises WeightsError."""
        self.config: InternVLConfig = internvl_config(checkpoint.config, str(checkpoint.folder / "config.json"))
        self.checkpoint, self.dtype, self.fp8, self.attention = checkpoint, dtype, fp8, attention
        first = self._build()
        checkpoint.expect({name: tuple(slot.shape) for name, slot in first.state_dict().items()}, "InternVL-14B")
        devices = find_devices(device)
        item_bytes = torch.empty((), dtype=dtype).element_size()
        sizes = {name: slot.numel() * item_bytes for name, slot in _in_passing_order(first)}
        self.spread: Spread = plan(devices, sizes, free_memory(devices))
        # Pictures are encoded on every copy, texts on the first.
        self.copies: tuple[InternVL, ...] = (first, *(self._build() for _ in self.spread.copies[1:]))
        self._there: list[set[Part]] = [set() for _ in self.copies]
        self._lock = threading.Lock()

    def _build(self) -> InternVL:
        with torch.device("meta"):
            return InternVL(self.config, self.attention).eval().requires_grad_(False)

    def need(self, *parts: Part, copy: int = 0) -> InternVL:
        """A copy of the network with these parts. Raises WeightsError for damaged ones, UsageError without room."""
        with self._lock:
            model, there = self.copies[copy], self._there[copy]
            missing = [part for part in parts if part not in there]
            if missing:
                where = self.spread.copies[copy]
                try:
                    self._fill(model, missing, where)
                except torch.OutOfMemoryError as error:
                    raise UsageError(self._no_room(missing, where)) from error
                there.update(missing)
        return model

    def _fill(self, model: InternVL, parts: Iterable[Part], where: Callable[[str], torch.device]) -> None:
        parts = tuple(parts)
        wanted = {name for name in model.state_dict() if any(part.holds(name) for part in parts)}
        self.checkpoint.fill(model, device=where, dtype=self.dtype, only=wanted.__contains__)
        if self.fp8:
            for module in _blocks(model, parts):
                convert_to_float8(module)

    def _no_room(self, parts: Iterable[Part], where: Callable[[str], torch.device]) -> str:
        names = [name for name in self.checkpoint.entries if any(part.holds(name) for part in parts)]
        bits = torch.empty((), dtype=self.dtype).element_size()
        needed = sum(bits * _count(self.checkpoint.entries[name].shape) for name in names)
        return (
            f"no room for the weights: {needed / GIB:.1f} GiB in {self.dtype} on {where(names[0])}. Take --dtype "
            "bfloat16 or fp8, --device auto to spread them over all GPUs, or --device cpu"
        )


def _blocks(model: InternVL, parts: Iterable[Part]) -> Iterable[nn.Module]:
    """What runs in FP8: the blocks of both towers. Ends of the network stay as they are."""
    for part in parts:
        if part is Part.VISION:
            yield model.vision_model.encoder
        elif part in (Part.TEXT, Part.QUERIES):
            for layer in model.qllama.model.blocks():
                crossing = (layer.cross_attn,) if layer.cross_attn is not None else ()
                yield from (layer.self_attn, layer.mlp) if part is Part.TEXT else crossing


def _in_passing_order(model: InternVL) -> list[tuple[str, torch.Tensor]]:
    """All tensors, in the order a forward pass needs them, ends beside the layers they follow or precede."""
    modules: list[tuple[str, nn.Module]] = [
        ("vision_model.", model.vision_model),
        ("clip_projector.", model.clip_projector),
        ("qllama.model.embed_tokens.", model.qllama.model.embed_tokens),
    ]
    tail: list[tuple[str, nn.Module]] = [
        ("qllama.model.layers.", model.qllama.model.layers),
        ("qllama.model.norm.", model.qllama.model.norm),
        ("qllama.lm_head.", model.qllama.lm_head),
        ("clip_projector2.", model.clip_projector2),
        ("itm_head.", model.itm_head),
    ]
    named = [(prefix + name, slot) for prefix, module in modules for name, slot in module.state_dict().items()]
    named.append(("query_tokens", model.query_tokens))
    named += [(prefix + name, slot) for prefix, module in tail for name, slot in module.state_dict().items()]
    return [*named, ("text_projection", model.text_projection), ("logit_scale", model.logit_scale)]


def _count(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
