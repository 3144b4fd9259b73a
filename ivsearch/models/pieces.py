"""SentencePiece tokens, exactly as the official slow tokenizer makes them.

Current tokenizers of other packages pad on the left and break some texts otherwise; a wrong token is a wrong vector.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.added_tokens import text_of
from ivsearch.models.layout import read_object

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

# What LlamaTokenizer takes where the files name nothing; it has no padding then.
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
NAMED = (*SPECIAL, "pad_token")


class Pieces:
    """The tokenizer of a model folder: ``tokenizer.model`` and the names of its special tokens."""

    def __init__(self, folder: Path) -> None:
        """Raises WeightsError when the file is not there or is not what it says."""
        path = folder / "tokenizer.model"
        self.processor = piece_processor(path)
        self.special = {name: self._id(name, path) for name in _special_names(folder)}
        self._split = re.compile("(" + "|".join(re.escape(name) for name in sorted(self.special, key=len)[::-1]) + ")")
        self.bos, self.eos = self.processor.bos_id(), self.processor.eos_id()

    def _id(self, name: str, path: Path) -> int:
        place = int(self.processor.piece_to_id(name))
        if place == self.processor.unk_id() and name != self.processor.id_to_piece(place):
            raise WeightsError(f"{path} has no piece {name!r}, which is named beside it: the files are of two models")
        return place

    def __len__(self) -> int:
        return int(self.processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without beginning and end. Special tokens written out in it become their ids.

        Raises UsageError for a text that is not valid Unicode.
        """
        check_unicode(text)
        ids: list[int] = []
        for part in self._split.split(text):
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                # Each part by itself: SentencePiece puts a space before each, as the official tokenizer has it.
                ids += self.processor.encode(part)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Ids to text, without special ones and those that a network larger than the tokenizer can give."""
        hidden = set(self.special.values())
        return str(self.processor.decode([each for each in ids if each < len(self) and each not in hidden])).strip()


def piece_processor(path: Path) -> SentencePieceProcessor:
    """Raises WeightsError when the file is not there or no SentencePiece model."""
    import sentencepiece

    if not path.is_file():
        raise WeightsError(f"{path} is not there: texts cannot be read without it; copy it from the official model")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no SentencePiece model ({error}); download it again") from error


def check_unicode(text: str) -> None:
    """Raises UsageError for a text with half a character in it, as wrong decoding leaves them."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("the text is not valid Unicode: check the encoding of the terminal, file or script")


def _special_names(folder: Path) -> set[str]:
    """special_tokens_map.json goes before tokenizer_config.json, as in transformers."""
    named = dict(SPECIAL)
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / file
        if path.is_file():
            named |= {key: text_of(value, path) for key, value in read_object(path).items() if key in NAMED and value}
    return set(named.values())
