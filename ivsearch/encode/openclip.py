"""``openclip:<model>/<pretrained>``: what open_clip knows, with weights by its own tags or from a file.

Cherti et al., "Reproducible scaling laws for contrastive language-image learning" (2023). open_clip builds the network,
reads the weights and tokenizes; pictures are prepared here, so no torchvision is needed.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.openclip_import import import_open_clip
from ivsearch.encode.pixel_recipe import PixelRecipe
from ivsearch.encode.pixels import Resampling, check_way
from ivsearch.encode.placement import Placement, place
from ivsearch.encode.table import LoadRequest
from ivsearch.encode.texts import check_texts
from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.hub import locate
from ivsearch.pictures import Transparency

CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
TAG_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
WAYS = {"shortest": "classification", "squash": "retrieval"}
"""open_clip's ``resize_mode`` → ours. Its CenterCrop is torchvision's."""

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "pure_bf16", torch.float16: "pure_fp16"}
DAMAGE = (RuntimeError, ValueError, KeyError, OSError, EOFError, pickle.UnpicklingError, SafetensorError)
"""What open_clip, torch and safetensors raise for files that are cut short, of another model, or no weights at all."""

RECIPE = "1"
"""Raise it with every change to what this code computes: it is part of the Space's revision."""

TEXTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Source:
    """What is loaded: ``model`` as open_clip's ``create_model`` takes it, the file of its weights, what its tag says.

    ``preprocess`` overlays open_clip's own defaults. ``label`` is what the Space is called after ``openclip:``.
    """

    label: str
    model: str
    file: Path
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False


class OpenClip:
    """The Encoder. ``load`` makes one."""

    transparency = Transparency.DROPPED

    def __init__(
        self, space: Space, network: torch.nn.Module, tokenizer: Any, recipe: PixelRecipe, placement: Placement
    ) -> None:
        self.space = space
        self.network: Any = network
        self.tokenizer = tokenizer
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
            return Embeddings(self.space, unit_rows(self.network.encode_image(pixels)))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Texts to (n, dim) unit vectors. What goes beyond the model's length (mostly 77 tokens) is cut off."""
        check_texts(texts)
        rows = [np.empty((0, self.space.dim), np.float32)]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            ids = self.tokenizer(list(texts[start : start + TEXTS_AT_ONCE]))
            with torch.inference_mode():
                rows.append(unit_rows(self.network.encode_text(ids.to(self.placement.device))))
        return Embeddings(self.space, np.concatenate(rows))


def unit_rows(features: torch.Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return unit


def find_source(open_clip: ModuleType, variant: str, weights: str | None) -> Source:
    """Which model and which file ``openclip:VARIANT`` with ``--weights`` means.

    Raises UsageError for a model or tag that open_clip does not know, WeightsError where there are no weights.
    """
    if weights is None and Path(variant).expanduser().is_dir():
        return from_folder(Path(variant).expanduser().resolve())
    model, _, pretrained = variant.partition("/")
    if weights is not None and not Path(weights).expanduser().is_file():
        folder = locate(weights)
        if (folder / CONFIG_FILE).is_file():
            return Source(variant, f"local-dir:{folder}", weight_file(folder))
        check_model(open_clip, model)
        return tagged(open_clip, model, pretrained, weight_file(folder))
    check_model(open_clip, model)
    if weights is not None:
        return tagged(open_clip, model, pretrained, Path(weights).expanduser())
    if Path(pretrained).expanduser().is_file():
        return Source(f"{model}/{Path(pretrained).name}", model, Path(pretrained).expanduser())
    return tagged(open_clip, model, pretrained, None)


def from_folder(folder: Path) -> Source:
    """A folder as open_clip saves models: config, weights, tokenizer."""
    if not (folder / CONFIG_FILE).is_file():
        raise WeightsError(f"{folder} has no {CONFIG_FILE}: name the model too, openclip:MODEL with --weights {folder}")
    return Source(folder.name, f"local-dir:{folder}", weight_file(folder))


def tagged(open_clip: ModuleType, model: str, tag: str, file: Path | None) -> Source:
    """A model with what its tag says about pictures and activations, and its weights where ``file`` names none."""
    known = open_clip.list_pretrained_tags_by_model(model)
    settings: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    if not settings and (tag or file is None):
        asked = f"has no pretrained {tag!r}, and there is no such file" if tag else "needs weights"
        tags = f"write openclip:{model}/TAG with one of {', '.join(known)}, or " if known else "write "
        raise UsageError(f"open_clip's model {model!r} {asked}: {tags}openclip:{model} with --weights FILE")
    label = f"{model}/{tag}" if tag else f"{model}/{file.name if file else ''}"
    return Source(label, model, file or tag_file(model, tag, settings), settings, bool(settings.get("quick_gelu")))


def tag_file(model: str, tag: str, settings: dict[str, Any]) -> Path:
    """The file of a tag, in the hub's cache or downloaded: ``org/name/`` or ``org/name/file`` in open_clip's table."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository, _, name = settings.get("hf_hub", "").rpartition("/")
    if "/" not in repository:
        raise WeightsError(
            f"the weights of {model}/{tag} are not on the Hugging Face hub: download {settings.get('url', 'them')} "
            "and give the file as --weights"
        )
    names = (str(PurePosixPath(name).with_suffix(".safetensors")), name) if name else TAG_FILES
    for cached in (try_to_load_from_cache(repository, each) for each in names):
        if isinstance(cached, str):
            return Path(cached)
    folder = locate(repository)  # says at once when there is neither a copy nor a network
    for each in names:
        if (folder / each).is_file():
            return folder / each
    try:
        return Path(hf_hub_download(repository, names[-1]))
    except OSError as error:  # all of the hub's errors are
        raise WeightsError(f"{repository} on the hub has none of {', '.join(names)} ({error})") from error


def weight_file(folder: Path) -> Path:
    """open_clip's weights in a folder, in the order open_clip looks for them."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} has no weights of open_clip ({', '.join(WEIGHT_FILES)}): give the file as --weights")


def check_model(open_clip: ModuleType, model: str) -> None:
    known = open_clip.list_models()
    if model in known:
        return
    lowered = {name.lower(): name for name in known}
    near = [lowered[name] for name in difflib.get_close_matches(model.lower(), lowered, n=3, cutoff=0.5)]
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known[:5])} …"
    raise UsageError(
        f"open_clip has no model {model!r}; {hint} Write openclip:MODEL/TAG, a folder with {CONFIG_FILE}, "
        "or openclip:NAME with such a folder or hub id as --weights"
    )


def read_network(open_clip: ModuleType, source: Source, placement: Placement) -> Any:
    """The network with every weight of the file and no other, ready for inference."""
    from_config = source.model.startswith("local-dir:")
    try:
        network = open_clip.create_model(
            source.model,
            None if from_config else str(source.file),
            precision=PRECISIONS[placement.dtype],
            device=placement.device,
            force_quick_gelu=source.quick_gelu,
            force_preprocess_cfg=open_clip.transform.merge_preprocess_dict({}, source.preprocess),
            require_pretrained=True,
            weights_only=True,
        )
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"{source.file} cannot be loaded as open_clip's model {source.model!r} ({reason}): "
            "name the file of the model you asked for, or download it again"
        ) from error
    network.eval().requires_grad_(False)
    return network


def read_recipe(network: Any, preprocess: str | None) -> PixelRecipe:
    """What open_clip would do: the network's ``preprocess_cfg``."""
    settings = network.visual.preprocess_cfg
    size, mode = settings["size"], settings["resize_mode"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise WeightsError(f"the model takes pictures of {width} × {height} pixels: only square ones are supported")
    if preprocess is None and mode not in WAYS:
        raise UsageError(f"the model's own way to prepare pictures ({mode!r}) is not supported: give --preprocess clip")
    way = WAYS[mode] if preprocess is None else check_way(preprocess)
    bilinear = settings["interpolation"] == "bilinear"
    resampling = Resampling.BILINEAR if bilinear else Resampling.BICUBIC
    return PixelRecipe(way, height, tuple(settings["mean"]), tuple(settings["std"]), resampling)


def read_tokenizer(open_clip: ModuleType, source: Source, text: dict[str, Any]) -> Any:
    """open_clip's tokenizer for the model, its files from beside the weights or from the hub's cache."""
    name = text.get("hf_tokenizer_name")
    if not name:
        return open_clip.get_tokenizer(source.model)
    beside = source.file.parent
    place = str(beside) if any((beside / file).is_file() for file in TOKENIZER_FILES) else name
    try:
        tokenizer = open_clip.tokenizer.HFTokenizer(
            place,
            context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=True,
            trust_remote_code=False,
            **text.get("tokenizer_kwargs", {}),
        )
    except (OSError, ValueError, ImportError) as error:
        raise WeightsError(
            f"the model needs the tokenizer {name}, which is neither in the hub's cache nor beside {source.file}: "
            f"run `hf download {name} --include 'token*' '*.model' '*.json'` where there is a network"
        ) from error
    # As with transformers 4, where these models were trained; in 5 Gemma's default is the left.
    tokenizer.tokenizer.padding_side = "right"
    return tokenizer


def revision(source: Source, recipe: PixelRecipe) -> str:
    """Digest of everything a vector depends on: weights, pixels, token ids."""
    digest = hashlib.sha256(f"{RECIPE} {recipe!r} {source.quick_gelu}".encode())
    for file in (source.file, *(source.file.with_name(name) for name in (CONFIG_FILE, *TOKENIZER_FILES))):
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def load(request: LoadRequest) -> OpenClip:
    """The encoder ``openclip:MODEL/TAG``, ``openclip:MODEL/FILE``, ``openclip:FOLDER``, or with ``weights``.

    With ``weights`` given, those are read; a tag then says how pictures are prepared. Raises UsageError for a model,
    tag, device, dtype or preprocess there is not, WeightsError where open_clip or the weights are missing or damaged.
    """
    placement = place(f"openclip:{request.variant}", request)
    open_clip = import_open_clip()
    source = find_source(open_clip, request.variant, request.weights)
    network = read_network(open_clip, source, placement)
    config = open_clip.get_model_config(source.model)
    recipe = read_recipe(network, request.preprocess)
    tokenizer = read_tokenizer(open_clip, source, config["text_cfg"])
    space = Space(f"openclip:{source.label}", revision(source, recipe), config["embed_dim"])
    return OpenClip(space, network, tokenizer, recipe, placement)
