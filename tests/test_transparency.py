"""Alpha is read in one way wherever a picture becomes pixels, as the encoder wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ivsearch.domain import Embeddings, Ingested, Space
from ivsearch.encode import embed_images, read_picture
from ivsearch.media.pool import DecodePool, Job, Kept
from ivsearch.media.still import Still
from ivsearch.pictures import Transparency

from .conftest import library_with

DROPPED, ON_WHITE = Transparency.DROPPED, Transparency.ON_WHITE


def hidden_colours() -> Image.Image:
    """A gradient under an alpha that runs from nothing to all."""
    rgba = np.zeros((24, 32, 4), np.uint8)
    rgba[..., 0] = np.arange(32) * 8
    rgba[..., 1] = 200
    rgba[..., 2] = np.arange(24)[:, None] * 10
    rgba[..., 3] = np.arange(32) * 255 // 31
    return Image.fromarray(rgba)


def save(folder: Path, mode: str) -> Path:
    picture = hidden_colours()
    if mode == "P":
        picture.convert("RGB").quantize(16).save(folder / "p.png", transparency=bytes(range(0, 256, 16)))
        return folder / "p.png"
    if mode == "RGB":
        picture.convert("RGB").save(folder / "rgb.png", transparency=(0, 200, 0))
        return folder / "rgb.png"
    if mode == "L":
        picture.convert("L").save(folder / "l.png", transparency=120)
        return folder / "l.png"
    picture.convert(mode).save(folder / "a.png")
    return folder / "a.png"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_dropped_is_what_pillow_does(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path, mode)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_picture(path, DROPPED), expected)
    with Still(path, transparency=DROPPED) as still:
        np.testing.assert_array_equal(still.pixels(), expected)
    assert (read_picture(path, ON_WHITE) != expected).any()


def test_the_official_picture(shared: Path) -> None:
    path = shared / "parity" / "images" / "rgba.png"
    np.testing.assert_array_equal(read_picture(path, DROPPED), np.asarray(Image.open(path).convert("RGB")))


def test_orientation_applies_without_alpha_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    hidden_colours().save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(np.asarray(hidden_colours())[..., :3], -1)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", DROPPED), expected)


@pytest.mark.parametrize("transparency", Transparency)
def test_workers_read_as_they_are_told(tmp_path: Path, transparency: Transparency) -> None:
    path = save(tmp_path, "RGBA")
    with DecodePool(workers=1, transparency=transparency) as pool:
        (kept,) = [event for event in pool.run([Job(path, "0" * 32)]) if isinstance(event, Kept)]
    np.testing.assert_array_equal(kept.frame.pixels, read_picture(path, transparency))


def test_videos_with_alpha(tmp_path: Path) -> None:
    rgba = np.asarray(hidden_colours())
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="bgra")))
        container.mux(stream.encode(None))
    for transparency, expected in ((DROPPED, [240, 200, 230]), (ON_WHITE, [240, 201, 231])):
        with DecodePool(workers=1, transparency=transparency) as pool:
            jobs = [Job(tmp_path / "a.mkv", "0" * 32)]
            (kept,) = [event for event in pool.run(jobs) if isinstance(event, Kept)]
        assert abs(kept.frame.pixels[23, 30].astype(int) - expected).max() <= 9
        hidden = [0, 200, 0] if transparency is DROPPED else [255, 255, 255]
        assert kept.frame.pixels[0, 0].tolist() == hidden


class Thumbnailer:
    """A stand-in whose vectors are the pixels themselves, so that equal pixels are seen to be equal."""

    batch_size = 4
    space = Space("thumbnailer", "0" * 16, 3 * 64)

    def __init__(self, transparency: Transparency) -> None:
        self.transparency = transparency

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        small = [np.asarray(Image.fromarray(picture).resize((8, 8)), np.float32).ravel() for picture in pixels]
        return np.stack(small) - 127

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        return Embeddings(self.space, batch / np.linalg.norm(batch, axis=1, keepdims=True))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        raise NotImplementedError


@pytest.mark.parametrize("transparency", Transparency)
def test_a_picture_of_the_library_finds_itself(tmp_path: Path, shared: Path, transparency: Transparency) -> None:
    encoder = Thumbnailer(transparency)
    path = shared / "parity" / "images" / "rgba.png"
    with library_with(encoder, tmp_path / "library") as library:
        assert all(isinstance(event, Ingested) for event in library.index([path]))
        (hit,) = library.search(image=path)
        assert hit.score == pytest.approx(1.0, abs=2e-3)
        stored = library.searcher().vectors.read(library.catalog.encodings(encoder.space)[hit.media_id].record).vectors
    np.testing.assert_allclose(embed_images(encoder, [path]).vectors, stored, atol=1e-3)
