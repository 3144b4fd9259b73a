"""Image files to vectors: as displayed, in order, and what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ivsearch.domain import Embeddings, Space
from ivsearch.encode import embed_images
from ivsearch.errors import MediaError, UsageError


class CornerEncoder:
    """A stand-in that says which colour the top left and the bottom right pixel have."""

    space = Space("corner", "0", 6)

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.array([[*picture[0, 0], *picture[-1, -1]] for picture in pixels], np.float32)

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        return Embeddings(self.space, batch)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        raise NotImplementedError


def two_halves(path: Path, left: tuple[int, ...], right: tuple[int, ...], orientation: int = 1) -> Path:
    picture = Image.new("RGB", (8, 4), left)
    picture.paste(right, (4, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    return path


def test_order_is_kept_over_batches(tmp_path: Path) -> None:
    paths = [two_halves(tmp_path / f"{i}.png", (i, 0, 0), (0, 0, i)) for i in range(7)]
    vectors = embed_images(CornerEncoder(), paths, batch_size=3).vectors
    np.testing.assert_array_equal(vectors[:, 0], range(7))
    np.testing.assert_array_equal(vectors[:, 5], range(7))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upside_down = two_halves(tmp_path / "a.png", (255, 0, 0), (0, 0, 255), orientation=3)
    np.testing.assert_array_equal(embed_images(CornerEncoder(), [upside_down]).vectors, [[0, 0, 255, 255, 0, 0]])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    Image.new(mode, (5, 5)).save(path)
    assert embed_images(CornerEncoder(), [path]).vectors.shape == (1, 6)


def test_no_paths_no_rows() -> None:
    assert embed_images(CornerEncoder(), []).vectors.shape == (0, 6)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.png: no such file"):
        embed_images(CornerEncoder(), [tmp_path / "gone.png"])


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(MediaError, match=r"broken\.png: cannot be read as an image"):
        embed_images(CornerEncoder(), [tmp_path / "broken.png"])


def test_a_batch_holds_something() -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1, not 0"):
        embed_images(CornerEncoder(), [], batch_size=0)
