"""Picture files → sRGB pixels as displayed: orientation, colour modes, transparency, ICC profiles, damage.

The one way a picture is read, whether it is indexed, searched for or embedded: all must see the same pixels.
"""

from __future__ import annotations

import io
import struct
import warnings
from enum import StrEnum
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from ivsearch.errors import MediaError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "TGA")

FAULTS = (
    MediaError, OSError, EOFError, MemoryError, ValueError, ArithmeticError, LookupError, SyntaxError, struct.error,
)  # fmt: skip
"""What a broken file makes Pillow raise, and what is raised here. Its own errors are OSError, ValueError and
SyntaxError (PNG chunks); AttributeError and the like stay bugs of ours."""

MAX_PIXELS = 200_000_000
"""Largest picture taken, in pixels: the biggest phone cameras make 16,320 × 12,240. Its RGB needs 600 MB."""

MIN_PRESENT = 0.5
"""A cut-off picture is taken when at least this share of its rows is there."""

BACKGROUND = 255
"""Transparent pixels are shown on white: what is cut out (logos, diagrams, stickers, scanned text) is mostly drawn for
a white page, and dark text on black would vanish."""


class Transparency(StrEnum):
    """What becomes of a picture's alpha channel."""

    ON_WHITE = "on white"
    """Shown on white, as a page would show it."""
    DROPPED = "dropped"
    """Left out, so that the colours hidden under it are seen: what the official InternVL and CLIP pipelines do."""


_pillow_limits = Lock()
"""Held while Pillow's limits, which are global, are not what the rest of the process set them to."""


def too_large(width: int, height: int, limit: int) -> str:
    return f"picture has {width} × {height} = {width * height:,} pixels, more than the limit of {limit:,}"


def open_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture of which only the header is read. Raises MediaError in plain words, or another of FAULTS."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[8:12] in (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"):
        raise MediaError("HEIC pictures cannot be read; export them as JPEG or AVIF")
    with _pillow_limits, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked below
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


def load_picture(image: Image.Image, path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, float | None]:
    """Decodes ``image``, opened from ``path``. Returns the one to go on with, and the share of rows there if damaged.

    Raises one of FAULTS when less than MIN_PRESENT is there.
    """
    try:
        image.load()
        return image, None
    except FAULTS:
        image.close()
        image, share = _load_damaged(path, max_pixels)
        if share >= MIN_PRESENT:
            return image, share
        image.close()
        raise


def upright_rgb(image: Image.Image, transparency: Transparency) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 sRGB as displayed, EXIF orientation applied."""
    return np.asarray(_to_rgb(ImageOps.exif_transpose(image), transparency))


def _load_damaged(path: Path, max_pixels: int) -> tuple[Image.Image, float]:
    """Decode what is there; the share of rows that came out."""
    image = open_picture(path, max_pixels)
    with _pillow_limits:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    return image, _share_present(np.asarray(image.convert("RGB")))


def _share_present(pixels: NDArray[np.uint8]) -> float:
    """Pillow leaves rows it never got in one flat colour: count the flat ones at the bottom."""
    flat = (pixels == pixels[-1, -1]).all(axis=(1, 2))
    missing = len(flat) if flat.all() else int(np.argmin(flat[::-1]))
    return 1.0 - missing / len(flat)


def _to_rgb(image: Image.Image, transparency: Transparency) -> Image.Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return _from_deep(image).convert("RGB")
    if transparency is Transparency.DROPPED:
        return _to_srgb(_without_alpha(image)).convert("RGB")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("RGBA")
    image = _to_srgb(image)
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", image.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def _without_alpha(image: Image.Image) -> Image.Image:
    """The colours as they are stored, also where nothing of them is to be seen: Pillow's ``convert("RGB")``."""
    if image.mode in ("La", "RGBa"):  # multiplied by alpha; the plain colours first
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode == "LA":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns of what is wanted here
    return image.convert("RGB") if image.mode in ("RGBA", "RGBX") else image


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
