"""Decoded pictures → sRGB pixels: matrix, range, HDR, wide gamut, alpha, sample aspect ratio and rotation."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ivsearch.pictures import BACKGROUND, Transparency

MAX_ASPECT = Fraction(8)
"""A sample aspect ratio beyond 8:1 either way is taken for damage and ignored."""

_SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

# Numbers of ITU-T H.273, as in AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_BT2020, _DCI_P3, _DISPLAY_P3 = 9, 11, 12
_PQ, _HLG = 16, 18


def display_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Size with square pixels: the width is scaled by the sample aspect ratio, as ``scale=iw*sar:ih`` does."""
    if not aspect or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        return width, height
    return max(1, round(width * aspect)), height


class Painter:
    """Turns decoded pictures into pixels; keeps the scaler's tables between pictures of one video."""

    def __init__(self, transparency: Transparency = Transparency.ON_WHITE) -> None:
        self._transparency = transparency
        self._scaler = VideoReformatter()

    def pixels(self, picture: VideoFrame, aspect: Fraction | None) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 sRGB as displayed: square pixels, upright, opaque, tone-mapped when HDR."""
        width, height = display_size(picture.width, picture.height, aspect)
        has_alpha = any(component.is_alpha for component in picture.format.components) or picture.format.has_palette
        is_rgb = picture.format.is_rgb or picture.format.has_palette
        is_grey = len(picture.format.components) == 1
        converted = self._scaler.reformat(
            picture,
            width=width,
            height=height,
            format="rgba" if has_alpha else "rgb24",
            src_colorspace=None if is_rgb or is_grey else _matrix(picture),
            src_color_range=None if is_rgb or is_grey else _range(picture),
            dst_color_range=None if is_rgb or is_grey else ColorRange.JPEG,
            interpolation=_SCALER,
            threads=1,
        )
        pixels = np.asarray(converted.to_ndarray(), np.uint8)
        if has_alpha:
            pixels = flatten(pixels) if self._transparency is Transparency.ON_WHITE else pixels[..., :3]
        table = _table(*_wide(picture))
        if table is not None:
            pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).filter(table))
        return np.ascontiguousarray(_upright(pixels, picture))


def flatten(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 4) with straight alpha → (h, w, 3) on BACKGROUND."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = rgba[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127
    return (mixed // 255).astype(np.uint8)


def turn(matrix: tuple[int, int, int, int]) -> tuple[bool, bool, bool]:
    """Signs of a display matrix (a, b, c, d), x' = ax + cy, y' = bx + dy → (transpose, mirror x', mirror y')."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def orientation(picture: VideoFrame) -> tuple[bool, bool, bool]:
    """How the picture is turned to stand upright: (transpose, mirror x, mirror y), to the nearest quarter turn."""
    matrix = picture.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if matrix is None:
        return False, False, False
    values = np.frombuffer(bytes(matrix), np.int32)
    return turn((int(values[0]), int(values[1]), int(values[3]), int(values[4])))


def _upright(pixels: NDArray[np.uint8], picture: VideoFrame) -> NDArray[np.uint8]:
    transpose, mirror_x, mirror_y = orientation(picture)
    if transpose:
        pixels = pixels.transpose(1, 0, 2)
    if mirror_x:
        pixels = pixels[:, ::-1]
    if mirror_y:
        pixels = pixels[::-1]
    return pixels


def _matrix(picture: VideoFrame) -> Colorspace:
    """The tagged matrix; untagged, what players assume: BT.709 from high definition on, else BT.601."""
    tagged = _MATRICES.get(int(picture.colorspace))
    if tagged is not None:
        return tagged
    if int(picture.color_trc) in (_PQ, _HLG):
        return Colorspace.BT2020
    return Colorspace.ITU709 if picture.width >= 1280 or picture.height > 576 else Colorspace.ITU601


def _range(picture: VideoFrame) -> ColorRange:
    full = int(picture.color_range) == int(ColorRange.JPEG) or picture.format.name.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG


def _wide(picture: VideoFrame) -> tuple[int, int]:
    return int(picture.color_primaries), int(picture.color_trc)


# Linear light of other primaries → linear BT.709. Derived from the chromaticities by SMPTE RP 177-1993;
# the one for BT.2020 is the matrix of ITU-R BT.2087-0, clause 2.
_TO_BT709 = {
    _BT2020: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),
    _DISPLAY_P3: np.array([[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0983]]),
}
_TO_BT709[_DCI_P3] = _TO_BT709[_DISPLAY_P3]

REFERENCE_WHITE = 203.0
"""cd/m² of diffuse white in HDR (ITU-R BT.2408-7, table 1); becomes the peak of the SDR picture."""
HDR_PEAK = 1000.0
"""cd/m², the usual mastering peak: what is brighter is clipped."""


@cache
def _table(primaries: int, transfer: int) -> ImageFilter.Color3DLUT | None:
    """The colour cube from this video's RGB to sRGB, or None when it is shown as it is.

    A cube costs 20 ms a megapixel, the exact formula a second. Of random PQ colours 99 % are within 3 of 255 of the
    formula; greys are off by at most 7, next to the peak.
    """
    if transfer not in (_PQ, _HLG) and primaries not in _TO_BT709:
        return None
    steps = 65
    axis = np.linspace(0.0, 1.0, steps)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red runs fastest, as Pillow wants it
    coded = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    if transfer in (_PQ, _HLG):
        srgb = tone_map(coded, pq=transfer == _PQ)
    else:
        # BT.1886: displays decode SDR video with gamma 2.4; the same gamma back keeps neutral greys where they were.
        linear = (coded**2.4) @ _TO_BT709[primaries].T
        srgb = np.sign(linear) * np.abs(linear) ** (1 / 2.4)
    return ImageFilter.Color3DLUT(steps, srgb.astype(np.float32).ravel(), channels=3)


def tone_map(coded: NDArray[np.float64], *, pq: bool) -> NDArray[np.float64]:
    """BT.2020 HDR signal in [0, 1], (…, 3), PQ or HLG → sRGB, beyond [0, 1] where a colour is outside its gamut.

    Brightness follows the EETF of ITU-R BT.2390-11, section 5.4 (black level 0), on the largest of R, G, B, all three
    scaled alike, so hues and neutral greys stay; then BT.709 primaries (BT.2087) and the sRGB curve (IEC 61966-2-1).
    """
    nits = pq_to_nits(coded) if pq else hlg_to_nits(coded)
    brightest = nits.max(axis=-1, keepdims=True)
    mapped = pq_to_nits(_eetf(nits_to_pq(np.minimum(brightest, HDR_PEAK))))
    scale = np.divide(mapped, brightest, out=np.zeros_like(mapped), where=brightest > 0)
    linear = (nits * scale / REFERENCE_WHITE) @ _TO_BT709[_BT2020].T
    # Mirrored below 0, as in scRGB (IEC 61966-2-2): clipping here would bend the cube between its points.
    size = np.maximum(np.abs(linear), 1e-9)
    return np.sign(linear) * np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_to_nits(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084 EOTF: [0, 1] → cd/m²."""
    power = np.power(np.clip(coded, 0.0, 1.0), 1 / _M2)
    return 10000.0 * np.power(np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power), 1 / _M1)


def nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of the SMPTE ST 2084 EOTF: cd/m² → [0, 1]."""
    power = np.power(np.maximum(nits, 0.0) / 10000.0, _M1)
    return np.power((_C1 + _C2 * power) / (1.0 + _C3 * power), _M2)


def hlg_to_nits(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100-2, table 5: inverse OETF and the OOTF of a 1000 cd/m² display (gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3.0, (np.exp((coded - c) / a) + b) / 12.0)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    return HDR_PEAK * np.power(np.maximum(luma, 1e-12), 0.2)[..., None] * scene


def _eetf(pq: NDArray[np.float64]) -> NDArray[np.float64]:
    peak = nits_to_pq(np.array(HDR_PEAK))
    target = nits_to_pq(np.array(REFERENCE_WHITE)) / peak
    value = pq / peak
    knee = 1.5 * target - 0.5
    t = np.clip((value - knee) / (1.0 - knee), 0.0, 1.0)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * target
    return np.where(value < knee, value, curve) * peak
