"""``internvit:<name, hub id or folder>``: a stand-alone InternViT as an encoder of pictures.

Its vector is the class token's state after the last block, as the official model's ``pooler_output``. It finds pictures
by pictures; it has no text side.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.numerics import check_numerics, not_finite
from ivsearch.encode.pixels import check_way, prepare
from ivsearch.encode.table import LoadRequest, variant_name
from ivsearch.errors import UsageError
from ivsearch.models.checkpoint import open_checkpoint
from ivsearch.models.feed import Feed, Portions
from ivsearch.models.float8 import convert_to_float8
from ivsearch.models.hub import locate
from ivsearch.models.intern_vit import InternViT
from ivsearch.models.internvl_config import vision_config
from ivsearch.models.lazy_internvl import Numerics
from ivsearch.models.spread import find_devices
from ivsearch.pictures import Transparency

log = logging.getLogger(__name__)

RECIPE = 1
CPU_PICTURES_AT_ONCE = 16
GPU_PICTURES_AT_ONCE = 64


class InternViTEncoder:
    """The Encoder. ``load`` makes one."""

    transparency = Transparency.DROPPED

    def __init__(
        self, space: Space, model: InternViT, device: torch.device, side: int, way: str, numerics: Numerics
    ) -> None:
        self.space = space
        self.model = model
        self.side = side
        self.way = way
        self.numerics = numerics
        self.batch_size = CPU_PICTURES_AT_ONCE if device.type == "cpu" else GPU_PICTURES_AT_ONCE
        self.portions = Portions(Feed(device), self.batch_size, self._say_fewer)

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, side, side) float32."""
        return prepare(pixels, self.way, self.side)

    @torch.inference_mode()
    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, h, w) float32, sides multiples of the patch size, to (n, width) unit vectors."""
        rows = self.portions.run(
            lambda part: F.normalize(self.model(part)[:, 0].float(), dim=-1), batch, self.space.dim
        )
        if not torch.isfinite(rows).all():
            raise not_finite(self.space.encoder, self.numerics)
        return Embeddings(self.space, rows.cpu().numpy())

    def _say_fewer(self, size: int) -> None:
        log.warning("no room for so many pictures at once: going on with %d", size)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        raise UsageError(
            f"encoder {self.space.encoder!r} has no text side: of the InternViT family only InternVL-14B has one "
            "(--encoder internvl-c or internvl-g). Search by an image or a clip instead: --image FILE, --clip ID; "
            "or go back to the encoder that was used before: `ivsearch spaces back`"
        )


def _official(variant: str) -> str:
    """``300M-448px`` is ``OpenGVLab/InternViT-300M-448px``; folders and hub ids stay as they are."""
    named = "/" in variant or Path(variant).is_dir()
    return variant if named else f"OpenGVLab/InternViT-{variant}"


def load(request: LoadRequest) -> InternViTEncoder:
    """The encoder ``internvit:VARIANT``. With ``weights`` given, those are read and VARIANT is only its name.

    Raises UsageError for a device, dtype, attention or preprocess there is not, WeightsError for files that are
    missing, damaged or of another model.
    """
    way = check_way(request.preprocess)
    numerics = check_numerics(request)
    devices = find_devices(request.device)
    if len(devices) > 1 and request.device != "auto":
        raise UsageError(f"encoder 'internvit' runs on one device, not on {request.device}: name one of them")
    checkpoint = open_checkpoint(locate(request.weights or _official(request.variant)))
    config = vision_config(checkpoint.config, str(checkpoint.folder / "config.json"))
    with torch.device("meta"):
        model = InternViT(config, numerics.attention).eval().requires_grad_(False)
    checkpoint.expect({name: tuple(slot.shape) for name, slot in model.state_dict().items()}, "a stand-alone InternViT")
    try:
        checkpoint.fill(model, device=devices[0], dtype=numerics.vision)
        if numerics.fp8:
            convert_to_float8(model.encoder)
    except torch.OutOfMemoryError as error:
        raise UsageError(f"no room for the weights on {devices[0]}: take --dtype bfloat16 or --device cpu") from error
    digest = hashlib.sha256(f"{RECIPE} {checkpoint.digest()} {config!r} {way}".encode()).hexdigest()
    space = Space(f"internvit:{variant_name(request.variant)}", digest, config.hidden_size)
    return InternViTEncoder(space, model, devices[0], config.image_size, way, numerics)
