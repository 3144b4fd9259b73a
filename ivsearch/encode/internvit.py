"""``internvit:<hub id, folder or name>``: a stand-alone InternViT as an encoder of pictures.

Its vector is the class token's state after the last block, as the official model's ``pooler_output``. It finds pictures
by pictures; it has no text side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.numerics import check_numerics
from ivsearch.encode.pixels import check_way, prepare
from ivsearch.encode.siglip2 import variant_name
from ivsearch.encode.table import LoadRequest
from ivsearch.errors import UsageError
from ivsearch.models.checkpoint import open_checkpoint
from ivsearch.models.feed import feed
from ivsearch.models.float8 import convert_to_float8
from ivsearch.models.hub import locate
from ivsearch.models.intern_vit import InternViT
from ivsearch.models.internvl_config import vision_config
from ivsearch.models.spread import find_devices
from ivsearch.pictures import Transparency

CPU_PICTURES_AT_ONCE = 16
GPU_PICTURES_AT_ONCE = 64


class InternViTEncoder:
    """The Encoder. ``load`` makes one."""

    transparency = Transparency.DROPPED

    def __init__(self, space: Space, model: InternViT, device: torch.device, side: int, way: str) -> None:
        self.space = space
        self.model = model
        self.device = device
        self.side = side
        self.way = way
        self.batch_size = CPU_PICTURES_AT_ONCE if device.type == "cpu" else GPU_PICTURES_AT_ONCE

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, side, side) float32."""
        return prepare(pixels, self.way, self.side)

    @torch.inference_mode()
    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, h, w) float32, sides multiples of the patch size, to (n, width) unit vectors."""
        found = [
            F.normalize(self.model(part)[:, 0].float(), dim=-1) for part in feed(batch, self.device, self.batch_size)
        ]
        rows = torch.cat(found).cpu().numpy() if len(batch) else np.empty((0, self.space.dim), np.float32)
        return Embeddings(self.space, rows)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        raise UsageError(
            f"encoder {self.space.encoder!r} has no text side: of the InternViT family only InternVL-14B has one "
            "(--encoder internvl-c or internvl-g). Search by an image or a clip instead: --image FILE, --clip ID"
        )


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
    checkpoint = open_checkpoint(locate(request.weights or request.variant))
    config = vision_config(checkpoint.config, str(checkpoint.folder / "config.json"))
    with torch.device("meta"):
        model = InternViT(config, numerics.attention).eval().requires_grad_(False)
    checkpoint.expect({name: tuple(slot.shape) for name, slot in model.state_dict().items()}, "a stand-alone InternViT")
    checkpoint.fill(model, device=devices[0], dtype=numerics.vision)
    if numerics.fp8:
        convert_to_float8(model.encoder)
    digest = hashlib.sha256(f"{checkpoint.digest()} {way} {config.image_size}".encode()).hexdigest()
    space = Space(f"internvit:{variant_name(request.variant)}", digest, config.hidden_size)
    return InternViTEncoder(space, model, devices[0], config.image_size, way)
