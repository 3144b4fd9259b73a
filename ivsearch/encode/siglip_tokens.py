"""Texts → the token ids SigLIP's text towers were trained on.

Both generations read a fixed number of tokens, padded on the right, with one end token that is never cut off and no
attention mask: the padding is part of the input (google-research/big_vision, ``pp/ops_text.py``, ``eos="sticky"``). Of
the tokenizers transformers 5 offers, Gemma's pads on the left and keeps capitals, so ids are made here.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivsearch.errors import WeightsError
from ivsearch.models.layout import read_object

SIGLIP_FILE = "spiece.model"
SIGLIP2_FILE = "tokenizer.json"
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class SiglipTokens(Protocol):
    """``file`` and ``lower``, whether texts become lower case first, are what the ids depend on."""

    @property
    def file(self) -> Path: ...
    @property
    def lower(self) -> bool: ...

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int64]:
        """n texts → (n, length) ids."""
        ...


class SentencePieceTokens:
    """SigLIP: ASCII punctuation dropped, lower case, SentencePiece, the end token also as padding.

    transformers' SiglipTokenizer does the same, but needs protobuf.
    """

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self.file = file
        self.pieces = SentencePieceProcessor()
        try:
            self.pieces.LoadFromSerializedProto(file.read_bytes())
        except RuntimeError as error:
            raise WeightsError(f"{file} is not a SentencePiece model; download it again") from error
        settings = file.with_name("tokenizer_config.json")
        self.lower = not settings.is_file() or bool(read_object(settings).get("do_lower_case", True))

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int64]:
        end = self.pieces.eos_id()
        return padded([self.pieces.encode(self.clean(text)) for text in texts], length, end, end)

    def clean(self, text: str) -> str:
        text = text.lower() if self.lower else text
        return re.sub(r"\s+", " ", text.translate(NO_PUNCTUATION)).strip()


class GemmaTokens:
    """SigLIP 2: lower case, Gemma's vocabulary, no start token, ``<eos>`` at the end, ``<pad>`` after it.

    As transformers' Siglip2Tokenizer with what its conversion script sets: right padding, end token, no start token.
    """

    lower = True

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer, normalizers

        self.file = file
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises Exception itself
            raise WeightsError(f"{file} is not a tokenizer ({error}); download it again") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        own = self.tokenizer.normalizer
        self.tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own] if own else [])])
        self.end, self.padding = self.special("<eos>"), self.special("<pad>")

    def special(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise WeightsError(f"{self.file} has no token {token}: it is not the tokenizer of a SigLIP 2 model")
        return int(found)

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int64]:
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return padded([encoding.ids for encoding in encodings], length, self.end, self.padding)


def padded(rows: Sequence[Sequence[int]], length: int, end: int, padding: int) -> NDArray[np.int64]:
    """Ids of each text, cut to leave room for ``end``, padded on the right."""
    ids = np.full((len(rows), length), padding, np.int64)
    for out, row in zip(ids, rows, strict=True):
        kept = [*row[: length - 1], end]
        out[: len(kept)] = kept
    return ids


def read_tokens(folder: Path) -> SiglipTokens:
    """The tokenizer in a model's folder; WeightsError when there is none."""
    if (folder / SIGLIP_FILE).is_file():
        return SentencePieceTokens(folder / SIGLIP_FILE)
    if (folder / SIGLIP2_FILE).is_file():
        return GemmaTokens(folder / SIGLIP2_FILE)
    raise WeightsError(f"{folder} has no tokenizer ({SIGLIP_FILE} or {SIGLIP2_FILE}): download the whole model")
