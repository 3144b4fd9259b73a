"""Byte-level BPE: Qwen2's vocab.json with merges.txt, and tokenizer.json, the file of the package ``tokenizers``."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivsearch.errors import WeightsError
from ivsearch.models.added_tokens import AddedToken, entry_token
from ivsearch.models.layout import read_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Where words are cut before they are paired (Qwen2Tokenizer).
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class BytePairs:
    """Texts without added tokens in them to ids, and back."""

    def __init__(self, tokenizer: Tokenizer, joint: str, *, composes: bool) -> None:
        self.tokenizer, self.joint, self.composes = tokenizer, joint, composes

    def prepared(self, text: str) -> str:
        """The whole text in the form it is split in: Qwen2 composes accents (NFC) before anything else."""
        return unicodedata.normalize("NFC", text) if self.composes else text

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids the vocabulary does not have are left out; broken characters become U+FFFD."""
        known = [each for each in ids if self.tokenizer.id_to_token(each) is not None]
        return str(self.tokenizer.decode(known, skip_special_tokens=False))

    def id_of(self, text: str) -> int | None:
        found = self.tokenizer.token_to_id(text)
        return None if found is None else int(found)

    def text_of(self, token_id: int) -> str | None:
        """Of a word, as it is written."""
        known = self.tokenizer.id_to_token(token_id) is not None
        return str(self.tokenizer.decode([token_id], skip_special_tokens=False)) if known else None


def qwen2_pairs(folder: Path) -> BytePairs:
    """Of ``vocab.json`` and ``merges.txt``. Raises WeightsError when they are damaged."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise WeightsError(f"{vocabulary} or {merges.name} is damaged ({error}); download both again") from error
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return BytePairs(tokenizer, "", composes=True)


def written_pairs(path: Path) -> tuple[BytePairs, dict[str, AddedToken], list[int]]:
    """Of ``tokenizer.json``: the tokenizer without its added tokens, these, and the ids before every text.

    Raises WeightsError when the file is damaged, or puts something after texts.
    """
    from tokenizers import Tokenizer

    content = read_object(path)
    try:
        whole = Tokenizer.from_str(json.dumps(content))
        added = {each.text: each for each in map(_added(path), content.pop("added_tokens", None) or [])}
        content["post_processor"] = None
        bare = Tokenizer.from_str(json.dumps(content))
    except WeightsError:
        raise
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise WeightsError(f"{path} is damaged or of a kind that is not known ({error}); download it again") from error
    plain, framed = bare.encode("x").ids, whole.encode("x").ids
    if framed[len(framed) - len(plain) :] != plain:
        raise WeightsError(f"{path} puts tokens after every text, which no chat model of this ivsearch does")
    return BytePairs(bare, "", composes=False), added, framed[: len(framed) - len(plain)]


def _added(path: Path) -> Any:
    return lambda entry: entry_token(entry, entry.get("id") if isinstance(entry, dict) else None, path)
