"""Image files to vectors: as displayed, in order, and what cannot be read."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ivsearch.domain import Embeddings, Space
from ivsearch.encode import embed_images
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.still import Still
from ivsearch.pictures import Transparency

ROOT = Path(__file__).parents[2]


class CornerEncoder:
    """A stand-in that says which colour the top left and the bottom right pixel have."""

    space = Space("corner", "0", 6)
    transparency = Transparency.ON_WHITE
    batch_size = 16

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


def a_photo() -> Image.Image:
    small = np.random.default_rng(21).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC)


def cut_out(path: Path) -> Path:
    """Opaque in the middle; the transparent rest is black underneath."""
    rgba = np.zeros((90, 120, 4), np.uint8)
    rgba[20:70, 30:90] = np.dstack([np.asarray(a_photo())[20:70, 30:90], np.full((50, 60), 255, np.uint8)])
    Image.fromarray(rgba).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def palette_with_a_hole(path: Path) -> Path:
    a_photo().quantize(16).save(path.with_suffix(".png"), transparency=3)
    return path.with_suffix(".png")


def deep_grey(path: Path) -> Path:
    Image.fromarray(np.asarray(a_photo().convert("L")).astype(np.uint16) * 257).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def cmyk(path: Path) -> Path:
    a_photo().convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    return path.with_suffix(".jpg")


def red_and_blue_exchanged(path: Path) -> Path:
    """An sRGB profile with its red and blue primaries exchanged, under another name."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = bytearray(srgb.replace(b"\0s\0R\0G\0B", b"\0T\0E\0S\0T"))
    for index in range(struct.unpack(">I", profile[128:132])[0]):
        at = 132 + 12 * index
        swapped = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(bytes(profile[at : at + 4]))
        profile[at : at + 4] = swapped or profile[at : at + 4]
    a_photo().save(path.with_suffix(".png"), icc_profile=bytes(profile))
    return path.with_suffix(".png")


def on_its_side(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    a_photo().save(path.with_suffix(".jpg"), exif=exif)
    return path.with_suffix(".jpg")


def animation(path: Path) -> Path:
    a_photo().save(path.with_suffix(".gif"), save_all=True, append_images=[Image.new("RGB", (120, 90))], duration=500)
    return path.with_suffix(".gif")


def cut_short(path: Path) -> Path:
    """Lacks its last fifth: what is there is taken."""
    noise = np.random.default_rng(5).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    path = path.with_suffix(".jpg")
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    return path


FILES = [cut_out, palette_with_a_hole, deep_grey, cmyk, red_and_blue_exchanged, on_its_side, animation, cut_short]


@pytest.mark.parametrize("make", FILES)
def test_pictures_are_read_as_indexing_reads_them(tmp_path: Path, mini: Encoder, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "a")
    with Still(path) as still:
        indexed = mini.encode_images(mini.preprocess([still.pixels()])).vectors
    np.testing.assert_array_equal(embed_images(mini, [path]).vectors, indexed)


def test_transparency_is_white(tmp_path: Path) -> None:
    vectors = embed_images(CornerEncoder(), [cut_out(tmp_path / "a")]).vectors
    np.testing.assert_array_equal(vectors, [[255] * 6])


def test_a_deep_picture_keeps_its_greys(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 100 * 257], [9, 200 * 257]], np.uint16)).save(tmp_path / "a.png")
    vectors = embed_images(CornerEncoder(), [tmp_path / "a.png"]).vectors
    np.testing.assert_array_equal(vectors, [[0, 0, 0, 200, 200, 200]])


def test_a_huge_picture_is_refused(tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match=r"bomb\.png: cannot be read as an image \(picture has 30000 × 30000 = 900,0"):
        embed_images(CornerEncoder(), [tmp_path / "bomb.png"])


def test_a_picture_beyond_pillows_own_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut_short(tmp_path / "a")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert embed_images(CornerEncoder(), [path]).vectors.shape == (1, 6)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_heic_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + b"\0" * 100)
    with pytest.raises(MediaError, match=r"a\.heic: cannot be read as an image \(HEIC pictures cannot be read; export"):
        embed_images(CornerEncoder(), [tmp_path / "a.heic"])


def test_reading_pictures_needs_no_pyav() -> None:
    code = "import sys, ivsearch.pictures, ivsearch.encode; print('av' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
