"""Subtitle and transcript files → lines of text: any charset, no markup, what rolls up the screen said once."""

from __future__ import annotations

import codecs
import html
import json
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ivsearch.domain import TextLine
from ivsearch.errors import MediaError

FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
TRANSCRIPT = ".json"
MAX_BYTES = 64 << 20
"""No subtitles are longer; a video that was given such a name is not read into memory."""
SAME_S = 1.0
"""Words shown again within this time after they went are the same words still: captions that roll up are kept so."""
LONGEST_LINE = 2000
LANGUAGE = r"[A-Za-z]{2,12}([-_][A-Za-z0-9]{2,8}){0,2}"
"""A language as files and streams name it."""

# What is written in a language where the charset is not said: tried strictly before anything is guessed, for a guess
# from a few lines is often wrong between the charsets of one script.
LEGACY = {
    "ar": ("cp1256",),
    "be": ("cp1251",),
    "bg": ("cp1251",),
    "cs": ("cp1250",),
    "el": ("cp1253",),
    "fa": ("cp1256",),
    "he": ("cp1255",),
    "hr": ("cp1250",),
    "hu": ("cp1250",),
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949",),
    "pl": ("cp1250",),
    "ro": ("cp1250",),
    "ru": ("cp1251",),
    "th": ("cp874",),
    "tr": ("cp1254",),
    "uk": ("cp1251",),
    "ur": ("cp1256",),
    "vi": ("cp1258",),
    "zh": ("gb18030", "big5hkscs"),
    **dict.fromkeys(("da", "de", "en", "es", "fi", "fr", "it", "nl", "no", "pt", "sv"), ("cp1252",)),
}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TAGS = re.compile(r"\{[^{}]*\}|</?[A-Za-z][^<>]*>|<\d[\d:.]*>")
_SPACES = re.compile(r"\s+")
# Thai, Lao, Burmese, Khmer, Chinese, Japanese: no space says where a word ends.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uff66-\uff9f\U00020000-\U0003ffff]"
)


def read_subtitles(path: Path, language: str = "") -> list[TextLine]:
    """The lines of an SRT, VTT, ASS or SSA file, in order of time. ``language``: helps where the charset is not said.

    Raises MediaError in plain words.
    """
    text = decoded(_bytes(path), language)
    lines = list(lines_of(text, FORMATS[path.suffix.lower()]))
    if not lines:
        raise MediaError(f"no subtitles can be read in it: is it {path.suffix.lower()[1:].upper()} text?")
    return said_once(lines)


def read_transcript(path: Path) -> tuple[str, list[TextLine]]:
    """Language and lines of a JSON file as programs of the whisper kind write it. Raises MediaError in plain words."""
    try:
        document = json.loads(_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MediaError(f"not JSON: {error}") from error
    try:
        segments = _segments(document)
    except OverflowError as error:
        raise MediaError(f"no transcript: a time in it is beyond all bounds ({error})") from error
    if segments is None:
        raise MediaError("no transcript: it has neither `segments` nor `transcription` with times and text")
    named = document.get("language") or _inside(document, "result", "language") if isinstance(document, dict) else ""
    lines = [
        TextLine(max(0.0, start_s), end_s, text)
        for start_s, end_s, text in segments
        if text and math.isfinite(start_s) and math.isfinite(end_s) and end_s > max(0.0, start_s)
    ]
    language = named if isinstance(named, str) and re.fullmatch(LANGUAGE, named) else ""
    return language, said_once(sorted(lines, key=lambda line: line.start_s))


def decoded(data: bytes, language: str = "") -> str:
    """Bytes of a text file → text: by its byte order mark, as UTF-8, by its language, else guessed.

    Raises MediaError when it is no text.
    """
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return data.decode(charset, errors="replace")
    # UTF-16 without a mark: half of a Western text is zeros.
    zeros = data[:4000].count(0)
    if zeros:
        even = data[:4000:2].count(0)
        charset = "utf-16-be" if even > zeros / 2 else "utf-16-le"
        if zeros > len(data[:4000]) / 5:
            return data.decode(charset, errors="replace")
        raise MediaError("not a text file: it holds zero bytes")
    for charset in ("utf-8", *LEGACY.get(re.split("[-_]", language.lower())[0], ())):
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    from charset_normalizer import from_bytes

    best = from_bytes(data).best()
    if best is None:
        raise MediaError("its character set cannot be told: save it as UTF-8")
    return str(best)


def lines_of(text: str, format_name: str) -> Iterable[TextLine]:
    """The lines of a subtitle file's text, in order of time, free of markup. Comments and drawings are left out."""
    import pysubs2

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # fields that are missing; the times and the text are what counts
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").lstrip("\ufeff \n")
        try:
            events = pysubs2.SSAFile.from_string(text, format_=_format_of(text, format_name))
        except (pysubs2.Pysubs2Error, ValueError, LookupError, ArithmeticError) as error:
            raise MediaError(f"its subtitles cannot be read: {error}") from error
    for event in sorted(events, key=lambda each: (each.start, each.end)):
        if event.is_comment or event.is_drawing or event.end <= event.start or event.end <= 0:
            continue
        if words := plain(event.text.replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " ")):
            yield TextLine(max(0, event.start) / 1000, event.end / 1000, words)


def _format_of(text: str, format_name: str) -> str:
    """What the text says it is; files of one kind under the name of another are common."""
    if text.startswith("WEBVTT"):
        return "vtt"
    return "ass" if text.startswith("[Script Info]") else format_name


def plain(text: str) -> str:
    """Words without tags and entities; lines of it stay lines."""
    # Half a character and a zero can stand in JSON, and in no database.
    text = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    rows = (_SPACES.sub(" ", html.unescape(_TAGS.sub("", row))).strip() for row in text.split("\n"))
    return "\n".join(row for row in rows if row)[:LONGEST_LINE]


def said_once(lines: Sequence[TextLine]) -> list[TextLine]:
    """Captions that roll up or grow, and the same words in several layers, with each row of words once.

    Rows that the captions before had, and that are shown still, are left out, and the earlier line lasts longer.
    """
    kept: list[TextLine] = []
    shown: dict[str, int] = {}  # rows on the screen → the line in `kept` they are in
    for line in lines:
        shown = {row: at for row, at in shown.items() if line.start_s <= kept[at].end_s + SAME_S}
        fresh = []
        for row in line.text.split("\n"):
            before = shown.get(row)
            grown = None if before is not None else _grows(row, shown, kept, line)
            if before is not None:
                kept[before] = _lasting(kept[before], line.end_s)
            elif grown is not None:
                text = "\n".join(row if old == grown else old for old in kept[shown[grown]].text.split("\n"))
                at = shown.pop(grown)
                kept[at] = TextLine(kept[at].start_s, max(kept[at].end_s, line.end_s), text)
                shown[row] = at
            else:
                fresh.append(row)
        if fresh:
            kept.append(TextLine(line.start_s, line.end_s, "\n".join(fresh)))
            shown |= dict.fromkeys(fresh, len(kept) - 1)
    return [TextLine(line.start_s, line.end_s, line.text.replace("\n", " ")) for line in kept]


def _grows(row: str, shown: dict[str, int], kept: Sequence[TextLine], line: TextLine) -> str | None:
    """The row on the screen that this one is a longer form of, word by word as it is spoken."""
    for old, at in shown.items():
        if _begins(row, old) and line.start_s <= kept[at].end_s + 0.1:
            return old
    return None


def _begins(row: str, old: str) -> bool:
    """Whether the row has the words of the old one, and then others: "Somebody" does not begin with "So"."""
    seam = row[len(old) - 1 : len(old) + 1]
    return row.startswith(old) and (" " in seam or _UNSPACED.search(seam) is not None)


def _lasting(line: TextLine, end_s: float) -> TextLine:
    return TextLine(line.start_s, max(line.end_s, end_s), line.text)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise MediaError(f"larger than {MAX_BYTES >> 20} MB: no subtitles are")
    return data


def _segments(document: Any) -> list[tuple[float, float, str]] | None:
    """(start, end, text) of whisper's and its relatives' JSON, times in seconds; None when it is something else."""
    segments = document.get("segments") if isinstance(document, dict) else document
    if isinstance(segments, list) and segments and all(_is_segment(each) for each in segments):
        return [(float(each["start"]), float(each["end"]), plain(each["text"])) for each in segments]
    parts = _inside(document, "transcription")
    if isinstance(parts, list) and parts and all(_is_offset(each) for each in parts):
        return [(each["offsets"]["from"] / 1000, each["offsets"]["to"] / 1000, plain(each["text"])) for each in parts]
    return [] if isinstance(segments, list) and not segments and "text" in document else None


def _is_segment(each: Any) -> bool:
    numbers = isinstance(each, dict) and all(isinstance(each.get(name), int | float) for name in ("start", "end"))
    return numbers and isinstance(each.get("text"), str)


def _is_offset(each: Any) -> bool:
    numbers = all(isinstance(_inside(each, "offsets", name), int | float) for name in ("from", "to"))
    return numbers and isinstance(each.get("text"), str)


def _inside(document: Any, *names: str) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document
