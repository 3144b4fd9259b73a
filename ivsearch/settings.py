"""Settings: default < user ivsearch.toml < ./ivsearch.toml < IVSEARCH_* < flag. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import platformdirs

from ivsearch.errors import UsageError

FILE_NAME = "ivsearch.toml"
PREFIX = "IVSEARCH_"
DEFAULT_ENCODER = "mini"
# Variables of the test suite, not settings.
FOREIGN = {"IVSEARCH_REQUIRE", "IVSEARCH_SHARED", "IVSEARCH_TEST_KILLS"}


KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
LOWEST = {
    "fps": 0.001,
    "workers": 0,
    "batch": 0,
    "stall_s": 1.0,
    "max_pixels": 1,
    "visual_tokens_bytes": 0,
    "chat_timeout_s": 0.1,
    "chat_frames": 0,
    "min_likely": 0.0,
    "diverse": 0.0,
}
# A day. No clock of the operating system takes much more, nor any user.
HIGHEST = {"stall_s": 86_400.0, "chat_timeout_s": 86_400.0, "min_likely": 1.0, "diverse": 1.0}


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


MIN_LIKELY = 0.25
"""What that keeps and what it lets through: benchmarks/LOG.md."""
DIVERSE = 0.0
"""Off: any of it costs some of what is found among the first ten."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One field a setting; its help line is what ``ivsearch doctor`` and the docs show."""

    library: str = _setting("", "folder of the library; empty: ./indexes/default or the user's data folder")
    catalog: str = _setting("", "SQLAlchemy URL of the catalog; empty: catalog.db in the library")
    encoder: str = _setting("", "encoder of new vectors; empty: the library's own, or mini for a new library")
    weights: str = _setting("", "folder or hub id of the encoder's weights, for encoders that need them")
    device: str = _setting("cpu", "torch device of the encoder")
    dtype: str = _setting("", "what the encoder computes in: float32, bfloat16, float16 or fp8; empty: what suits it")
    preprocess: str = _setting("", "way to prepare pictures, such as retrieval or clip; empty: the encoder's own")
    attention: str = _setting("sdpa", "attention kernel of the encoder: sdpa, or flash with the package flash-attn")
    chat: str = _setting("", "chat model of ask and chat; empty: answers composed plainly from the evidence")
    chat_weights: str = _setting("", "folder or hub id of the chat model's weights; empty: where it is published")
    chat_device: str = _setting("", "torch device of the chat model; empty: the encoder's")
    chat_dtype: str = _setting("", "what the chat model computes in, as dtype")
    chat_endpoint: str = _setting("", "address of the server of chat model openai:MODEL, as http://localhost:8000/v1")
    chat_timeout_s: float = _setting(120.0, "seconds without a word after which that server is given up")
    chat_frames: int = _setting(0, "frames that a chat model is shown for one answer; 0: as many as suit it")
    chat_pictures: bool = _setting(True, "whether its model takes pictures; else it words what the encoder sees")
    visual_tokens_bytes: int = _setting(2 << 30, "room on disk for what chat models have seen of the media; 0: none")
    player: str = _setting("", "what opens a hit, as 'mpv --start={start_s} {path}'; empty: a player that is there")
    min_likely: float = _setting(MIN_LIKELY, "how likely, from 0 to 1, the best hit must be for something to match")
    diverse: float = _setting(DIVERSE, "how much hits are to differ from each other, from 0 to 1")
    fps: float = _setting(1.0, "frames sampled from each second of video")
    workers: int = _setting(0, "decoding processes; 0: one for every core, at most 8")
    batch: int = _setting(0, "frames encoded at once; 0: what suits the encoder on its device")
    stall_s: float = _setting(60.0, "seconds without a frame after which a decoder is given up")
    max_pixels: int = _setting(200_000_000, "pictures with more pixels than this are skipped")
    subtitles: bool = _setting(True, "read subtitles and transcripts beside videos, and subtitles inside them")
    ocr: bool = _setting(False, "read words on screen, with the extra ocr: Latin, Chinese and Japanese script")
    speech: bool = _setting(False, "write down what is said, with the extra speech and speech_weights")
    speech_weights: str = _setting("", "folder of a whisper model for faster-whisper")
    memory_budget: str = _setting("0", "memory for the vector index, as 6GB; 0: a quarter of this machine's")
    strict_hash: bool = _setting(False, "fingerprint whole files instead of samples of them")


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folders: list[Path] | None = None,
) -> Settings:
    """Merges the sources, later ones winning. A flag that is None was not given.

    ``folders`` are searched for ``ivsearch.toml`` in order (default: the user's configuration folder, then the
    current one). Raises UsageError for an unknown key, an unreadable file or a value of the wrong type.
    """
    environ = os.environ if environ is None else environ
    if folders is None:
        folders = [platformdirs.user_config_path("ivsearch"), Path.cwd()]
    merged: dict[str, Any] = {}
    for folder in folders:
        merged |= _from_file(folder / FILE_NAME)
    merged |= _from_environment(environ)
    for name, value in (flags or {}).items():
        if isinstance(value, float) and math.isnan(value):
            raise UsageError(f"setting {name!r} must be a number, not nan")
        if value is not None:
            merged[name] = value
    return Settings(**merged)


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    return {name: _checked(name, value, str(path)) for name, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable not in FOREIGN:
            name = variable.removeprefix(PREFIX).lower()
            values[name] = _checked(name, text, f"environment variable {variable}")
    return values


def _checked(name: str, value: Any, source: str) -> Any:
    types = get_type_hints(Settings)
    if name not in types:
        known = ", ".join(each.name for each in dataclasses.fields(Settings))
        raise UsageError(f"{source}: unknown setting {name!r}; known are: {known}")
    wanted = types[name]
    try:
        if wanted is bool:
            return _boolean(value)
        if isinstance(value, (bool, list, dict)):
            raise ValueError
        value = wanted(value)
    except (ValueError, OverflowError):
        raise UsageError(f"{source}: setting {name!r} must be {KINDS[wanted]}, not {value!r}") from None
    if name == "memory_budget":
        bytes_in(value, f"{source}: setting {name!r}")
    if name in LOWEST and not value >= LOWEST[name]:
        raise UsageError(f"{source}: setting {name!r} must be at least {LOWEST[name]}, not {value}")
    if name in HIGHEST and not value <= HIGHEST[name]:
        raise UsageError(f"{source}: setting {name!r} must be at most {HIGHEST[name]:g}, not {value}")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off", ""):
        return False
    raise ValueError


def bytes_in(text: str, source: str = "a size") -> int:
    """``6GB``, ``512 MiB``, ``1.5g``, ``1000`` → bytes. Raises UsageError; ``source`` says of what."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", text.strip(), re.IGNORECASE)
    if not match:
        raise UsageError(f"{source} must be a number of bytes as 6GB, 512MiB or 1000, not {text!r}")
    unit, binary = (match[2] or "").lower(), bool(match[3])
    return int(float(match[1]) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))


def library_folder(settings: Settings) -> Path:
    """Where the library is: as set, else ./indexes/default if ./indexes exists, else the user's data folder."""
    if settings.library:
        return Path(settings.library).expanduser()
    if Path("indexes").is_dir():
        return Path("indexes") / "default"
    return platformdirs.user_data_path("ivsearch") / "default"
