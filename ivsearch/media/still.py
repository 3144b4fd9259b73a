"""Pictures and animations that Pillow reads: orientation, colour modes, transparency, ICC profiles, damage."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from ivsearch.errors import MediaError
from ivsearch.media.colour import BACKGROUND
from ivsearch.media.container import parse_moment
from ivsearch.media.decode import MAX_PIXELS, too_large
from ivsearch.media.faults import FAULTS, explain

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "TGA")
_HEADS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*", b"BM", b"P1", b"P2", b"P3", b"P4", b"P5",
    b"P6", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51",
)  # fmt: skip
_MOTION_JPEG = (".mjpeg", ".mjpg")

MIN_PRESENT = 0.5
"""A cut-off picture is taken, with a warning, when at least this share of its rows is there."""

ANIMATION_TIME_BASE = Fraction(1, 1000)
MIN_DELAY_MS, DEFAULT_DELAY_MS = 20, 100
"""Animations with delays under 20 ms are played at 100 ms a picture, as browsers and FFmpeg do."""


def is_still(path: Path) -> bool:
    """Whether the content (not the name) is of a picture format, animations included. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(32)
    if path.suffix.lower() in _MOTION_JPEG:
        return False  # many JPEGs one after another: the head looks like one picture
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return webp or head.startswith(_HEADS) or path.suffix.lower() == ".tga"


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A picture of an animation; ``pts`` and ``duration`` in milliseconds."""

    pts: int
    duration: int
    pixels: NDArray[np.uint8]


class Still:
    """An open picture or animation. Use as a context manager. Opening raises MediaError in plain words."""

    def __init__(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self.path = path
        self.warnings: list[str] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's own bomb warning; the limit below is ours
                self._image = _open(path, max_pixels)
        except FAULTS as error:
            raise MediaError(explain_still(path, error)) from error
        self.stored_width, self.stored_height = self._image.size

    def __enter__(self) -> Still:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.close()

    @property
    def is_animated(self) -> bool:
        return self._image.format not in ("TIFF", "MPO") and getattr(self._image, "n_frames", 1) > 1

    @property
    def codec(self) -> str:
        name = (self._image.format or "image").lower()
        return "apng" if name == "png" and self.is_animated else name

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as shown, EXIF orientation applied."""
        width, height = self._image.size
        return (height, width) if self._orientation() >= 5 else (width, height)

    @property
    def recorded_at(self) -> datetime | None:
        """EXIF DateTimeOriginal in UTC; without OffsetTimeOriginal the camera's clock is taken for UTC."""
        try:
            tags = self._image.getexif().get_ifd(ExifTags.IFD.Exif)
            moment = str(tags.get(ExifTags.Base.DateTimeOriginal, "")).strip("\0 ")
            offset = str(tags.get(ExifTags.Base.OffsetTimeOriginal, "")).strip("\0 ")
        except FAULTS:
            return None  # broken EXIF does not make a broken picture
        date, _, time = moment.partition(" ")
        text = f"{date.replace(':', '-')}T{time}"
        return parse_moment(text + offset) or parse_moment(text)

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 sRGB of the (first) picture. Raises MediaError; adds to ``warnings``."""
        try:
            self._load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(self._image)))
        except FAULTS as error:
            raise MediaError(explain_still(self.path, error)) from error

    def pictures(self, on_progress: Callable[[], None] = lambda: None) -> Iterator[Shown]:
        """The pictures of an animation with their true times. Damage in the middle ends it with a warning."""
        pts = 0
        index = 0
        while True:
            try:
                self._image.seek(index)
                pixels = np.asarray(_to_rgb(ImageOps.exif_transpose(self._image)))
                delay = int(self._image.info.get("duration") or 0)
            except EOFError:
                return
            except FAULTS as error:
                if index == 0:
                    raise MediaError(explain_still(self.path, error)) from error
                self.warnings.append(f"damaged after {pts / 1000:.1f} s; what comes before is kept")
                return
            delay = delay if delay >= MIN_DELAY_MS else DEFAULT_DELAY_MS
            on_progress()
            yield Shown(pts, delay, pixels)
            pts += delay
            index += 1

    def _orientation(self) -> int:
        try:
            value = self._image.getexif().get(ExifTags.Base.Orientation, 1)
        except FAULTS:
            return 1
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    def _load(self) -> None:
        try:
            self._image.load()
        except FAULTS:
            share = self._load_damaged()
            if share < MIN_PRESENT:
                raise
            self.warnings.append(f"cut short or damaged: about {share:.0%} of the picture is there")

    def _load_damaged(self) -> float:
        """Decode what is there; the share of rows that came out."""
        self._image.close()
        image = Image.open(self.path, formats=FORMATS)
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
        self._image = image
        return _share_present(np.asarray(image.convert("RGB")))


def explain_still(path: Path, error: BaseException) -> str:
    """Plain words for what Pillow raised."""
    if isinstance(error, MediaError) or (isinstance(error, OSError) and error.errno is not None):
        return explain(path, error)
    if isinstance(error, MemoryError):
        return "not enough memory to decode this picture"
    if path.is_file() and path.stat().st_size == 0:
        return "file is empty (0 bytes)"
    detail = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return f"picture is damaged or cut short ({detail}); copy or download it again"


def _open(path: Path, max_pixels: int) -> Image.Image:
    with path.open("rb") as file:
        head = file.read(12)
    if head[8:12] in (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"):
        raise MediaError("HEIC pictures cannot be read; export them as JPEG or AVIF")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise MediaError("picture is damaged: its header makes no sense; copy or download it again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise MediaError(too_large(width, height, max_pixels))
    return image


def _share_present(pixels: NDArray[np.uint8]) -> float:
    """Pillow leaves rows it never got in one flat colour: count the flat ones at the bottom."""
    flat = (pixels == pixels[-1, -1]).all(axis=(1, 2))
    missing = len(flat) if flat.all() else int(np.argmin(flat[::-1]))
    return 1.0 - missing / len(flat)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return _from_deep(image).convert("RGB")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("RGBA")
    image = _to_srgb(image)
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", image.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """More than 8 bits a pixel → L. 16-bit codes are divided by 257; other ranges are stretched to theirs."""
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        usual = [top for top in (1.0, 255.0) if low >= 0.0 and high <= top]
        low, high = (0.0, usual[0]) if usual else (low, high)
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Through the embedded ICC profile, relative colorimetric; a profile that makes no sense is ignored."""
    icc = image.info.get("icc_profile")
    if not icc or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(icc))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        opaque = image.convert("RGB") if alpha else image
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        converted = ImageCms.profileToProfile(opaque, source, _srgb(), intent, outputMode="RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, struct.error):
        return image
    if converted is None:
        return image
    if alpha:
        converted.putalpha(alpha)
    return converted


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
