"""Files beside a video that hold its words: ``film.srt``, ``film.en.srt``, ``film.transcript.srt``, ``film.json``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Modality, TextLine
from ivsearch.errors import MediaError
from ivsearch.media.subtitles import FORMATS, TRANSCRIPT, read_subtitles, read_transcript
from ivsearch.media.suffixes import VIDEO

# What else names of subtitle files say, between the video's name and the suffix.
REMARKS = {"forced", "sdh", "cc", "hi", "default", "full", "signs", "songs", "auto", "orig"}
SPOKEN = {"transcript", "speech", "whisper"}
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,2}")
_NUMBER = re.compile(r"\d{1,2}")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file with the words of the video at ``media_path``."""

    path: Path
    media_path: Path
    source: Modality
    language: str
    size_bytes: int
    mtime_ns: int

    def read(self) -> tuple[str, list[TextLine]]:
        """Its language and lines. Raises MediaError in plain words."""
        if self.path.suffix.lower() == TRANSCRIPT:
            language, lines = read_transcript(self.path)
            return self.language or language, lines
        return self.language, read_subtitles(self.path, self.language)


def sidecars(media_paths: Iterable[Path]) -> Iterator[Sidecar]:
    """The sidecars of videos, each folder looked at once. A file that fits several names belongs to the longest.

    Folders that cannot be read have none: indexing has said so already.
    """
    of_folders: dict[Path, list[Path]] = {}
    for path in media_paths:
        if path.suffix.lower() in VIDEO:
            of_folders.setdefault(path.parent, []).append(path)
    for folder, videos in of_folders.items():
        of_stems: dict[str, list[Path]] = {}
        for video in videos:
            for stem in (video.stem, video.name):
                of_stems.setdefault(stem, []).append(video)
        for file in _text_files(folder):
            for stem, remarks in _splits(file.name):
                if stem in of_stems:
                    yield from _sidecars(file, of_stems[stem], remarks)
                    break


def _text_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in (*FORMATS, TRANSCRIPT))
    except OSError:
        return []


def _splits(name: str) -> Iterator[tuple[str, list[str]]]:
    """``film.en.forced.srt`` → (film.en.forced, []), (film.en, [forced]), (film, [en, forced])."""
    *parts, _suffix = name.split(".")
    for length in range(len(parts), 0, -1):
        remarks = parts[length:]
        if not all(_is_remark(each) for each in remarks):
            return
        yield ".".join(parts[:length]), remarks


def _is_remark(part: str) -> bool:
    return part.lower() in REMARKS | SPOKEN or bool(_LANGUAGE.fullmatch(part) or _NUMBER.fullmatch(part))


def _sidecars(file: Path, videos: Sequence[Path], remarks: Sequence[str]) -> Iterator[Sidecar]:
    said = [each for each in remarks if each.lower() not in REMARKS | SPOKEN and _LANGUAGE.fullmatch(each)]
    spoken = file.suffix.lower() == TRANSCRIPT or _is_spoken(remarks)
    if file.suffix.lower() == TRANSCRIPT and not _is_spoken(remarks) and not _looks_like_transcript(file):
        return
    try:
        stat = file.stat()
    except OSError:
        return  # gone since the folder was read
    source = Modality.SPEECH if spoken else Modality.SUBTITLE
    for video in videos:
        yield Sidecar(file, video, source, said[0] if said else "", stat.st_size, stat.st_mtime_ns)


def _is_spoken(remarks: Sequence[str]) -> bool:
    """Whether the name itself says that it is a transcript; then one that cannot be read is reported."""
    return any(each.lower() in SPOKEN for each in remarks)


def _looks_like_transcript(file: Path) -> bool:
    """Programs write many kinds of JSON beside a video, and what is no transcript is none of our business."""
    try:
        read_transcript(file)
    except MediaError:
        return False
    return True
