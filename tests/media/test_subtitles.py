from __future__ import annotations

import json
from pathlib import Path

import pytest

from ivsearch.domain import Modality, TextLine
from ivsearch.errors import MediaError
from ivsearch.media.sidecars import sidecars
from ivsearch.media.subtitles import MAX_BYTES, decoded, read_subtitles, read_transcript, said_once

SAYINGS = {
    "en": "Where is the library? – Thank you, “friend”.",
    "fr": "Où est la bibliothèque ? Ça va très bien, merci.",
    "ar": "أين المكتبة؟ القطة على الأريكة. شكرا جزيلا لك يا صديقي",
    "zh": "图书馆在哪里？猫跳上沙发。谢谢你，我的朋友。",
    "zh-Hant": "圖書館在哪裡？貓跳上沙發。謝謝你，我的朋友。",
    "ja": "図書館はどこですか？猫がソファに飛び乗った。",
    "ko": "도서관은 어디에 있습니까? 고양이가 소파에 뛰어올랐다.",
    "ru": "Где находится библиотека? Спасибо, всё хорошо.",
    "el": "Πού είναι η βιβλιοθήκη; Ευχαριστώ πολύ.",
    "he": "איפה הספריה? תודה רבה חבר שלי",
    "pl": "Gdzie jest biblioteka? Dziękuję bardzo, mój przyjacielu.",
    "th": "ห้องสมุดอยู่ที่ไหน ขอบคุณมาก",
}


def srt(*words: str) -> str:
    return "".join(
        f"{at + 1}\n00:00:{2 * at:02d},500 --> 00:00:{2 * at + 1:02d},250\n{text}\n\n" for at, text in enumerate(words)
    )


def read(tmp_path: Path, name: str, data: str | bytes, language: str = "") -> list[TextLine]:
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_subtitles(tmp_path / name, language)


def said(lines: list[TextLine]) -> list[tuple[float, float, str]]:
    return [(line.start_s, line.end_s, line.text) for line in lines]


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("language", ["fr", "ar", "zh", "ja"])
def test_unicode_in_any_dress(charset: str, language: str) -> None:
    # Without a byte order mark, UTF-16 is told by the zeros of what is not Chinese: times and numbers.
    text = srt(*[SAYINGS[language]] * 3)
    assert decoded(text.encode(charset)).removeprefix("\ufeff") == text


@pytest.mark.parametrize(
    ("language", "charset"),
    [
        ("en", "cp1252"),
        ("fr", "cp1252"),
        ("ar", "cp1256"),
        ("zh", "gb18030"),
        ("ja", "cp932"),
        ("ko", "cp949"),
        ("ru", "cp1251"),
        ("el", "cp1253"),
        ("he", "cp1255"),
        ("pl", "cp1250"),
        ("th", "cp874"),
    ],
)
def test_old_charsets_where_the_name_says_the_language(language: str, charset: str) -> None:
    text = srt(SAYINGS[language])
    assert decoded(text.encode(charset), language) == text


@pytest.mark.parametrize(
    ("language", "charset"),
    [("ar", "cp1256"), ("zh", "gb18030"), ("zh-Hant", "big5"), ("ja", "cp932"), ("ru", "cp1251")],
)
def test_old_charsets_where_nothing_says_it(language: str, charset: str) -> None:
    text = srt(*[SAYINGS[language]] * 5)
    assert decoded(text.encode(charset)) == text


def test_srt_without_its_markup(tmp_path: Path) -> None:
    text = (
        '1\n00:00:01,000 --> 00:00:02,500\n<i>Hi</i> <font color="#fff">you</font>\n{\\an8}up there &amp; here\n\n'
        "2\r\n0:00:03.5 --> 0:00:04,000 X1:100 X2:200\r\n- A\r\n- B\r\n\r\n"
        "3\n00:00:09,000 --> 00:00:08,000\nbackwards\n"
    )
    assert said(read(tmp_path, "a.srt", text)) == [(1.0, 2.5, "Hi you up there & here"), (3.5, 4.0, "- A - B")]


def test_vtt_without_its_markup(tmp_path: Path) -> None:
    text = (
        "WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nNOTE not said\n\n"
        "cue-1\n00:01.000 --> 00:02.000 align:start\n<v Roger>Hello <c.yellow>there</c> <00:00:01.500><c> you</c>\n"
    )
    assert said(read(tmp_path, "a.vtt", text)) == [(1.0, 2.0, "Hello there you")]
    # Under the name of another kind it is read as what it is.
    assert said(read(tmp_path, "b.srt", text)) == [(1.0, 2.0, "Hello there you")]


def test_ass_without_comments_drawings_and_layers(tmp_path: Path) -> None:
    text = (
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,translator's note\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\pos(1,2)\\b1}Two{\\b0}\\Nrows\n"
        "Dialogue: 1,0:00:01.00,0:00:02.00,Glow,,0,0,0,,{\\blur3}Two\\Nrows\n"
        "Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
    )
    assert said(read(tmp_path, "a.ass", text)) == [(1.0, 2.0, "Two rows")]


def test_captions_that_roll_up_are_said_once(tmp_path: Path) -> None:
    cues = [
        ("00.000", "02.000", "hello there"),
        ("02.000", "02.010", "hello there"),
        ("02.010", "04.000", "hello there\nmy <00:00:03.000><c>friend</c>"),
        ("04.000", "06.000", "my friend\nhow are you"),
        ("07.000", "08.000", "word"),
        ("08.000", "09.000", "word by"),
        ("09.000", "10.000", "word by word"),
        ("20.000", "21.000", "hello there"),  # said again, much later
    ]
    text = "WEBVTT\n\n" + "".join(f"00:{start} --> 00:{end}\n{words}\n\n" for start, end, words in cues)
    assert said(read(tmp_path, "a.vtt", text)) == [
        (0.0, 4.0, "hello there"),
        (2.01, 6.0, "my friend"),
        (4.0, 6.0, "how are you"),
        (7.0, 10.0, "word by word"),
        (20.0, 21.0, "hello there"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("So", "Somebody help me", ["So", "Somebody help me"]),
        ("No", "Nothing", ["No", "Nothing"]),
        ("So", "So help me", ["So help me"]),
        ("灯台", "灯台守は", ["灯台守は"]),
        ("สวัส", "สวัสดี", ["สวัสดี"]),
        ("学习", "学习Python", ["学习Python"]),
    ],
)
def test_captions_grow_by_whole_words(first: str, second: str, kept: list[str]) -> None:
    lines = said_once([TextLine(0, 1, first), TextLine(1, 2, second)])
    assert [line.text for line in lines] == kept


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.srt", b"", "no subtitles can be read in it: is it SRT text"),
        ("a.srt", b"just some words\n", "no subtitles can be read in it"),
        ("a.vtt", b"WEBVTT\n\nnothing", "no subtitles can be read in it: is it VTT text"),
        ("a.ass", b"[Script Info]\n[Events]\nFormat: a\nDialogue: x", "no subtitles can be read in it"),
        ("a.srt", b"\x00\x01\x02text that is \xff none" * 10, "not a text file: it holds zero bytes"),
        ("a.srt", b"x" * (MAX_BYTES + 1), "larger than 64 MB: no subtitles are"),
        ("a.srt", b"1\n99999999999999999999:00:00,000 --> 00:00:01,000\nx\n", "no subtitles can be read in it"),
    ],
)
def test_what_is_no_subtitle_file_is_told_in_words(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        read(tmp_path, name, data)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read: No such file"):
        read_subtitles(tmp_path / "a.srt")


@pytest.mark.parametrize(
    "document",
    [
        {"text": "Hi. Bye.", "language": "en", "segments": [{"start": 0.5, "end": 1, "text": " Hi."}]},
        {"result": {"language": "en"}, "transcription": [{"offsets": {"from": 500, "to": 1000}, "text": " Hi."}]},
    ],
)
def test_transcripts_of_the_whisper_kind(tmp_path: Path, document: dict) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert read_transcript(tmp_path / "a.json") == ("en", [TextLine(0.5, 1.0, "Hi.")])


def test_a_transcript_with_values_no_database_takes(tmp_path: Path) -> None:
    segments = [
        '{"start": NaN, "end": 1, "text": "never"}',
        '{"start": 0, "end": Infinity, "text": "never"}',
        '{"start": 5, "end": 4, "text": "never"}',
        '{"start": 2, "end": 3, "text": "half \\ud800 a \\u0000character"}',
        '{"start": -1, "end": 1, "text": "early"}',
    ]
    document = f'{{"language": "{"x" * 100}", "segments": [{", ".join(segments)}]}}'
    (tmp_path / "a.json").write_text(document)
    language, lines = read_transcript(tmp_path / "a.json")
    assert language == ""
    assert said(lines) == [(0.0, 1.0, "early"), (2.0, 3.0, "half ? a character")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "not JSON"),
        ("{", "not JSON"),
        ('{"id": "x", "title": "y"}', "no transcript: it has neither"),
        ("[1]", "no transcript"),
        (f'{{"segments": [{{"start": 0, "end": {"9" * 400}, "text": "x"}}]}}', "a time in it is beyond all bounds"),
        (
            f'{{"transcription": [{{"offsets": {{"from": 0, "to": {"9" * 400}}}, "text": "x"}}]}}',
            "a time in it is beyond all bounds",
        ),
    ],
)
def test_json_that_is_no_transcript(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(MediaError, match=message):
        read_transcript(tmp_path / "a.json")


def test_which_files_belong_to_which_video(tmp_path: Path) -> None:
    whisper = json.dumps({"language": "fr", "segments": [{"start": 0, "end": 1, "text": "bonjour"}]})
    files = {
        "film.srt": ("film.mp4", Modality.SUBTITLE, ""),
        "film.en.srt": ("film.mp4", Modality.SUBTITLE, "en"),
        "film.zh-Hans.forced.VTT": ("film.mp4", Modality.SUBTITLE, "zh-Hans"),
        "film.2.ar.ass": ("film.mp4", Modality.SUBTITLE, "ar"),
        "film.mp4.de.srt": ("film.mp4", Modality.SUBTITLE, "de"),
        "film.transcript.srt": ("film.mp4", Modality.SPEECH, ""),
        "film.json": ("film.mp4", Modality.SPEECH, ""),
        "film.part.two.srt": ("film.part.two.mkv", Modality.SUBTITLE, ""),
    }
    for name in files:
        (tmp_path / name).write_text(whisper if name.endswith("json") else srt("words"))
    for name in ("film.info.json", "other.srt", "film.some other cut.srt", "photo.srt", "film.txt"):
        (tmp_path / name).write_text('{"title": "no transcript"}')
    videos = [tmp_path / name for name in ("film.mp4", "film.part.two.mkv", "photo.jpg", "alone.mp4")]
    found = {each.path.name: (each.media_path.name, each.source, each.language) for each in sidecars(videos)}
    assert found == files
    assert next(each for each in sidecars(videos) if each.path.name == "film.json").read()[0] == "fr"
    assert list(sidecars([tmp_path / "gone" / "film.mp4"])) == []


def test_a_transcript_by_name_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "film.transcript.json").write_text("{}")
    (found,) = sidecars([tmp_path / "film.mp4"])
    with pytest.raises(MediaError, match="no transcript"):
        found.read()
