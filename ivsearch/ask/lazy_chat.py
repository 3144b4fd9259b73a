"""A chat model that is loaded when it is first needed: where nothing is found no weights need be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from ivsearch.ask.chat import ChatModel
from ivsearch.domain import Evidence, Turn


class LazyChat:
    """The ChatModel that ``load`` gives. ``name`` and ``watches`` are known without it."""

    def __init__(self, name: str, watches: bool, load: Callable[[], ChatModel]) -> None:
        self.name, self.watches = name, watches
        self._load = load

    @cached_property
    def _model(self) -> ChatModel:
        return self._load()

    @property
    def languages(self) -> frozenset[str] | None:
        return self._model.languages

    @property
    def missed(self) -> frozenset[int]:
        return self._model.missed

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        return self._model.reply(turns, evidence, max_new_tokens=max_new_tokens)
