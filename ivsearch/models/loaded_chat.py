"""A chat model of the InternVL family read from its folder onto one or several devices."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ivsearch.errors import NotFinite, UsageError
from ivsearch.models.attention import Attention, check_attention
from ivsearch.models.chat_config import ChatConfig, chat_config
from ivsearch.models.checkpoint import Checkpoint, open_checkpoint
from ivsearch.models.dtypes import FP8, choose_dtype, more_exact, torch_dtype
from ivsearch.models.features import Features
from ivsearch.models.feed import Feed
from ivsearch.models.float8 import convert_to_float8
from ivsearch.models.intern_vit import InternViT
from ivsearch.models.internvl_chat import InternVLChat, whole_groups
from ivsearch.models.language_model import join
from ivsearch.models.spread import SPARE_BYTES, Where, find_devices, free_memory, plan
from ivsearch.models.tiling import to_pixels

log = logging.getLogger(__name__)

# Raised whenever this code makes other features of the same pixels than it did before.
RECIPE = 1
CPU_TILES_AT_ONCE = 8
GPU_TILES_AT_ONCE = 64
LAYERS = "language_model.model.layers."
WHAT = "a chat model of the InternVL family"
# What stays together when a model is spread: a layer, or one of these.
UNITS = re.compile(r"(.*\blayers\.\d+|vision_model\.embeddings|mlp1|language_model\.\w+\.\w+|language_model\.\w+)\.")
# Heads for tasks other than chat, in InternVideo2.5's files; its own code for chat does not read them either.
TASK_HEADS = (
    "action_embed", "box_token", "cg_criterion", "cg_model", "loc_decoder", "loc_encoder", "sam", "temporal_embed",
    "temporal_token", "track_embed", "track_token",
)  # fmt: skip


class LoadedChat:
    """``open_internvl_chat`` makes one. ``device`` is where prompts begin; ``dtype`` a name such as ``bfloat16``."""

    def __init__(self, model: InternVLChat, checkpoint: Checkpoint, device: torch.device, dtype: str) -> None:
        self.model, self.checkpoint = model, checkpoint
        self.config: ChatConfig = model.config
        self.folder = checkpoint.folder
        self.device, self.dtype = device, dtype
        eyes = model.vision_model.embeddings.class_embedding.device
        self._feed = Feed(eyes)
        self._at_once = whole_groups(self.config, CPU_TILES_AT_ONCE if eyes.type == "cpu" else GPU_TILES_AT_ONCE)

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of all that features depend on but the pixels: weights, config, dtype."""
        made_by = f"{RECIPE} {self.checkpoint.digest()} {self.config!r} {self.dtype}"
        return hashlib.sha256(made_by.encode()).hexdigest()

    @property
    def at_once(self) -> int:
        """How many tiles are in the vision model together, a multiple of what HiCo merges."""
        return self._at_once

    def look(self, tiles: NDArray[np.uint8]) -> Features:
        """Tiles (n, s, s, 3) uint8, such as ``tiling.tiles`` gives → Features (n, tokens_per_tile, width).

        Where there is no room for many tiles at once, fewer are taken. Raises UsageError when there is none for the
        fewest, and for numbers of frames the model cannot take; NotFinite when the network gives NaN or infinity.
        """
        return self.watch([tiles])

    @torch.inference_mode()
    def watch(self, parts: Iterable[NDArray[np.uint8]]) -> Features:
        """As ``look``, of tiles that come in at least one part, each of whole groups of what HiCo merges.

        A CUDA device works on by itself: while it looks at one part, the next is decoded.
        """
        found = torch.cat([self._seen(part) for part in parts])
        if not torch.isfinite(found).all():
            raise NotFinite(f"the vision model gives no finite numbers in {self.dtype}: {more_exact(self.dtype)}")
        return Features(found)

    def _seen(self, tiles: NDArray[np.uint8]) -> Tensor:
        while True:
            found = self._try(tiles, self._at_once)
            if found is not None:
                return found
            # Here, where the error and with it the states it held are gone.
            torch.cuda.empty_cache()
            self._at_once = whole_groups(self.config, self._at_once // 2)
            log.warning("no room for so many pictures at once: going on with %d", self._at_once)

    def _try(self, tiles: NDArray[np.uint8], size: int) -> Tensor | None:
        n, height, width, _ = tiles.shape
        self.model.check_tiles((n, 3, height, width))
        try:
            # Bytes go to the device and become numbers there: a fourth of the way, and of the time on the host.
            parts = self._feed.parts(tiles, size) if n else [torch.from_numpy(tiles).to(self._feed.device)]
            return torch.cat([self.model.picture_features(to_pixels(part), size) for part in parts])
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if size == whole_groups(self.config, 1):
                raise UsageError(
                    f"no room on {self._feed.device} for {size} pictures of {width} pixels a side beside "
                    "the weights: take --dtype bfloat16 or fp8, --device auto to spread the model over all GPUs, or "
                    "--device cpu"
                ) from error
            return None


def open_internvl_chat(folder: Path, *, device: str, dtype: str = "", attention: str = "sdpa") -> LoadedChat:
    """The chat model in ``folder``, in the official layout.

    ``device``: as in ``find_devices``; with several, the layers are spread over them unless one has room for all.
    ``dtype``: float32, bfloat16, float16 or fp8, or empty for what suits the device. Raises UsageError for a device,
    dtype or attention there is not and when there is no room, WeightsError for files that are missing, damaged or of
    another model.
    """
    devices = find_devices(device)
    dtype = choose_dtype("a chat model", dtype, devices)
    kernel = check_attention(attention, devices[0].type, dtype != "float32")
    checkpoint = open_checkpoint(folder)
    config = chat_config(checkpoint.config, str(folder / "config.json"))
    if config.hico:
        checkpoint = checkpoint.without(TASK_HEADS)
    model = _empty(config, kernel)
    checkpoint.expect(_shapes(model, config), WHAT)
    where = _places(model, devices, dtype)
    try:
        _fill(model, checkpoint, where, dtype)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise UsageError(_no_room(model, device, dtype)) from error
    return LoadedChat(model, checkpoint, model.language_model.model.words.weight.device, dtype)


def _empty(config: ChatConfig, attention: Attention) -> InternVLChat:
    with torch.device("meta"):
        return InternVLChat(config, attention).eval().requires_grad_(False)


def _shapes(model: InternVLChat, config: ChatConfig) -> dict[str, tuple[int, ...]]:
    """Of every tensor on disk, those of the vision model's unused layers too."""
    shapes = {name: tuple(slot.shape) for name, slot in model.state_dict().items()}
    with torch.device("meta"):
        whole = InternViT(config.vision)
    return shapes | {f"vision_model.{name}": tuple(slot.shape) for name, slot in whole.state_dict().items()}


def _places(model: InternVLChat, devices: tuple[torch.device, ...], dtype: str) -> Where:
    """One copy, as replies come one after the other: on the first device with room for it, else spread over all."""
    parts = ("vision_model.", "mlp1.", "language_model.")  # in the order a forward pass comes to them
    slots = model.state_dict()
    sizes = {
        name: slots[name].numel() * _bytes_each(name, slots[name], dtype)
        for part in parts
        for name in slots
        if name.startswith(part)
    }
    free_bytes = free_memory(devices)
    needed = sum(sizes.values()) + SPARE_BYTES
    roomy = [device for device, free in zip(devices, free_bytes, strict=True) if needed <= free]
    return plan(roomy[:1] or devices, sizes, free_bytes, _unit).copies[0]


def _bytes_each(name: str, slot: Tensor, dtype: str) -> int:
    """Of each number of a tensor, once it is where it is used."""
    in_fp8 = dtype == FP8 and slot.dim() == 2 and ".layers." in name
    return 1 if in_fp8 else torch_dtype(dtype).itemsize


def _unit(name: str) -> str:
    match = UNITS.match(name)
    return match[1] if match else name


def _fill(model: InternVLChat, checkpoint: Checkpoint, where: Where, dtype: str) -> None:
    """A layer of the language model at a time: with FP8 only one of them is ever there in bfloat16."""
    kind = torch_dtype(dtype)
    checkpoint.fill(model, device=where, dtype=kind, only=lambda name: not name.startswith(LAYERS))
    if dtype == FP8:
        convert_to_float8(model.vision_model.encoder)
    for index, layer in enumerate(model.language_model.blocks()):
        prefix = f"{LAYERS}{index}."
        checkpoint.fill(model, device=where, dtype=kind, only=partial(_begins, prefix))
        join(layer)
        if dtype == FP8:
            # The head, whose logits are compared closely, stays as it is.
            convert_to_float8(cast(nn.Module, layer))


def _begins(prefix: str, name: str) -> bool:
    return name.startswith(prefix)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a CPU torch has no error of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _no_room(model: InternVLChat, device: str, dtype: str) -> str:
    # While a model is filled, its names change.
    slots = _empty(model.config, Attention.SDPA).state_dict()
    needed = sum(slot.numel() * _bytes_each(name, slot, dtype) for name, slot in slots.items()) / 2**30
    return (
        f"no room for the weights: {needed:.1f} GiB in {dtype} on {device}. Take --dtype bfloat16 or fp8, "
        "--device auto to spread them over all GPUs, --device cpu, or a smaller model of the family"
    )
