"""Texts of a chat to token ids and back, exactly as the official slow tokenizers do it.

InternLM2 and Llama: SentencePiece, each text between added tokens by itself. Qwen2: byte-level BPE. The same ids in,
the same words out: current tokenizers of other packages differ on some texts, and a wrong id is a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ivsearch.errors import WeightsError
from ivsearch.models.added_tokens import DEFAULT_NAMES, AddedToken, added_tokens
from ivsearch.models.byte_pairs import qwen2_pairs, written_pairs
from ivsearch.models.chat_config import ChatConfig
from ivsearch.models.chat_template import CONTEXT, IMAGE, broken, template_named
from ivsearch.models.layout import read_object
from ivsearch.models.pieces import check_unicode, piece_processor

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

# Spaces that official decoding takes out, in this order (`clean_up_tokenization` of transformers).
SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
# A text may be cut for the clean-up only after a character that stands before no other in one of these.
JOINING = {character for text in SPACED for character in text[:-1]}


# A stream reads no more ids again than about so many.
WINDOW = 32


class Words(Protocol):
    """The vocabulary under the added tokens. ``joint`` stands between a word of it and an added one that is shown."""

    joint: str

    def prepared(self, text: str) -> str: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def id_of(self, text: str) -> int | None: ...

    def text_of(self, token_id: int) -> str | None: ...


class SentencePieces:
    """Words of InternLM2 and Llama."""

    joint = " "

    def __init__(self, processor: SentencePieceProcessor) -> None:
        self.processor = processor

    def prepared(self, text: str) -> str:
        return text

    def encode(self, text: str) -> list[int]:
        return list(self.processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.processor.decode([each for each in ids if each < self.processor.get_piece_size()]))

    def id_of(self, text: str) -> int | None:
        place = int(self.processor.piece_to_id(text))
        return place if self.processor.id_to_piece(place) == text else None

    def text_of(self, token_id: int) -> str | None:
        """Of a word, as it is written."""
        known = token_id < self.processor.get_piece_size()
        return str(self.processor.id_to_piece(token_id)).replace("\u2581", " ") if known else None


class ChatTokens:
    """The tokenizer of a chat model; ``open_chat_tokens`` makes one.

    ``stop_id`` ends a reply. ``end_pad_id`` fills the rows of a batch after their end.
    ``context_id``: the token a picture's features take the place of.
    """

    def __init__(
        self,
        words: Words,
        added: dict[str, AddedToken],
        start: Sequence[int],
        *,
        stop: str,
        end_pad_id: int | None,
        cleans: bool,
    ) -> None:
        self._words, self._added, self._start = words, added, tuple(start)
        self._by_id = {each.token_id: each for each in added.values()}
        longest_first = sorted(added, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._stop, self._cleans = stop, cleans
        self.stop_id = self._needed(stop)
        self.context_id = self._needed(CONTEXT)
        self.end_pad_id = self.stop_id if end_pad_id is None else end_pad_id

    def _needed(self, text: str) -> int:
        if text not in self._added:
            raise WeightsError(f"the tokenizer has no token {text!r}: its files and config.json are of two models")
        return self._added[text].token_id

    def encode(self, text: str) -> list[int]:
        """Ids of a whole prompt. Added tokens written out in it become their ids.

        Raises UsageError for a text that is not valid Unicode.
        """
        check_unicode(text)
        parts = self._split.split(self._words.prepared(text))
        ids = list(self._start)
        for place, part in enumerate(parts):
            if place % 2:
                ids.append(self._added[part].token_id)
            elif chunk := self._stripped(parts, place):
                # Each by itself: SentencePiece puts a space before each, as the official tokenizers have it.
                ids += self._words.encode(chunk)
        return ids

    def _stripped(self, parts: Sequence[str], place: int) -> str:
        chunk = parts[place]
        if place and self._added[parts[place - 1]].rstrip:
            chunk = chunk.lstrip()
        if place + 1 < len(parts) and self._added[parts[place + 1]].lstrip:
            chunk = chunk.rstrip()
        return chunk

    def decode(self, ids: Sequence[int]) -> str:
        """The reply that ids say: without special tokens, cut at the stop text, stripped."""
        return self._finished(self._raw(ids)).strip()

    def stream(self, ids: Iterator[int]) -> Iterator[str]:
        """Pieces of text as ids come in. Joined they are what ``decode`` makes of all ids; no character is broken."""
        window: list[int] = []
        skipped = said = 0
        raw, begun = "", False
        for each in ids:
            window.append(each)
            raw = self._raw(window)[skipped:]
            settled = self._settled(raw)
            text = self._stripped_once(raw[:settled], begun)
            if len(text) > said:
                yield text[said:]
                said = len(text)
            if self._stop in raw:
                break
            if len(window) > WINDOW and settled == len(raw) and (last := self._raw([each])):
                # Nothing before can change any more. The last id stays, as what begins a text may lose its space.
                window, skipped, said, begun = [each], len(last), 0, True
                raw = ""
        if rest := self._stripped_once(raw, begun)[said:]:
            yield rest

    def _stripped_once(self, raw: str, begun: bool) -> str:
        """The end of a reply whose beginning may be told already."""
        text = self._finished(raw)
        return text.rstrip() if begun else text.strip()

    def neutral(self, text: str) -> str:
        """``text`` with every added token and ``<image>`` in it pulled apart, so that all of it is read as words.

        A vocabulary may have a name of its own for the id of an added token: InternLM2's knows its ``<|im_end|>`` as
        ``[UNUSED_TOKEN_145]``.
        """
        own = filter(None, map(self._words.text_of, self._by_id))
        for name in (*self._added, *own, IMAGE):
            text = broken(text, name)
        return text

    def _raw(self, ids: Sequence[int]) -> str:
        """The text of ids, special ones left out; an added token that is shown stands by itself."""
        texts: list[str] = []
        chunk: list[int] = []
        for each in ids:
            added = self._by_id.get(each)
            if added is None:
                chunk.append(each)
            elif not added.special:
                texts += [self._words.decode(chunk), added.text]
                chunk = []
        texts.append(self._words.decode(chunk))
        return self._words.joint.join(filter(None, texts))

    def _finished(self, raw: str) -> str:
        if self._cleans:
            for spaced in SPACED:
                raw = raw.replace(spaced, spaced.strip())
        return raw.split(self._stop)[0]

    def _settled(self, raw: str) -> int:
        """How much of ``raw`` no further id changes: no half characters, nothing the clean-up or the stop may take."""
        end = len(raw)
        while end:
            last = raw[end - 1]
            begun = next((n for n in range(len(self._stop) - 1, 0, -1) if raw.endswith(self._stop[:n], 0, end)), 0)
            if begun:
                end -= begun
            elif last == "\ufffd" or last.isspace() or (self._cleans and last in JOINING):
                end -= 1
            else:
                break
        return end


def open_chat_tokens(folder: Path, config: ChatConfig) -> ChatTokens:
    """The tokenizer in a model's folder.

    ``tokenizer.model`` for InternLM2 and Llama, ``vocab.json`` with ``merges.txt`` for Qwen2, else ``tokenizer.json``.
    Raises WeightsError when files are missing, damaged, or ask for something that is not known.
    """
    family = config.language.family
    template = template_named(config.template)
    listed = added_tokens(folder, family)
    options = _options(folder)
    words, inside, start = _words(folder, family)
    added = inside | listed.tokens
    for text in listed.special:
        found = words.id_of(text)
        if text in added:
            added[text] = replace(added[text], special=True)
        elif found is not None:
            added[text] = AddedToken(text, found)
        elif text not in DEFAULT_NAMES[family].values():
            raise WeightsError(f"{folder}: the tokenizer has no id for the special token {text!r}; download it again")
    if isinstance(words, SentencePieces) and _adds_bos(options):
        start = [added[listed.names["bos_token"]].token_id]
    # A token beyond the network's table (there are such) is for it a text like any other.
    added = {text: each for text, each in added.items() if each.token_id < config.language.vocab_size}
    return ChatTokens(
        words,
        added,
        start,
        stop=template.stop,
        end_pad_id=config.language.pad_token_id,
        cleans=_cleans(family, options, written=not isinstance(words, SentencePieces) and not words.composes),
    )


def _options(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    options = read_object(path) if path.is_file() else {}
    if options.get("legacy") is False and (folder / "tokenizer.model").is_file():
        raise WeightsError(f"{path}: legacy is false, a way of splitting texts that this ivsearch does not know")
    if options.get("add_eos_token"):
        raise WeightsError(f"{path}: add_eos_token is set, which no chat model of this ivsearch does")
    return options


def _words(folder: Path, family: str) -> tuple[SentencePieces | Any, dict[str, AddedToken], list[int]]:
    """The vocabulary, the added tokens its file holds, and the ids before every text."""
    if family != "qwen2" and ((folder / "tokenizer.model").is_file() or family == "internlm2"):
        return SentencePieces(piece_processor(folder / "tokenizer.model")), {}, []
    if family == "qwen2" and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return qwen2_pairs(folder), {}, []
    if (folder / "tokenizer.json").is_file():
        return written_pairs(folder / "tokenizer.json")
    wanted = "vocab.json with merges.txt" if family == "qwen2" else "tokenizer.model"
    raise WeightsError(
        f"{folder} holds no tokenizer: {wanted}, or tokenizer.json, must be there; copy it from the official model"
    )


def _adds_bos(options: dict[str, Any]) -> bool:
    return options.get("add_bos_token") is not False


def _cleans(family: str, options: dict[str, Any], *, written: bool) -> bool:
    """InternLM2's official tokenizer cleans up whatever its file says."""
    return family == "internlm2" or bool(options.get("clean_up_tokenization_spaces", written))
