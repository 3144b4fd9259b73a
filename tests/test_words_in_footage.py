"""Words beside, inside and on real footage, from the files to the first hit."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import pytest
from PIL import Image, ImageDraw, ImageFont

from ivsearch.domain import Filters, Hits, Ingested, Modality, Only, Outcome, Query, Skipped, TextRead, TextRemoved
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError, WeightsError
from ivsearch.ingest_screen import ScreenOptions, ScreenPass
from ivsearch.library import Library, open_library
from ivsearch.media.ocr import MIN_CONFIDENCE, RapidReader
from ivsearch.pipeline import Progress
from ivsearch.settings import Settings
from ivsearch.store.texts import Texts

from .conftest import library_with
from .media.test_text_streams import film

STREET_EN = """1
00:00:01,000 --> 00:00:02,500
<i>The lighthouse keeper</i> never answered.

2
00:00:02,600 --> 00:00:04,000
We sail to Valparaíso at dawn.

3
00:00:06,000 --> 00:00:08,000
A cat? Here?
"""
CALL_ZH = "WEBVTT\n\n00:00.500 --> 00:02.000\n守塔人昨晚失踪了\n\n00:02.200 --> 00:02.900\n没有人知道为什么\n"
CARTOON_AR = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\b1}حارِسُ المَنارة{\\b0} لم يُجِبْ أحدًا
Dialogue: 0,0:00:03.00,0:00:04.50,Default,,0,0,0,,نُبحر عند الفجر
"""
CALL_JA = "1\n00:00:01,000 --> 00:00:02,000\n灯台守は夜明けに船出した\n"
SHOWN = "Quarantine zone 47"
SHOWN_ZH = "前方施工请绕行"


def font(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / name)


def signed(source: Path, target: Path, words: str, shown: range) -> None:
    """Four seconds of frames of a real video at 4 frames/s, 640 pixels wide, with words over some of its frames."""
    face = ImageFont.truetype(font("pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"), 30)
    with av.open(source) as video, av.open(target, "w") as out:
        stream = out.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for at, frame in zip(range(16), video.decode(video=0), strict=False):
            image = frame.to_image().resize((640, 360))
            if at in shown:
                ImageDraw.Draw(image).text((60, 290), words, "white", face, stroke_width=2, stroke_fill="black")
            made = av.VideoFrame.from_image(image)
            made.pts = at
            out.mux(stream.encode(made))
        out.mux(stream.encode())


@pytest.fixture(scope="module")
def footage(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    (folder / "shown").mkdir()
    for name in ("street.mp4", "cartoon.mp4", "call.mp4", "shown/pet.jpg", "shown/night.jpg"):
        shutil.copy(sample_media / Path(name).name, folder / name)
    Image.new("RGB", (5000, 2), "grey").save(folder / "shown" / "thin.png")
    (folder / "street.en.srt").write_text(STREET_EN, "cp1252")
    (folder / "call.zh-Hans.vtt").write_text(CALL_ZH, "utf-16")
    (folder / "call.ja.srt").write_text(CALL_JA, "cp932")
    (folder / "cartoon.ar.ass").write_text(CARTOON_AR, "cp1256")
    segments = [{"start": 0.5, "end": 1.5, "text": " Nobody told the harbour master."}]
    (folder / "cartoon.json").write_text(json.dumps({"language": "en", "segments": segments}))
    (folder / "street.fr.srt").write_bytes(b"\x00\x01 no subtitles")
    signed(sample_media / "street.mp4", folder / "shown" / "signs.mp4", SHOWN, range(4, 12))
    with Image.open(sample_media / "table.jpg") as photo:
        photo.thumbnail((640, 640))
        face = ImageFont.truetype(font("pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"), 32)
        ImageDraw.Draw(photo).text((30, 30), SHOWN_ZH, "white", face, stroke_width=2, stroke_fill="black")
        photo.save(folder / "shown" / "poster.jpg")
    return folder


@pytest.fixture(scope="module")
def reader() -> RapidReader:
    return RapidReader()


@pytest.fixture(scope="module")
def library(
    footage: Path, mini: Encoder, reader: RapidReader, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """Indexed without OCR, and then a folder with it: what was there before is read, too."""
    library = library_with(mini, tmp_path_factory.mktemp("library"))
    events = list(library.index([footage]))
    assert {event.path.name: event.reason for event in events if isinstance(event, Skipped)} == {
        "street.fr.srt": "not a text file: it holds zero bytes"
    }
    read = {event.path.name: event.n_lines for event in events if isinstance(event, TextRead)}
    assert read == {"street.en.srt": 3, "call.zh-Hans.vtt": 2, "call.ja.srt": 1, "cartoon.ar.ass": 2, "cartoon.json": 1}
    library.settings = replace(library.settings, ocr=True, workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ivsearch.media.ocr.RapidReader", lambda: reader)  # loading it takes a second
        events = list(library.index([footage / "shown"]))
    assert {event.outcome for event in events if isinstance(event, Ingested)} == {Outcome.UNCHANGED}
    read_here = {event.path.name: event for event in events if isinstance(event, TextRead)}
    assert {name: event.n_lines for name, event in read_here.items()} == {
        "signs.mp4": 1,
        "poster.jpg": 1,
        # Photos without words; and one that its reader cannot take, which ends nothing.
        "pet.jpg": 0,
        "night.jpg": 0,
        "thin.png": 0,
    }
    assert {name for name, event in read_here.items() if event.warnings} == {"thin.png"}
    assert "words on screen cannot be read in it: ResizeImgError" in read_here["thin.png"].warnings
    yield library
    library.close()


def first(hits: Hits) -> tuple[str, Modality]:
    best = hits[0]
    return best.path.name, best.contributions[0].modality


@pytest.mark.parametrize(
    ("query", "name", "modality"),
    [
        ("lighthouse keeper", "street.mp4", Modality.SUBTITLE),
        ("sail to Valparaiso", "street.mp4", Modality.SUBTITLE),
        ('"never answered"', "street.mp4", Modality.SUBTITLE),
        ("the keeper never answered. We sail at dawn", "street.mp4", Modality.SUBTITLE),  # over two lines
        ("守塔人", "call.mp4", Modality.SUBTITLE),
        ("没有人知道为什么", "call.mp4", Modality.SUBTITLE),
        ("灯台守は夜明けに", "call.mp4", Modality.SUBTITLE),
        ("حارس المنارة", "cartoon.mp4", Modality.SUBTITLE),
        ("الفجر", "cartoon.mp4", Modality.SUBTITLE),
        ("harbour master", "cartoon.mp4", Modality.SPEECH),
        ("quarantine zone", "signs.mp4", Modality.SCREEN),
        ("前方施工", "poster.jpg", Modality.SCREEN),
    ],
)
def test_what_only_words_hold_comes_first(library: Library, query: str, name: str, modality: Modality) -> None:
    hits = library.find(Query(query), k=5)
    assert first(hits) == (name, modality)
    assert hits.matched
    assert sum(each.share for each in hits[0].contributions) == pytest.approx(1)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_the_moment_is_when_it_is_said(library: Library) -> None:
    moment = library.find(Query("Valparaíso"))[0].moment
    assert (moment.start_s, moment.end_s) == (2.6, 4.0)


def test_words_on_screen_have_the_times_they_are_shown(library: Library, footage: Path) -> None:
    (row,) = [row for row in library.catalog.paths() if row.path == footage / "shown" / "signs.mp4"]
    (shown,) = [line for source, line in Texts(library.catalog).lines(row.media_id, 0, 10) if source is Modality.SCREEN]
    assert shown.text == SHOWN
    # On screen from 1 to 3 s; looked at once a second, until the next frame that is looked at.
    assert (shown.start_s, shown.end_s) == (pytest.approx(1.0, abs=0.11), pytest.approx(3.0, abs=0.11))


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Where is the lighthouse keeper mentioned?", "street.mp4 (0:01–0:03) [{}] has the words “The lighthouse k"),
        ('Who says "never answered"?', "street.mp4 (0:01–0:03) [{}] has the words “The lighthouse keeper never a"),
        ("What is said about the harbour master?", "[{}] has the words “Nobody told the harbour master.”"),
        ("Where is quarantine zone 47?", f"signs.mp4 (0:01–0:03) [{{}}] has the words “{SHOWN}”"),
        ("守塔人在哪里失踪了?", "call.mp4 (0:00–0:02) [{}] 中有这样的话:“守塔人昨晚失踪了”。"),
        ("أين حارس المنارة؟", "] وردت الكلمات «\u2068حارِسُ المَنارة لم يُجِبْ أحدًا"),
    ],
)
def test_answers_quote_the_words_that_carry_them(library: Library, question: str, said: str) -> None:
    answer = library.ask(question)
    plain = answer.text.replace("\u2066", "").replace("\u2069", "")
    assert any(said.format(cited.label) in plain for cited in answer.cited), answer.text
    assert answer.matched and answer.verified
    assert {int(label) for label in re.findall(r"\[(\d+)\]", answer.text)} == {each.label for each in answer.cited}


def test_answers_quote_nothing_that_is_not_asked_for(library: Library) -> None:
    for question in ("Where is a rocket launch at night?", "How many people are on the street?", "xylophone?"):
        assert "has the words" not in library.ask(question).text
    only = Filters(paths=("call.mp4",))
    assert "lighthouse" not in library.ask("What about the keeper who never answered?", filters=only).text


@pytest.mark.parametrize("query", ["a cat", "rocket launch at night", "一只猫"])
def test_pictures_are_found_as_without_words(library: Library, query: str) -> None:
    pictures = library.find(Query(query), only=Only.PICTURE)
    assert all(hit.contributions == () for hit in pictures)
    assert library.find(Query(query), k=1)[0].path == pictures[0].path


def test_words_alone(library: Library) -> None:
    hits = library.find(Query("lighthouse keeper"), only=Only.TEXT)
    assert {hit.contributions[0].modality for hit in hits} == {Modality.SUBTITLE}
    assert not library.find(Query("xylophone"), only=Only.TEXT).matched
    assert len(library.find(Query("xylophone"), only=Only.TEXT)) == 0
    with pytest.raises(UsageError, match="--only text looks for words: give a text"):
        library.find(Query(clip_id=1), only=Only.TEXT)


def test_files_that_change_come_and_go_are_noticed_without_decoding(
    footage: Path, mini: Encoder, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    shutil.copy(footage / "call.mp4", folder)
    library = library_with(mini, tmp_path / "library")
    list(library.index([folder]))

    def run() -> list[object]:
        events = list(library.index([folder]))
        (ingested,) = [event for event in events if isinstance(event, Ingested)]
        assert ingested.outcome is Outcome.UNCHANGED
        return [type(event) for event in events if not isinstance(event, Ingested)]

    def finds(words: str) -> bool:
        return len(library.find(Query(words), only=Only.TEXT)) > 0

    with library:
        (folder / "call.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nalbatross\n")
        assert run() == [TextRead]
        assert run() == []
        assert finds("albatross")
        (folder / "call.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\npelican here\n")
        assert run() == [TextRead]
        assert (finds("albatross"), finds("pelican")) == (False, True)
        (folder / "call.srt").write_text("broken")
        assert run() == [Skipped, TextRemoved]
        assert not finds("pelican")
        late = "\n2\n00:59:00,000 --> 00:59:01,000\nlate\n"
        (folder / "call.srt").write_text(f"1\n00:00:00,000 --> 00:00:01,000\nheron\n{late}")
        (read,) = [event for event in library.index([folder]) if isinstance(event, TextRead)]
        told = "1 line lies after the end of the video: does call.srt belong to it?"
        assert (read.n_lines, read.warnings) == (1, (told,))
        (folder / "call.srt").unlink()
        assert run() == [TextRemoved]
        assert not finds("heron")
        assert library.stats().texts == {}


def test_the_reading_of_words_is_told_of_as_it_goes(
    footage: Path, mini: Encoder, reader: RapidReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ivsearch.media.ocr.RapidReader", lambda: reader)
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("shown/signs.mp4", "shown/poster.jpg"):
        shutil.copy(footage / name, folder)
    film(folder / "film.mkv", "subrip")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    told: dict[str, list[Progress]] = {}

    def tell(progress: Progress) -> None:
        told.setdefault(progress.task, []).append(replace(progress))

    library = open_library(tmp_path / "library", settings=Settings(ocr=True, workers=1))
    with library:
        library.encoder = mini
        events = list(library.index([folder], on_progress=tell))
    assert list(told) == ["", "subtitles", "words on screen"]
    for task, names in (("subtitles", {"film.mkv", "signs.mp4"}), ("words on screen", set(sizes))):
        steps, last = told[task], told[task][-1]
        assert {step.current.name for step in steps if step.current} == names
        assert [step.files_done for step in steps] == sorted(step.files_done for step in steps)
        assert (steps[0].files_done, last.files_done, last.files_total) == (0, len(names), len(names))
        assert last.bytes_done == last.bytes_total == sum(sizes[name] for name in names)
    # The frames that were kept for encoding are the ones that are read.
    assert told["words on screen"][-1].frames == sum(event.n_frames for event in events if isinstance(event, Ingested))


@pytest.mark.parametrize(("codec", "suffix"), [("subrip", "mkv"), ("mov_text", "mp4")])
def test_lines_inside_a_video_that_begin_after_its_end_are_left_out(
    mini: Encoder, tmp_path: Path, codec: str, suffix: str
) -> None:
    path = film(tmp_path / f"film.{suffix}", codec, lines_at_s=(0, 3, 7))
    with library_with(mini, tmp_path / "library") as library:
        (read,) = [event for event in library.index([path]) if isinstance(event, TextRead)]
        assert (read.n_lines, read.warnings) == (2, ("1 line lies after the end of the video",))
        (row,) = library.catalog.paths()
        lines = [line.text for _, line in Texts(library.catalog).lines(row.media_id, 0, 60)]
        assert lines == ["Where is the captain?", "المنارة هناك"]
        assert not any(isinstance(event, TextRead) for event in library.index([path])), "once"


def test_words_that_a_damaged_catalog_lost_are_read_again_and_no_others(
    library: Library, mini: Encoder, reader: RapidReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "library"
    shutil.copytree(library.folder, folder)
    whole = words_in(folder)
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        for text in (SHOWN, "A cat? Here?"):  # on screen, and in a file beside a video
            connection.execute("update text_line set text = cast(x'ff41' as text) where text = ?", (text,))
    monkeypatch.setattr("ivsearch.media.ocr.RapidReader", lambda: reader)
    told: list[str] = []
    with library_with(mini, folder) as mended:
        assert [line.split("; ")[-1] for line in mended.verify()] == ["`ivsearch repair` mends it"]
        actions = list(mended.repair())
        paths = len(mended.catalog.paths())
        assert f"kept {paths} files and {len(whole) - 2} lines of words in them, which could still be read" in actions
        assert actions[-2:] == [
            "1 files: forgot their words in text files beside them, some of which were lost; "
            "`ivsearch index` reads them again",
            "1 files: forgot their words on screen, some of which were lost; `ivsearch index --ocr` reads them again",
        ]
        assert "1 files: their words on screen were lost; `ivsearch index --ocr` reads them again" in mended.verify()
        events = list(mended.index(tell=told.append))
        assert {event.path.name for event in events if isinstance(event, TextRead)} == {"street.en.srt", "signs.mp4"}
        assert told == ["the words on screen of 1 files were lost: reading them again"]
        assert list(mended.verify()) == []
        assert first(mended.find(Query("quarantine zone"), k=5)) == ("signs.mp4", Modality.SCREEN)
    assert words_in(folder) == whole


def words_in(folder: Path) -> list[tuple]:
    query = "select media_id, source, start_s, text from text_line join text_track using (track_id)"
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        connection.text_factory = bytes
        return sorted(connection.execute(query))


def test_lost_words_that_cannot_be_read_again_are_told(
    library: Library, mini: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "library"
    shutil.copytree(library.folder, folder)
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("delete from text_track where source = 'screen'")
        one = "(select max(media_id) from text_reading where kind = 'screen')"
        connection.execute(f"update text_reading set kind = 'speech' where kind = 'screen' and media_id = {one}")

    def missing() -> None:
        raise UsageError("no OCR here")

    monkeypatch.setattr("ivsearch.media.ocr.check_rapidocr", missing)
    told: list[str] = []
    with library_with(mini, folder) as mended:
        assert all("are noted as read, and are not there; run `ivsearch repair`" in line for line in mended.verify())
        list(mended.repair())
        assert not [event for event in mended.index(tell=told.append) if isinstance(event, TextRead)]
        assert any("`ivsearch index --speech` reads them again" in line for line in mended.verify())
    n = len(told) and int(told[-1].split()[5])
    assert told == [
        "what is said in 1 files was lost: `ivsearch index --speech` with its weights writes it down again",
        f"the words on screen of {n} files were lost and cannot be read again: no OCR here",
    ]


def test_reading_the_screen_goes_on_where_it_was_stopped(library: Library, reader: RapidReader) -> None:
    rows = [row for row in library.catalog.paths() if row.path.parent.name == "shown"]
    done = dict(Texts(library.catalog).readings("screen"))
    assert set(done) == {row.media_id for row in rows}
    photos = [row for row in rows if row.path.suffix == ".jpg"]
    again = ScreenPass(library.catalog, rows, options=ScreenOptions(1.0, 1), make_reader=lambda: reader)
    assert list(again.run()) == []
    other_rate = ScreenPass(library.catalog, photos, options=ScreenOptions(0.5, 1), make_reader=lambda: reader).run()
    assert isinstance(next(other_rate), TextRead)
    other_rate.close()
    now = Texts(library.catalog).readings("screen")
    assert sum(now[media_id] != how for media_id, how in done.items()) == 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (Settings(speech=True), UsageError, "--speech needs weights: --speech-weights DIR.*film.transcript.srt"),
        (Settings(speech=True, speech_weights="/nowhere"), WeightsError, "no whisper model .* no model.bin and no con"),
    ],
)
def test_speech_says_what_it_needs_before_anything_is_done(
    footage: Path, tmp_path: Path, settings: Settings, error: type[Exception], message: str
) -> None:
    with open_library(tmp_path / "library", settings=settings) as library, pytest.raises(error, match=message):
        list(library.index([footage]))
    assert MIN_CONFIDENCE < 1
