"""Picture and animation files as Media: what they are, when they were made, their pictures with times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags

from ivsearch.errors import MediaError
from ivsearch.media.container import parse_moment
from ivsearch.media.faults import explain
from ivsearch.pictures import FAULTS, MAX_PIXELS, Transparency, load_picture, open_picture, upright_rgb

_HEADS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*", b"BM", b"P1", b"P2", b"P3", b"P4", b"P5",
    b"P6", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51",
)  # fmt: skip
_MOTION_JPEG = (".mjpeg", ".mjpg")

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

    def __init__(
        self, path: Path, *, max_pixels: int = MAX_PIXELS, transparency: Transparency = Transparency.ON_WHITE
    ) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._max_pixels = max_pixels
        self._transparency = transparency
        try:
            self._image = open_picture(path, max_pixels)
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
            return upright_rgb(self._image, self._transparency)
        except FAULTS as error:
            raise MediaError(explain_still(self.path, error)) from error

    def pictures(self, on_progress: Callable[[], None] = lambda: None) -> Iterator[Shown]:
        """The pictures of an animation with their true times. Damage in the middle ends it with a warning."""
        pts = 0
        index = 0
        while True:
            try:
                self._image.seek(index)
                pixels = upright_rgb(self._image, self._transparency)
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
        self._image, share = load_picture(self._image, self.path, self._max_pixels)
        if share is not None:
            self.warnings.append(f"cut short or damaged: about {share:.0%} of the picture is there")


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
