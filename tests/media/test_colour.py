"""Known code values in, known colours out. Expected values come from the standards' formulas or published tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivsearch.media.colour import flatten, hlg_to_nits, nits_to_pq, pq_to_nits, tone_map, turn
from ivsearch.media.sample import Sampling
from tests.media.barcode import encode, paint

LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # Kr, Kb of BT.709, BT.601, BT.2020


def rgb_of(path: Path) -> np.ndarray:
    (only,) = list(Sampling(path, "0" * 32))
    pixels = only.frame.pixels
    assert np.ptp(pixels.reshape(-1, 3), axis=0).max() <= 1
    return pixels[20, 20].astype(int)


def by_the_book(yuv: tuple[int, int, int], matrix: int, full: bool, bits: int) -> np.ndarray:
    """ITU-R BT.601/709/2020: R'G'B' of 8-bit display from quantised Y'CbCr."""
    scale = 2 ** (bits - 8)
    y, cb, cr = yuv
    if full:
        luma, blue, red = (y / (2**bits - 1), (cb - 128 * scale) / (2**bits - 1), (cr - 128 * scale) / (2**bits - 1))
    else:
        luma, blue, red = ((y / scale - 16) / 219, (cb / scale - 128) / 224, (cr / scale - 128) / 224)
    kr, kb = LUMA[matrix]
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.array([r, g, b]), 0, 1) * 255


@pytest.mark.parametrize("yuv", [(16, 128, 128), (235, 128, 128), (100, 90, 170), (150, 160, 100)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_matrix_and_range(tmp_path: Path, yuv: tuple[int, int, int], full: bool, matrix: int, pix_fmt: str) -> None:
    bits = 10 if "10" in pix_fmt else 8
    planes = tuple(value << (bits - 8) for value in yuv)
    primaries = {1: 1, 5: 6}[matrix]
    path = paint(tmp_path / "a.mkv", planes, pix_fmt=pix_fmt, matrix=matrix, full=full, primaries=primaries)
    assert np.abs(rgb_of(path) - by_the_book(planes, matrix, full, bits)).max() <= 2


@pytest.mark.parametrize(("size", "matrix"), [((640, 360), 5), ((1280, 720), 1)])
def test_untagged_is_bt601_below_high_definition(tmp_path: Path, size: tuple[int, int], matrix: int) -> None:
    path = paint(tmp_path / "a.mkv", (100, 90, 170), pix_fmt="yuv420p", matrix=2, full=False, size=size)
    assert np.abs(rgb_of(path) - by_the_book((100, 90, 170), matrix, False, 8)).max() <= 2


def test_full_range_jpeg_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", [0], codec="mjpeg", pix_fmt="yuvj420p", options={})
    (only,) = list(Sampling(path, "0" * 32))
    assert only.frame.pixels.min() <= 3
    assert only.frame.pixels.max() >= 252


def pq_patch(tmp_path: Path, signal: float, transfer: int = 16) -> np.ndarray:
    code = round(64 + 876 * signal)
    return rgb_of(
        paint(
            tmp_path / f"{signal}.mkv",
            (code, 512, 512),
            pix_fmt="yuv420p10le",
            matrix=9,
            full=False,
            transfer=transfer,
            primaries=9,
        )
    )


def test_pq_code_points() -> None:
    """ITU-R BT.2408 table: 0.58 → 203 cd/m², 0.75 → 1000, 0.38 → 26; ST 2084: 1 → 10,000."""
    assert pq_to_nits(np.array([0.0, 0.38, 0.58, 0.75, 1.0])) == pytest.approx([0, 26, 203, 1000, 10000], rel=0.03)
    assert pq_to_nits(nits_to_pq(np.array([0.1, 5.0, 400.0]))) == pytest.approx([0.1, 5.0, 400.0])


def test_hlg_code_points() -> None:
    """ITU-R BT.2408 table: HLG 75 % is 203 cd/m² and 38 % is 26 on a display of 1000; 100 % is its peak."""
    signal = np.array([[0.0] * 3, [0.38] * 3, [0.75] * 3, [1.0] * 3])
    assert hlg_to_nits(signal)[:, 0] == pytest.approx([0, 26, 203, 1000], rel=0.03, abs=0.01)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_greys_stay_grey_and_in_order(tmp_path: Path, transfer: int) -> None:
    patches = [pq_patch(tmp_path, signal, transfer) for signal in (0.0, 0.2, 0.38, 0.5, 0.58, 0.7, 0.75)]
    for patch in patches:
        assert np.ptp(patch) <= 1
    levels = [int(patch[1]) for patch in patches]
    assert levels == sorted(levels)
    assert len(set(levels)) == len(levels)
    assert levels[0] == 0


def test_hdr_white_and_middle_grey(tmp_path: Path) -> None:
    # 26 cd/m² of 203 are 12.8 % of SDR white: sRGB 101. Diffuse white leaves a little room for highlights.
    assert pq_patch(tmp_path, 0.38)[1] == pytest.approx(101, abs=3)
    assert 215 <= pq_patch(tmp_path, 0.58)[1] <= 250
    assert pq_patch(tmp_path, 0.752)[1] >= 249  # the cube rounds the corner at the peak by up to 7
    assert pq_patch(tmp_path, 1.0)[1] == 255


def test_hdr_table_follows_the_formula(tmp_path: Path) -> None:
    """The colour cube interpolates; coloured patches in between its points must agree with the exact curve."""
    for yuv in ((500, 480, 560), (300, 600, 450), (620, 512, 540)):
        path = paint(tmp_path / "a.mkv", yuv, pix_fmt="yuv420p10le", matrix=9, full=False, transfer=16, primaries=9)
        exact = 255 * tone_map(by_the_book(yuv, 9, False, 10)[None] / 255, pq=True)[0].clip(0, 1)
        assert np.abs(rgb_of(path) - exact).max() <= 4


def test_wide_gamut_sdr(tmp_path: Path) -> None:
    """BT.2020 SDR: greys as they are, a colour inside BT.709 more saturated in BT.709 numbers (BT.2087)."""
    options = {"pix_fmt": "yuv420p10le", "matrix": 9, "full": False, "transfer": 14, "primaries": 9}
    grey = rgb_of(paint(tmp_path / "grey.mkv", (502, 512, 512), **options))
    assert np.abs(grey - 127.5).max() <= 2
    yuv = (400, 470, 600)
    stored = by_the_book(yuv, 9, False, 10)
    shown = rgb_of(paint(tmp_path / "red.mkv", yuv, **options))
    assert shown[0] > stored[0]
    assert shown[1] < stored[1]


def test_transparent_pixels_are_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    assert flatten(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), (False, False, False)),
        ((-1, 0, 0, -1), (False, True, True)),
        ((-1, 0, 0, 1), (False, True, False)),
        ((0, 1, -1, 0), (True, True, False)),
        ((0, -1, 1, 0), (True, False, True)),
    ],
)
def test_display_matrix(matrix: tuple[int, int, int, int], expected: tuple[bool, bool, bool]) -> None:
    assert turn(matrix) == expected
