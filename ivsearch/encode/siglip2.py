"""``siglip2:<hub id or folder>``: SigLIP and SigLIP 2 at a fixed resolution, through transformers' own classes.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (2023); Tschannen et al., "SigLIP 2: Multilingual
Vision-Language Encoders" (2025). transformers builds the network; weights, pixels and token ids are our own reading of
the model's files, so that nothing is left out in silence and no torchvision is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.pixel_recipe import PixelRecipe
from ivsearch.encode.pixels import Resampling, check_way
from ivsearch.encode.placement import Placement, place
from ivsearch.encode.siglip_tokens import SiglipTokens, read_tokens
from ivsearch.encode.table import LoadRequest, variant_name
from ivsearch.encode.texts import check_texts
from ivsearch.errors import WeightsError
from ivsearch.models.checkpoint import Checkpoint, open_checkpoint
from ivsearch.models.hub import locate
from ivsearch.models.layout import read_object
from ivsearch.pictures import Transparency

if TYPE_CHECKING:
    from transformers import SiglipConfig, SiglipModel

OWN_WAY = "retrieval"
"""SiglipImageProcessor squashes the whole picture."""

RECIPE = "1"
"""Raise it with every change to what this code computes: it is part of the Space's revision."""

TEXTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Sizes:
    """``side`` of its pictures in pixels, ``dim`` of its vectors, ``n_tokens`` of every text."""

    side: int
    dim: int
    n_tokens: int


class Siglip2:
    """The Encoder. ``load`` makes one. ``dim`` is the width of the towers."""

    transparency = Transparency.DROPPED

    def __init__(
        self,
        space: Space,
        network: SiglipModel,
        tokens: SiglipTokens,
        n_tokens: int,
        recipe: PixelRecipe,
        placement: Placement,
    ) -> None:
        self.space = space
        self.network = network
        self.tokens = tokens
        self.n_tokens = n_tokens
        self.recipe = recipe
        self.placement = placement
        self.batch_size = placement.batch_size

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, side, side) float32."""
        return self.recipe.prepare(pixels)

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, side, side) float32 to (n, dim) unit vectors."""
        if not len(batch):
            return Embeddings(self.space, np.empty((0, self.space.dim), np.float32))
        pixels = torch.from_numpy(batch).to(self.placement.device, self.placement.dtype)
        with torch.inference_mode():
            features = self.network.get_image_features(pixel_values=pixels)
        return Embeddings(self.space, unit_rows(features))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Texts to (n, dim) unit vectors. What goes beyond the model's length (64 tokens) is cut off."""
        check_texts(texts)
        ids = torch.from_numpy(self.tokens.encode(texts, self.n_tokens))
        rows = [np.empty((0, self.space.dim), np.float32)]
        for chunk in ids.split(TEXTS_AT_ONCE) if len(texts) else ():
            with torch.inference_mode():
                # No attention mask: the model was trained to see its padding.
                features = self.network.get_text_features(input_ids=chunk.to(self.placement.device))
            rows.append(unit_rows(features))
        return Embeddings(self.space, np.concatenate(rows))


def unit_rows(features: Any) -> NDArray[np.float32]:
    """The unit vectors in what ``get_…_features`` gives: an output object since transformers 5, before it a tensor."""
    rows: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    unit: NDArray[np.float32] = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def read_config(folder: Path, config: dict[str, Any]) -> SiglipConfig:
    """transformers' config; WeightsError when the model is of another kind."""
    kind = config.get("model_type")
    if kind == "siglip2":
        raise WeightsError(
            f"{folder} is a NaFlex model, whose pictures keep their shape: not supported. "
            "Take one of a fixed resolution, such as google/siglip2-base-patch16-224"
        )
    if kind != "siglip":
        raise WeightsError(
            f"{folder} holds a model of type {kind!r}, not 'siglip': for CLIP and its kin there is the encoder openclip"
        )
    from huggingface_hub.errors import StrictDataclassError
    from transformers import SiglipConfig

    # SigLIP's configs carry the start and end ids of another vocabulary; they are used nowhere, and warned about.
    text = dict(config.get("text_config") or {}) | {"bos_token_id": None, "eos_token_id": None}
    try:
        parsed = SiglipConfig(text_config=text, vision_config=config.get("vision_config"))
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder / 'config.json'} is no config of a SigLIP model ({error})") from error
    return parsed


def read_sizes(folder: Path, config: SiglipConfig) -> Sizes:
    """WeightsError when the two towers do not end in one space."""
    vision: Any = config.vision_config
    text: Any = config.text_config
    if not vision.vision_use_head or vision.hidden_size != text.projection_size:
        raise WeightsError(
            f"{folder}: its pictures and texts do not get vectors of one size: name a model made for search, "
            "such as google/siglip2-base-patch16-224"
        )
    return Sizes(vision.image_size, text.projection_size, text.max_position_embeddings)


def read_network(checkpoint: Checkpoint, config: SiglipConfig, placement: Placement) -> SiglipModel:
    """The network with every weight of the checkpoint and no other, ready for inference."""
    from transformers import SiglipModel

    with torch.device("meta"):
        network = SiglipModel(config)
    checkpoint.expect({name: tuple(value.shape) for name, value in network.state_dict().items()}, "a SigLIP model")
    checkpoint.fill(network, device=placement.device, dtype=placement.dtype)
    towers: tuple[Any, ...] = (network.text_model, network.vision_model)
    for embeddings in (tower.embeddings for tower in towers):
        # The one thing that no checkpoint holds: the row numbers of the position tables.
        count = embeddings.position_embedding.num_embeddings
        embeddings.position_ids = torch.arange(count, device=placement.device)[None]
    network.eval().requires_grad_(False)
    return network


def read_recipe(folder: Path, side: int, preprocess: str | None) -> PixelRecipe:
    """What ``preprocessor_config.json`` (or ``processor_config.json``, as transformers 5 saves it) says."""
    file = folder / "preprocessor_config.json"
    settings: Any
    if file.is_file():
        settings = read_object(file)
    elif (file := folder / "processor_config.json").is_file():
        settings = read_object(file).get("image_processor")
    else:
        raise WeightsError(f"{folder} has no preprocessor_config.json: download the whole model")
    if not isinstance(settings, dict):
        raise WeightsError(f"{file} says nothing of an image processor: download it again")
    size = settings.get("size")
    if size != {"height": side, "width": side}:
        raise WeightsError(f"{file} makes pictures of size {size}, but the network takes {side} × {side} pixels")
    try:
        scale = float(settings.get("rescale_factor", 1 / 255))
        mean, std = (tuple(map(float, settings.get(key, (0.5,) * 3))) for key in ("image_mean", "image_std"))
        resampling = Resampling(settings.get("resample", Resampling.BICUBIC))
        if not (len(mean) == len(std) == 3 and all(std)):
            raise ValueError("image_mean and image_std must be three numbers each, image_std not 0")
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{file} has a setting that makes no sense ({error}): download it again") from error
    steps = ("do_resize", "do_rescale", "do_normalize")
    if not all(settings.get(step, True) for step in steps) or not math.isclose(scale, 1 / 255, rel_tol=1e-6):
        raise WeightsError(f"{file} leaves out {', '.join(steps)} or scales by {scale} instead of 1/255: not supported")
    way = OWN_WAY if preprocess is None else check_way(preprocess)
    return PixelRecipe(way, side, mean, std, resampling)


def revision(checkpoint: Checkpoint, tokens: SiglipTokens, recipe: PixelRecipe) -> str:
    """Digest of everything a vector depends on: weights, the network's layout, token ids, pixels."""
    towers = json.dumps([checkpoint.config.get(tower) for tower in ("text_config", "vision_config")], sort_keys=True)
    digest = hashlib.sha256(f"{RECIPE} {checkpoint.digest()} {towers} {recipe!r} {tokens.lower}".encode())
    digest.update(tokens.file.read_bytes())
    return digest.hexdigest()


def load(request: LoadRequest) -> Siglip2:
    """The encoder ``siglip2:VARIANT``. With ``weights`` given, those are read and VARIANT is only its name.

    Raises UsageError for a device, dtype or preprocess there is not, WeightsError for files that are missing, damaged
    or of another model.
    """
    name = f"siglip2:{variant_name(request.variant)}"
    placement = place(name, request)
    folder = locate(request.weights or request.variant)
    checkpoint = open_checkpoint(folder)
    config = read_config(folder, checkpoint.config)
    sizes = read_sizes(folder, config)
    recipe = read_recipe(folder, sizes.side, request.preprocess)
    tokens = read_tokens(folder)
    network = read_network(checkpoint, config, placement)
    space = Space(name, revision(checkpoint, tokens, recipe), sizes.dim)
    return Siglip2(space, network, tokens, sizes.n_tokens, recipe, placement)
