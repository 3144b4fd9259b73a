"""The Protocol every chat model follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ivsearch.domain import Evidence, Turn


class ChatModel(Protocol):
    """Says in words what the Evidence shows. What it says is checked before anyone sees it.

    ``watches``: it looks at the footage itself (``evidence.hit.path`` from ``start_s`` to ``end_s``). One that does not
    knows only the names in ``evidence.sees``, and every other word it finds for the footage is an invention.
    ``languages``: those it writes, as in ``language.LANGUAGES``; None for all of them.
    """

    @property
    def name(self) -> str: ...

    @property
    def watches(self) -> bool: ...

    @property
    def languages(self) -> frozenset[str] | None: ...

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        """Pieces of the reply as they come. The last turn's question is the one asked, its answer is still empty.

        Sentences cite Evidence by label: ``A dog runs [1].``
        """
        ...
