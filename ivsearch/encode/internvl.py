"""``internvl-c`` and ``internvl-g``: the contrastive encoders of InternVL-14B, with its captions and matching head.

Both read texts alike; G's pictures have also been looked at by QLLaMA's queries. Weights are read when first needed, so
that indexing with C holds the vision tower alone, 12 GB in bfloat16, and searching by text the text tower alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ivsearch.domain import Embeddings, Space
from ivsearch.encode.encoder import Caption
from ivsearch.encode.internvl_texts import Texts
from ivsearch.encode.numerics import check_numerics, not_finite
from ivsearch.encode.pixels import check_way, prepare
from ivsearch.encode.table import LoadRequest
from ivsearch.errors import NotFinite, UsageError
from ivsearch.models.captioning import Decoding, caption
from ivsearch.models.checkpoint import open_checkpoint
from ivsearch.models.feed import Feed, Portions
from ivsearch.models.hub import locate
from ivsearch.models.internvl import InternVL
from ivsearch.models.lazy_internvl import LazyInternVL, Part
from ivsearch.pictures import Transparency

log = logging.getLogger(__name__)

# Raised whenever this code makes other vectors of the same files than it did before.
RECIPE = 1
PART_OF = {"internvl-c": (Part.VISION,), "internvl-g": (Part.VISION, Part.TEXT, Part.QUERIES)}
# Measured on an H200 (benchmarks/LOG.md): 64 pictures fill the chip; two parts hide the copying of the second.
PICTURES_AT_ONCE = 64
TEXTS_AT_ONCE = 256
CPU_PICTURES_AT_ONCE = 16


class InternVLEncoder:
    """The Encoder, Captioner and Matcher. ``load`` makes one."""

    transparency = Transparency.DROPPED

    def __init__(self, name: str, weights: LazyInternVL, texts: Texts, way: str) -> None:
        self.weights = weights
        self.texts = texts
        self.way = way
        self.side = weights.config.vision.image_size
        made_by = f"{RECIPE} {weights.digest} {weights.config!r} {texts.digest()} {way}"
        self.space = Space(name, hashlib.sha256(made_by.encode()).hexdigest(), weights.config.clip_embed_dim)
        devices = [where("vision_model.embeddings.class_embedding") for where in weights.spread.copies]
        on_gpu = devices[0].type != "cpu"
        at_once = PICTURES_AT_ONCE if on_gpu else CPU_PICTURES_AT_ONCE
        self.portions = [Portions(Feed(device), at_once, self._say_fewer) for device in devices]
        self.batch_size = at_once * (2 if on_gpu else 1) * len(devices)

    def sibling(self, name: str) -> InternVLEncoder | None:
        """The other of the two encoders on the same weights, which are not read again; None for any other name."""
        return InternVLEncoder(name, self.weights, self.texts, self.way) if name in PART_OF else None

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 to (n, 3, side, side) float32, 224 pixels a side in the official model."""
        return prepare(pixels, self.way, self.side)

    @torch.inference_mode()
    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """(n, 3, side, side) float32 to (n, dim) unit vectors, on all copies of the model at once."""
        parts = PART_OF[self.space.encoder]
        models = [self.weights.need(*parts, copy=copy) for copy in range(len(self.weights.copies))]
        if len(models) == 1 or len(batch) < len(models):
            return self._embeddings(self._encode(models[0], self.portions[0], batch))
        with ThreadPoolExecutor(len(models)) as pool:
            shares = np.array_split(batch, len(models))
            return self._embeddings(*pool.map(self._encode, models, self.portions, shares))

    @torch.inference_mode()  # of the thread
    def _encode(self, model: InternVL, portions: Portions, batch: NDArray[np.float32]) -> Tensor:
        embed = model.embed_c if self.space.encoder == "internvl-c" else model.embed_g
        return portions.run(embed, batch, self.space.dim)

    def _say_fewer(self, size: int) -> None:
        log.warning("no room for so many pictures at once: going on with %d", size)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Texts in any language to (n, dim) unit vectors. What goes beyond 80 tokens is cut off."""
        ids = [self.texts.encode(text) for text in texts]
        model = self.weights.need(Part.TEXT)
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = torch.empty(len(ids), self.space.dim)
        for start in range(0, len(order), TEXTS_AT_ONCE):
            # Texts of like length together, cut to the longest: what stands behind a text does not change it.
            rows = order[start : start + TEXTS_AT_ONCE]
            found[rows] = model.embed_text(_padded([ids[row] for row in rows])).float().cpu()
        return self._embeddings(found)

    @torch.inference_mode()
    def caption(
        self,
        batch: NDArray[np.float32],
        *,
        prompt: str = "English caption:",
        beams: int = 5,
        min_new_tokens: int = 8,
        max_new_tokens: int = 19,
    ) -> list[Caption]:
        """A preprocessed batch of n pictures to n captions, as the official ``generate`` makes them."""
        decoding = Decoding(beams, min_new_tokens, max_new_tokens)
        model = self.weights.need(Part.VISION, Part.TEXT, Part.QUERIES, Part.WORDS)
        prompt_ids = self.texts.prompt(prompt)
        captions = []
        for pixels in self.portions[0].feed.parts(batch, max(1, self.portions[0].size // beams)):
            try:
                found = caption(model, pixels, prompt_ids, decoding)
            except NotFinite:
                raise self._overflow() from None
            captions += [Caption(self.texts.pieces.decode(ids), tuple(ids)) for ids in found]
        return captions

    @torch.inference_mode()
    def match(self, batch: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
        """(n,) probabilities of the matching head that picture i shows what text i says. Experimental: the official
        code never calls this head, so nothing says that we use it as it was trained."""
        if len(batch) != len(texts):
            raise UsageError(f"there are {len(batch)} pictures and {len(texts)} texts to match: give as many of each")
        if not texts:
            return np.empty(0, np.float32)
        model = self.weights.need(Part.VISION, Part.TEXT, Part.QUERIES, Part.MATCHING)
        size = self.portions[0].size
        ids = _padded([self.texts.encode(text) for text in texts]).split(size)
        parts = zip(self.portions[0].feed.parts(batch, size), ids, strict=True)
        judged = np.concatenate([model.match(pixels, part).cpu().numpy() for pixels, part in parts])
        if not np.isfinite(judged).all():
            raise self._overflow()
        return judged

    def _embeddings(self, *found: Tensor) -> Embeddings:
        rows = np.concatenate([F.normalize(part, dim=-1).cpu().numpy() for part in found])
        if not np.isfinite(rows).all():
            raise self._overflow()
        return Embeddings(self.space, rows)

    def _overflow(self) -> NotFinite:
        return not_finite(self.space.encoder, self.weights.numerics)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(n, longest) ids, 0 behind the end of a text."""
    ids = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.long)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return ids


def load(request: LoadRequest) -> InternVLEncoder:
    """``internvl-c`` or ``internvl-g`` on the weights of InternVL-14B, or one fine-tuned from it at another size.

    Raises UsageError for a device, dtype, attention or preprocess there is not, WeightsError for files that are
    missing, damaged or of another model.
    """
    way = check_way(request.preprocess)
    folder = locate(request.weights or "")
    checkpoint = open_checkpoint(folder)
    weights = LazyInternVL(checkpoint, request.device, check_numerics(request), PART_OF[request.encoder])
    return InternVLEncoder(request.encoder, weights, Texts(folder, weights.config.qllama), way)
