"""What is the same picture, and what only looks much like it: drawn, so that the truth is known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from ivsearch.domain import Clip, FrameVectors, Moment
from ivsearch.search.collapse import distinct
from ivsearch.search.duplicates import Copies, look_of, same_picture
from ivsearch.search.refine import FoundSpan
from ivsearch.store.thumbs import Thumbs


def room() -> Image.Image:
    """What a fixed camera sees: smooth walls, furniture, some noise."""
    random = np.random.default_rng(4)
    coarse = Image.fromarray(random.integers(20, 236, (6, 8, 3)).astype(np.uint8))
    picture = coarse.resize((960, 720), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, width, height = random.integers((0, 0, 60, 60), (800, 600, 260, 200)).tolist()
        pen.rectangle((x, y, x + width, y + height), fill=tuple(random.integers(0, 256, 3).tolist()))
    return picture


def with_somebody(picture: Image.Image, x: int, coat: tuple[int, int, int]) -> Image.Image:
    """Somebody, an eighth of the picture's height and less of its width, stands at ``x``."""
    picture = picture.copy()
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x + 14, 470, x + 46, 502), fill=(224, 172, 140))
    pen.rectangle((x, 502, x + 60, 590), fill=coat)
    return picture


def slide(lines: tuple[str, ...]) -> Image.Image:
    picture = Image.new("RGB", (1280, 720), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, 1280, 110), fill=(30, 60, 130))
    pen.text((60, 25), "Results", fill="white", font_size=56)
    for place, line in enumerate(lines):
        pen.text((100, 170 + 80 * place), line, fill="black", font_size=40)
    return picture


def is_copy(one: Image.Image, other: Image.Image, folder: Path) -> bool:
    looks = []
    for name, picture in (("one.jpg", one), ("other.jpg", other)):
        thumbnail = picture.copy()
        thumbnail.thumbnail((320, 320))
        thumbnail.save(folder / name, quality=80)
        looks.append(look_of(folder / name))
    a, b = looks
    assert a is not None and b is not None
    return same_picture(a, b)


SLIDE = (
    "The first thing that we measured",
    "And what came of it after all",
    "What it means for everybody",
    "What will be done about it",
)
PEOPLE = {"left": (120, (160, 20, 30)), "middle": (420, (20, 40, 60)), "right": (800, (230, 230, 220))}


def reencoded(picture: Image.Image, folder: Path) -> Image.Image:
    picture.resize((picture.width // 2, picture.height // 2)).save(folder / "poor.jpg", quality=25)
    return Image.open(folder / "poor.jpg")


@pytest.mark.parametrize("picture", [room(), with_somebody(room(), *PEOPLE["left"]), slide(SLIDE)])
def test_encoded_anew_brightened_or_cropped_it_is_a_copy(picture: Image.Image, tmp_path: Path) -> None:
    width, height = picture.size
    assert is_copy(picture, reencoded(picture, tmp_path), tmp_path)
    assert is_copy(picture, ImageEnhance.Brightness(picture).enhance(0.85), tmp_path)
    assert is_copy(
        picture, picture.crop((width // 20, height // 20, width - width // 20, height - height // 20)), tmp_path
    )


@pytest.mark.parametrize("who", PEOPLE)
def test_somebody_else_before_a_fixed_camera_is_no_copy(who: str, tmp_path: Path) -> None:
    here = with_somebody(room(), *PEOPLE[who])
    others = [room(), *(with_somebody(room(), *PEOPLE[other]) for other in PEOPLE if other != who)]
    assert not any(is_copy(here, other, tmp_path) for other in others)
    assert not any(is_copy(here, reencoded(other, tmp_path), tmp_path) for other in others)


@pytest.mark.parametrize("place", range(4))
def test_the_next_slide_of_a_template_is_no_copy(place: int, tmp_path: Path) -> None:
    lines = list(SLIDE)
    lines[place] = "Nothing"
    assert not is_copy(slide(SLIDE), slide(tuple(lines)), tmp_path)
    lines[place] = ""
    assert not is_copy(slide(SLIDE), slide(tuple(lines)), tmp_path)


def library_of(folder: Path) -> tuple[Copies, dict[str, list[FoundSpan]]]:
    """A video of four scenes, a copy of it that scores a little less, and a photo that scores least."""
    thumbs, frames, found = Thumbs(folder), {}, {}
    scenes = [room(), slide(SLIDE), slide(("One", "Two")), with_somebody(room(), *PEOPLE["right"])]
    vectors = np.eye(5, dtype=np.float16)
    for clip_id, (media_id, n, less) in enumerate((("video", 4, 0.0), ("copy", 4, 0.01), ("photo", 1, 0.4))):
        frames[media_id] = FrameVectors(np.arange(n, dtype=float), np.arange(n, dtype=np.int32), vectors[-n:])
        found[media_id] = []
        for i in range(n):
            scene = scenes[i] if n > 1 else room().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            still = io.BytesIO()
            scene.resize((320, 200)).save(still, "JPEG", quality=40 if media_id == "copy" else 85)
            thumbs.save(media_id, float(i), still.getvalue())
            clip = Clip(10 * clip_id + i, media_id, float(i), float(i + 1), i, 1)
            score = 0.9 - 0.1 * i - less
            view = vectors[-n + i].astype(np.float32)
            found[media_id].append(FoundSpan(clip, i, i + 1, score, Moment(i, i + 1, score), view=view))
    return Copies(thumbs, frames.get), found


def test_as_many_as_are_wanted_are_left_when_copies_are_folded(tmp_path: Path) -> None:
    copies, found = library_of(tmp_path)
    for k in range(1, 6):
        left = distinct(found, k, None, copies)
        assert len(left) >= k
        assert left[0][0] == "video" and [media_id for media_id, _ in left[0][1].copies] == ["copy"]
    assert [media_id for media_id, _ in distinct(found, 9, None, copies)] == ["video"] * 4 + ["photo"]
    assert [media_id for media_id, _ in distinct(found, 9, 1, copies)] == ["video", "photo"]


def test_nothing_is_folded_beyond_what_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies, found = library_of(tmp_path)
    monkeypatch.setattr("ivsearch.search.duplicates.MOST_COMPARED", 1)
    assert [media_id for media_id, _ in distinct(found, 9, 1, copies)] == ["video", "copy", "photo"]
