"""Frames at given times, told by the numbers painted into them."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ivsearch.errors import MediaError
from ivsearch.media.excerpt import excerpt, frames_at
from ivsearch.pictures import Transparency
from tests.media.barcode import encode, read

WHITE, DROPPED = Transparency.ON_WHITE, Transparency.DROPPED


def numbers(path: Path, *times_s: float) -> list[int]:
    return [read(frame.pixels) for frame in excerpt(path, times_s, transparency=WHITE)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_picture_shown_at_each_time(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a.{suffix}", range(150), options={"preset": "fast", "bf": "2", "g": "20"})
    assert numbers(path, 0.0) == [0]
    assert numbers(path, 3.5, 3.51, 4.0) == [105, 120]
    assert numbers(path, 0.0, 1.0, 2.99, 99.0) == [0, 30, 89, 149]
    times_s = [frame.pts_s for frame in excerpt(path, [2.0, 4.1], transparency=WHITE)]
    np.testing.assert_allclose(times_s, [2.0, 4.1], atol=0.001)


@pytest.mark.parametrize("options", [{"bf": "2", "g": "20"}, {"g": "20"}])
def test_avi_knows_no_presentation_times(tmp_path: Path, options: dict[str, str]) -> None:
    path = encode(tmp_path / "a.avi", range(150), codec="mpeg4", options=options)
    assert numbers(path, 3.5, 4.0) == [105, 120]


def test_times_count_from_the_first_picture_and_hold_over_gaps(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", [60, 61, 62, 150, 151], options={"preset": "ultrafast", "g": "2"})
    assert numbers(path, 0.02, 0.1, 2.9, 3.0, 3.2) == [0, 2, 3, 4]


def test_a_photo_is_one_frame(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (9, 8, 7, 0)).save(tmp_path / "a.png")
    for transparency, colour in ((WHITE, [255, 255, 255]), (DROPPED, [9, 8, 7])):
        (frame,) = excerpt(tmp_path / "a.png", [0.0, 5.0], transparency=transparency)
        assert frame.pts_s == 0.0 and frame.pixels[0, 0].tolist() == colour


def test_an_animation(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in (0, 100, 200)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=500)
    frames = excerpt(tmp_path / "a.gif", [0.4, 1.2], transparency=WHITE)
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [0, 200]


@pytest.mark.parametrize(("content", "reason"), [(None, "gone"), (b"\0\1\2\3" * 500, "not a video or image")])
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=reason):
        excerpt(tmp_path / "a.mp4", [0.0], transparency=WHITE)


def test_frames_come_one_by_one(tmp_path: Path) -> None:
    """Also behind a seek: what is still to come is not held."""
    path = encode(tmp_path / "a.mp4", range(150), options={"preset": "fast", "bf": "2", "g": "20"})
    for first in (0.0, 1.0):
        times_s = [first + 0.1 * step for step in range(30)]
        held: list[weakref.ref[NDArray[np.uint8]]] = []
        most = 0
        for frame in frames_at(path, times_s, transparency=WHITE):
            held.append(weakref.ref(frame.pixels))
            most = max(most, sum(each() is not None for each in held))
        assert len(held) == 30 and most <= 2
