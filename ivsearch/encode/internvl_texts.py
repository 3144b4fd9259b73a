"""Texts → the token ids that InternVL-14B was trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ivsearch.errors import WeightsError
from ivsearch.models.internvl_config import QllamaConfig
from ivsearch.models.pieces import Pieces

PREFIX = "summarize:"
MAX_TOKENS = 80


class Texts:
    """The tokenizer of a model folder, used as the official retrieval code uses it."""

    def __init__(self, folder: Path, config: QllamaConfig) -> None:
        """Raises WeightsError for a missing or damaged tokenizer, or one of another model."""
        self.pieces = Pieces(folder)
        if len(self.pieces) > config.vocab_size:
            raise WeightsError(
                f"{folder / 'tokenizer.model'} has {len(self.pieces)} pieces, the network only {config.vocab_size}: "
                "it is of another model; copy the one that belongs to these weights"
            )
        self._file = folder / "tokenizer.model"

    def encode(self, text: str) -> list[int]:
        """Beginning, ``summarize:``, the text, end; at most 80 ids, the last one always the end. No padding."""
        ids = [self.pieces.bos, *self.pieces.encode(PREFIX + text), self.pieces.eos]
        return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], self.pieces.eos]

    def prompt(self, text: str) -> list[int]:
        """What a caption goes on from: no prefix, no end."""
        return [self.pieces.bos, *self.pieces.encode(text)]

    def digest(self) -> str:
        """Of all that ids depend on: the pieces, the special ones, the prefix and the limit."""
        digest = hashlib.sha256(self._file.read_bytes())
        digest.update(f"{sorted(self.pieces.special.items())} {PREFIX} {MAX_TOKENS}".encode())
        return digest.hexdigest()
