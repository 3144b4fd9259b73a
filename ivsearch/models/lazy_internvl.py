"""InternVL-14B read from a checkpoint part by part: indexing needs no text tower, searching by text no vision tower."""

from __future__ import annotations

import math
import re
import threading
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import torch
from torch import nn

from ivsearch.errors import UsageError
from ivsearch.models.attention import Attention
from ivsearch.models.checkpoint import Checkpoint
from ivsearch.models.float8 import convert_to_float8
from ivsearch.models.internvl import InternVL
from ivsearch.models.internvl_config import InternVLConfig, internvl_config
from ivsearch.models.spread import Spread, Where, find_devices, free_memory, plan

GIB = 2**30
# What stays together when a model is spread: a layer, or one of these.
UNITS = re.compile(
    r"(.*\blayers\.\d+|vision_model\.embeddings|clip_projector2?|qllama\.\w+\.\w+|qllama\.lm_head|itm_head)\."
)


class Part(Enum):
    """What is read together. ``value``: how the names of its tensors begin."""

    VISION = ("vision_model.", "clip_projector.")
    TEXT = ("qllama.model.", "text_projection", "logit_scale")
    QUERIES = ("query_tokens", "clip_projector2.")
    """With the cross-attention of QLLaMA's layers."""
    WORDS = ("qllama.lm_head.",)
    MATCHING = ("itm_head.",)

    def holds(self, name: str) -> bool:
        if name.startswith("qllama.model.") and ".cross_attn." in name:
            return self is Part.QUERIES
        return name.startswith(self.value)


@dataclass(frozen=True, slots=True)
class Numerics:
    """``vision`` and ``language`` are the dtypes of weights and states: of InternViT with its pooling, of QLLaMA with
    what follows it. With ``fp8`` the products of InternViT's blocks are in FP8."""

    vision: torch.dtype = torch.float32
    language: torch.dtype = torch.float32
    fp8: bool = False
    attention: Attention = Attention.SDPA

    def of(self, part: Part) -> torch.dtype:
        return self.vision if part is Part.VISION else self.language


class LazyInternVL:
    """The network on its devices. ``need`` reads what is not there yet; it may be called from several threads."""

    def __init__(
        self, checkpoint: Checkpoint, device: str, numerics: Numerics, pictures: tuple[Part, ...] = (Part.VISION,)
    ) -> None:
        """Reads no weights, but checks that every tensor is there in its shape, and no other. Raises WeightsError.

        ``pictures`` are the parts that every copy needs: pictures are encoded on all copies, texts on the first.
        """
        self.config: InternVLConfig = internvl_config(checkpoint.config, str(checkpoint.folder / "config.json"))
        self.checkpoint, self.numerics = checkpoint, numerics
        first = self._build()
        checkpoint.expect({name: tuple(slot.shape) for name, slot in first.state_dict().items()}, "InternVL-14B")
        devices = find_devices(device)
        sizes = {name: slot.numel() * self._dtype(name).itemsize for name, slot in _in_passing_order(first)}
        self.spread: Spread = plan(
            devices, sizes, free_memory(devices), _unit, lambda name: any(part.holds(name) for part in pictures)
        )
        self.copies: list[InternVL] = [first, *(self._build() for _ in self.spread.copies[1:])]
        self._there: list[set[Part]] = [set() for _ in self.copies]
        self._lock = threading.Lock()

    @cached_property
    def digest(self) -> str:
        """Of the checkpoint: read once, whichever encoders share these weights."""
        return self.checkpoint.digest()

    def _build(self) -> InternVL:
        with torch.device("meta"):
            return InternVL(self.config, self.numerics.attention).eval().requires_grad_(False)

    def _dtype(self, name: str) -> torch.dtype:
        return self.numerics.of(next(part for part in Part if part.holds(name)))

    def need(self, *parts: Part, copy: int = 0) -> InternVL:
        """A copy of the network with these parts. Raises WeightsError for damaged ones, UsageError without room."""
        with self._lock:
            model, there = self.copies[copy], self._there[copy]
            for part in parts:
                if part in there:
                    continue
                try:
                    self._fill(model, part, self.spread.copies[copy])
                except BaseException as error:
                    # Half of it may be there, or in FP8: the next try begins with an empty network.
                    self.copies[copy], self._there[copy] = self._build(), set()
                    if isinstance(error, torch.OutOfMemoryError):
                        raise UsageError(self._no_room(part, self.spread.copies[copy])) from error
                    raise
                there.add(part)
        return model

    def _fill(self, model: InternVL, part: Part, where: Where) -> None:
        self.checkpoint.fill(model, device=where, dtype=self.numerics.of(part), only=part.holds)
        if self.numerics.fp8 and part is Part.VISION:
            # Pictures are what there is much of. QLLaMA stays as it is: nothing scales down what its layers add, and
            # FP8 cost its texts 3 % in cosine where the vision tower loses 0.2 %.
            convert_to_float8(model.vision_model.encoder)

    def _no_room(self, part: Part, where: Where) -> str:
        entries = {name: entry for name, entry in self.checkpoint.entries.items() if part.holds(name)}
        dtype = self.numerics.of(part)
        needed = sum(math.prod(entry.shape) * dtype.itemsize for entry in entries.values())
        return (
            f"no room for the weights: {needed / GIB:.1f} GiB in {dtype} on {where(next(iter(entries)))}. Take --dtype "
            "bfloat16 or fp8, --device auto to spread them over all GPUs, or --device cpu"
        )


def _unit(name: str) -> str:
    match = UNITS.match(name)
    return match[1] if match else name


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
