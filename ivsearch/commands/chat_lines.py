"""A line of JSON → what is asked: ``{"question": "…", "image": "a.jpg"}``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ivsearch.commands.chat_partners import Asked, Subject
from ivsearch.errors import UsageError

KEYS = ("question", "image", "images", "video", "frames", "max_tiles", "history")
MOST_FRAMES = 512


def read_asked(line: str, *, n_frames: int | None, max_tiles: tuple[int, ...]) -> Asked:
    """``n_frames`` and ``max_tiles`` where the line says nothing of them. Raises UsageError in plain words."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"no JSON: {error}") from None
    if not isinstance(document, dict):
        raise UsageError('not an object: write {"question": "…"} on a line, with "image", "images" or "video"')
    if unknown := sorted(set(document) - set(KEYS)):
        raise UsageError(f"unknown key {unknown[0]!r}; known are: {', '.join(KEYS)}")
    question = document.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UsageError('"question" must be a text that is not empty')
    if any("\ud800" <= c <= "\udfff" for c in question):
        raise UsageError('"question" holds half a character (\\ud800 to \\udfff): write it whole, or leave it out')
    if "image" in document and "images" in document:
        raise UsageError('"image" and "images" both name pictures: give one of them')
    images = document.get("images", [document["image"]] if "image" in document else [])
    video = document.get("video")
    if not _all_are(str, images):
        raise UsageError('"image" must be a path, "images" a list of them')
    if not isinstance(video, str | None):
        raise UsageError('"video" must be a path')
    frames = document.get("frames", n_frames)
    if frames is not None and not (_is_whole(frames) and 1 <= frames <= MOST_FRAMES):
        raise UsageError(f'"frames" must be a number from 1 to {MOST_FRAMES}')
    tiles: Any = document.get("max_tiles", list(max_tiles))
    tiles = tiles if isinstance(tiles, list) else [tiles]
    if not all(_is_whole(each) and each >= 1 for each in tiles):
        raise UsageError('"max_tiles" must be a number from 1 on, or a list of them')
    paths = tuple(map(_there, images))
    subject = Subject(paths, _there(video) if video is not None else None, frames, tuple(tiles))
    return Asked(question, subject, _turns(document.get("history", [])))


def _turns(history: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(history, list) or not all(_all_are(str, turn) and len(turn) == 2 for turn in history):
        raise UsageError('"history" must be a list of [question, answer]')
    return tuple((question, answer) for question, answer in history)


def _there(path: str) -> Path:
    if "\0" in path or any("\ud800" <= c <= "\udfff" for c in path) or not Path(path).exists():
        raise UsageError(f"{path}: no such file")
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    return Path(path)


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
