"""Pictures and texts to unit vectors of one Space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Embeddings
from ivsearch.encode.encoder import Encoder
from ivsearch.encode.table import EncoderRow, describe_encoders, load_encoder
from ivsearch.errors import MediaError, UsageError
from ivsearch.pictures import FAULTS, load_picture, open_picture, upright_rgb

__all__ = ["Encoder", "EncoderRow", "describe_encoders", "embed_images", "load_encoder"]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """An image file as displayed: (h, w, 3) uint8 sRGB, read as indexing reads it; of an animation, its first picture.

    A cut-off one is taken when at least half of it is there.
    """
    try:
        image, _ = load_picture(open_picture(path), path)
        with image:
            return upright_rgb(image)
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file") from None
    except FAULTS as error:
        raise MediaError(f"{path}: cannot be read as an image ({error})") from error


def embed_images(encoder: Encoder, paths: Sequence[str | Path], batch_size: int = 16) -> Embeddings:
    """Image files to (n, dim) unit vectors, in the order of ``paths``. The first unreadable file raises MediaError."""
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, not {batch_size}")
    rows = [np.empty((0, encoder.space.dim), np.float32)]
    for start in range(0, len(paths), batch_size):
        pixels = [read_picture(Path(path)) for path in paths[start : start + batch_size]]
        rows.append(encoder.encode_images(encoder.preprocess(pixels)).vectors)
    return Embeddings(encoder.space, np.concatenate(rows))
