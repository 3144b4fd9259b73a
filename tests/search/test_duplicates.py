"""What is the same picture, and what only looks much like it: drawn, so that the truth is known."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from ivsearch.domain import Clip, FrameVectors, Ingested, Moment
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library
from ivsearch.search.collapse import distinct
from ivsearch.search.duplicates import Copies, look_of, same_picture
from ivsearch.search.refine import FoundSpan
from ivsearch.search.wording import differ
from ivsearch.store.thumbs import Thumbs
from tests.conftest import library_with


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


NUMBERED = ("Revenue of the region in 2019", "Harbour storage and shipping plan", "Bridge contract review meeting")
OTHERS = {
    "a line": (NUMBERED[0], "Kitchen garden window and energy", NUMBERED[2]),
    "a word": (NUMBERED[0], "Harbour storage and editing plan", NUMBERED[2]),
    "a number": ("Revenue of the region in 2023", *NUMBERED[1:]),
}


def drawn(lines: tuple[str, ...]) -> Image.Image:
    """A slide with small type: what differs in one line is not seen in its thumbnail."""
    picture = Image.new("RGB", (1280, 720), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, 1280, 110), fill=(30, 60, 130))
    pen.text((60, 25), "Results", fill="white", font_size=56)
    for place, line in enumerate(lines):
        pen.text((100, 170 + 60 * place), line, fill="black", font_size=24)
    return picture


@pytest.fixture(scope="module")
def slides(mini: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A slide, the next ones of its template, and copies of it encoded anew, scaled and cropped; read by real OCR."""
    folder = tmp_path_factory.mktemp("slides")
    first = drawn(NUMBERED)
    first.save(folder / "first.png")
    for what, lines in OTHERS.items():
        drawn(lines).save(folder / f"{what}.png")
    first.resize((640, 360)).save(folder / "half.jpg", quality=25)
    first.crop((64, 36, 1216, 684)).save(folder / "cropped.jpg", quality=70)
    ImageEnhance.Brightness(first).enhance(0.85).save(folder / "darker.jpg", quality=60)
    first.resize((320, 180)).save(folder / "unreadable.jpg", quality=40)
    with library_with(mini, tmp_path_factory.mktemp("library")) as library:
        assert all(isinstance(event, Ingested) for event in library.index([folder]))
        yield library


def test_slides_whose_words_differ_are_no_copies(slides: Library) -> None:
    def found() -> dict[str, set[str]]:
        hits = slides.search("a presentation slide", k=9)
        return {hit.path.stem: {copy.path.stem for copy in hit.copies} for hit in hits}

    folded = found()
    assert len(folded) == 1, "their pictures do not tell them apart"
    slides.settings = replace(slides.settings, ocr=True, workers=1)
    list(slides.index())
    told = found()
    groups = [{name, *copies} for name, copies in told.items()]
    assert sorted(map(len, groups)) == [1, 1, 1, 5]
    assert {"first", "half", "cropped", "darker", "unreadable"} in groups


@pytest.mark.parametrize(
    ("one", "other", "still", "differs"),
    [
        (NUMBERED, NUMBERED, True, False),
        (NUMBERED, NUMBERED[:2], True, False),  # a row may be missed
        (NUMBERED, (), True, False),
        (NUMBERED, ("Revenue of the reglon in 2019", "Harbour storage and shipping p1an", NUMBERED[2]), False, False),
        (("LIVE 12:03:45", *NUMBERED), ("LIVE 12:03:46", *NUMBERED), False, False),  # a clock runs
        (("LIVE 12:03:45", *NUMBERED), ("LIVE 12:03:46", *NUMBERED), True, True),
        (("A1", *NUMBERED), ("B7", *NUMBERED), True, False),  # too short to say anything
        *((NUMBERED, lines, True, True) for lines in OTHERS.values()),
    ],
)
def test_words_that_differ(one: tuple[str, ...], other: tuple[str, ...], still: bool, differs: bool) -> None:
    assert differ(one, other, still=still) is differ(other, one, still=still) is differs


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
