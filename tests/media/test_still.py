from __future__ import annotations

import io
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ivsearch.domain import MediaKind
from ivsearch.errors import MediaError
from ivsearch.media.probe import probe
from ivsearch.media.sample import Sample, Sampling

ID = "0" * 32


def read(path: Path, fps: float = 1.0, **options: int) -> list[Sample]:
    return list(Sampling(path, ID, fps=fps, **options))


def pixels_of(path: Path) -> np.ndarray:
    (only,) = read(path)
    assert (only.index, only.frame.pts_s) == (0, 0.0)
    return only.frame.pixels


def corners() -> Image.Image:
    """Red, green / blue, white quarters of 40 × 20 pixels."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20, :40], pixels[:20, 40:], pixels[20:, :40], pixels[20:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    return Image.fromarray(pixels)


# EXIF 2.32, tag 274: what has to be done to the stored picture to see it upright.
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
INVERSE = {Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    turned = UPRIGHT[orientation]
    stored = corners() if turned is None else corners().transpose(INVERSE.get(turned, turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels_of(tmp_path / "a.png"), np.asarray(corners()))
    media = probe(tmp_path / "a.png")
    assert (media.width, media.height, media.kind) == (80, 40, MediaKind.IMAGE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "a.tiff")
    if mode in ("I;16", "I", "F"):
        values = np.repeat(np.linspace(0, 65535, 64)[None], 8, axis=0)
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        Image.fromarray((values / 65535 if mode == "F" else values).astype(kind)).save(path)
        expected = np.repeat((values / 257)[..., None], 3, axis=2)
        assert np.abs(pixels_of(path) - expected).max() <= 1
        return
    plain = corners().convert("L").convert(mode) if mode == "1" else corners().convert(mode)
    plain.save(path)
    expected = np.asarray((corners().convert("L") if mode in ("1", "L", "LA") else corners()).convert("RGB"))
    difference = np.abs(pixels_of(path).astype(int) - expected)
    assert difference.mean() < (130 if mode == "1" else 3)


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (200, 10, 10, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [200, 10, 10]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_palette_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 250, 0, 0])
    image.putpixel((1, 1), 1)
    image.save(tmp_path / "a.png", transparency=0)
    pixels = pixels_of(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [250, 0, 0]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = pixels_of(tmp_path / "a.jpg")[16, 16].astype(int)
    assert red > 200
    assert max(green, blue) < 90


def test_icc_profile_is_applied(tmp_path: Path) -> None:
    """The sRGB profile with its red and blue primaries exchanged, under another name: colours swap."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = bytearray(srgb.replace(b"\0s\0R\0G\0B", b"\0T\0E\0S\0T"))
    for index in range(struct.unpack(">I", profile[128:132])[0]):
        at = 132 + 12 * index
        swapped = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(bytes(profile[at : at + 4]))
        profile[at : at + 4] = swapped or profile[at : at + 4]
    Image.new("RGB", (8, 8), (200, 60, 30)).save(tmp_path / "a.png", icc_profile=bytes(profile))
    assert np.abs(pixels_of(tmp_path / "a.png")[4, 4].astype(int) - (30, 60, 200)).max() <= 2


def test_a_broken_icc_profile_is_ignored(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.png", icc_profile=b"not a profile" * 20)
    assert np.array_equal(pixels_of(tmp_path / "a.png"), np.asarray(corners()))


def test_recorded_at(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2021:07:04 18:30:05"
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    corners().save(tmp_path / "a.jpg", exif=exif)
    assert probe(tmp_path / "a.jpg").recorded_at == datetime(2021, 7, 4, 16, 30, 5, tzinfo=UTC)
    del exif.get_ifd(0x8769)[0x9011]
    corners().save(tmp_path / "b.jpg", exif=exif)
    assert probe(tmp_path / "b.jpg").recorded_at == datetime(2021, 7, 4, 18, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_are_videos(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    levels, delays = [0, 60, 120, 180, 240], [400, 400, 400, 1900, 100]
    pictures = [Image.new("RGB", (32, 32), (level, level, level)) for level in levels]
    options = {"lossless": True} if suffix == "webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays, **options)
    sampling = Sampling(path, ID)
    samples = list(sampling)
    # shown at 0, 0.4, 0.8, 1.2, 3.1 s; the last one until 3.2 s
    assert [int(item.frame.pixels[9, 9, 0]) for item in samples] == [0, 120, 180, 180]
    assert [item.frame.pts_s for item in samples] == pytest.approx([0.0, 0.8, 1.2, 1.2])
    assert sampling.media.kind is MediaKind.VIDEO
    assert sampling.media.duration_s == pytest.approx(3.2)
    assert sampling.media.codec == {"gif": "gif", "webp": "webp", "png": "apng"}[suffix]


def test_an_animation_without_delays_runs_at_10_a_second(tmp_path: Path) -> None:
    pictures = [Image.new("L", (8, 8), level) for level in range(0, 240, 10)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=0)
    sampling = Sampling(tmp_path / "a.gif", ID)
    assert len(list(sampling)) == 3
    assert sampling.media.duration_s == pytest.approx(2.4)


def test_one_picture_gif_is_an_image(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.gif")
    assert probe(tmp_path / "a.gif").kind is MediaKind.IMAGE


def test_kind_follows_content_not_name(tmp_path: Path, plain_clip: Path) -> None:
    corners().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "picture.mp4")
    (tmp_path / "video.jpg").write_bytes(plain_clip.read_bytes())
    assert probe(tmp_path / "picture.mp4").kind is MediaKind.IMAGE
    assert probe(tmp_path / "video.jpg").kind is MediaKind.VIDEO


def test_decompression_bomb(tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    words = r"picture has 30000 × 30000 = 900,000,000 pixels, more than the limit of 200,000,000"
    with pytest.raises(MediaError, match=words):
        read(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match=words):
        probe(tmp_path / "bomb.png")


def photo() -> bytes:
    random = np.random.default_rng(5)
    image = Image.fromarray(random.integers(0, 255, (60, 80, 3)).astype(np.uint8)).resize((640, 480))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def test_a_jpeg_that_lacks_its_end(tmp_path: Path) -> None:
    content = photo()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) * 8 // 10])
    sampling = Sampling(tmp_path / "a.jpg", ID)
    (only,) = list(sampling)
    assert only.frame.pixels.shape == (480, 640, 3)
    assert "cut short or damaged: about" in sampling.media.warnings[0]


def test_a_jpeg_that_lacks_most(tmp_path: Path) -> None:
    content = photo()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 5])
    with pytest.raises(MediaError, match="picture is damaged or cut short"):
        read(tmp_path / "a.jpg")


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n" + bytes(60), b"\xff\xd8\xff\xe0" + b"\x11" * 60, b"GIF89a\x01"])
def test_a_head_without_a_body(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.png").write_bytes(head)
    with pytest.raises(MediaError, match="picture is damaged"):
        read(tmp_path / "a.png")


def test_heic_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + b"\0" * 100)
    with pytest.raises(MediaError, match="HEIC pictures cannot be read; export them as JPEG"):
        read(tmp_path / "a.heic")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(MediaError, match=r"^file is empty \(0 bytes\)$"):
        read(tmp_path / "a.jpg")


@pytest.mark.shared
def test_photos_of_the_odd_set(shared_media: Path) -> None:
    for name in ("baboon", "fruits", "messi5"):
        path = shared_media / "odd/images" / f"{name}.jpg"
        assert np.array_equal(pixels_of(path), np.asarray(Image.open(path).convert("RGB")))
