"""SentencePiece tokens, exactly as the official slow tokenizer makes them.

Current tokenizers of other packages pad on the left and break some texts otherwise; a wrong token is a wrong vector.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ivsearch.errors import WeightsError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]"}


class Pieces:
    """The tokenizer of a model folder: ``tokenizer.model`` and the names of its special tokens."""

    def __init__(self, folder: Path) -> None:
        """Raises WeightsError when the file is not there or is not what it says."""
        import sentencepiece

        path = folder / "tokenizer.model"
        if not path.is_file():
            raise WeightsError(f"{path} is not there: texts cannot be read without it; copy it from the official model")
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise WeightsError(f"{path} is damaged or no SentencePiece model ({error}); download it again") from error
        self.special = {name: self.processor.piece_to_id(name) for name in _special_names(folder)}
        self._split = re.compile("(" + "|".join(re.escape(name) for name in sorted(self.special, key=len)[::-1]) + ")")
        self.bos, self.eos = self.processor.bos_id(), self.processor.eos_id()

    def __len__(self) -> int:
        return int(self.processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without beginning and end. Special tokens written out in it become their ids."""
        ids: list[int] = []
        for part in self._split.split(text):
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                # Each part by itself: SentencePiece puts a space before each, as the official tokenizer has it.
                ids += self.processor.encode(part)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Ids to text, special ones left out."""
        hidden = set(self.special.values())
        return str(self.processor.decode([each for each in ids if each not in hidden])).strip()


def _special_names(folder: Path) -> set[str]:
    path = folder / "special_tokens_map.json"
    named = {}
    if path.is_file():
        try:
            named = {key: value for key, value in json.loads(path.read_bytes()).items() if key in SPECIAL}
        except (ValueError, AttributeError) as error:
            raise WeightsError(f"{path} is damaged ({error}); download it again") from error
    merged = SPECIAL | named
    return {value["content"] if isinstance(value, dict) else value for value in merged.values()}
