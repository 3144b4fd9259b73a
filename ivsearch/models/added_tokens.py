"""The tokens a model adds to its tokenizer, and which of them are not words: what the files beside it say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivsearch.errors import WeightsError
from ivsearch.models.layout import read_object

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
# What the official tokenizers take where no file names anything.
DEFAULT_NAMES = {
    "internlm2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"},
    "llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "qwen2": {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
}


@dataclass(frozen=True, slots=True)
class AddedToken:
    """``lstrip``, ``rstrip``: spaces on that side of it belong to it. ``special``: no word, so not shown."""

    text: str
    token_id: int
    lstrip: bool = False
    rstrip: bool = False
    special: bool = True


@dataclass(frozen=True, slots=True)
class AddedTokens:
    """``tokens`` by text, with their ids; ``names``: "bos_token", … → text; ``special``: texts that are no words.

    Texts among ``names`` and ``special`` that are not in ``tokens`` have the id the vocabulary gives them.
    """

    tokens: dict[str, AddedToken]
    names: dict[str, str]
    special: frozenset[str]


def added_tokens(folder: Path, family: str) -> AddedTokens:
    """From tokenizer_config.json, special_tokens_map.json and added_tokens.json, whichever are there.

    Raises WeightsError for a file that is damaged or asks for something that is not known.
    """
    config, config_path = _object(folder, "tokenizer_config.json")
    listing, listing_path = _object(folder, "special_tokens_map.json")
    older, older_path = _object(folder, "added_tokens.json")
    tokens = {text: AddedToken(text, _token_id(place, older_path)) for text, place in older.items()}
    entries = config.get("added_tokens_decoder")
    if isinstance(entries, Mapping):
        tokens |= {each.text: each for each in _entries(entries, config_path)}
    # The list of its own goes first only where tokenizer_config.json is of before added_tokens_decoder.
    sources = [(config, config_path), (listing, listing_path)]
    if entries is not None:
        sources.reverse()
    names = dict(DEFAULT_NAMES[family])
    special = {each.text for each in tokens.values() if each.special}
    for values, path in sources:
        names |= {key: text_of(values[key], path) for key in NAMES if values.get(key)}
        special |= {text_of(value, path) for value in values.get("additional_special_tokens") or ()}
    return AddedTokens(tokens, names, frozenset(special | set(names.values())))


def _object(folder: Path, name: str) -> tuple[dict[str, Any], Path]:
    path = folder / name
    return (read_object(path) if path.is_file() else {}), path


def _entries(entries: Mapping[str, Any], path: Path) -> Iterator[AddedToken]:
    for place, entry in entries.items():
        yield entry_token(entry, int(place) if place.isdecimal() else place, path)


def entry_token(entry: Any, token_id: Any, path: Path) -> AddedToken:
    """One token as tokenizer_config.json and tokenizer.json write it."""
    text = text_of(entry, path)
    flags = entry if isinstance(entry, Mapping) else {}
    if flags.get("single_word"):
        raise WeightsError(f"{path}: {text!r} is a single_word token, which this ivsearch cannot read")
    return AddedToken(
        text,
        _token_id(token_id, path),
        lstrip=bool(flags.get("lstrip")),
        rstrip=bool(flags.get("rstrip")),
        special=bool(flags.get("special")),
    )


def _token_id(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise WeightsError(f"{path} gives a token the id {value!r}: download the file again")
    return value


def text_of(value: Any, path: Path) -> str:
    """A token written as its text, or as an object with ``content``."""
    text = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(text, str) or not text:
        raise WeightsError(f"{path} names a special token {value!r}: it must be a text; download the file again")
    return text
