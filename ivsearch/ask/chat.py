"""The Protocol every chat model follows, and that of those one can show pictures and videos to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ivsearch.domain import Evidence, Turn

if TYPE_CHECKING:
    from PIL import Image


class ChatModel(Protocol):
    """Says in words what the Evidence shows. What it says is checked before anyone sees it.

    ``watches``: it looks at the footage itself (``evidence.hit.path`` from ``start_s`` to ``end_s``). One that does not
    knows only the names in ``evidence.sees``, and every other word it finds for the footage is an invention.
    ``languages``: those it writes, as in ``language.LANGUAGES``; None for all of them. ``missed``: the labels of the
    last reply's Evidence that it was not shown, known before the first piece; empty for one that does not watch.
    """

    @property
    def name(self) -> str: ...

    @property
    def watches(self) -> bool: ...

    @property
    def languages(self) -> frozenset[str] | None: ...

    @property
    def missed(self) -> frozenset[int]: ...

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        """Pieces of the reply as they come. The last turn's question is the one asked, its answer is still empty.

        Sentences cite Evidence by label: ``A dog runs [1].`` One that watches says nothing where there is Evidence and
        none of it can be shown.
        """
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """A frame of a video that was looked at: its number among the presented ones, and its time."""

    index: int
    pts_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said, and the ids of it, the stop token as the last when it came. ``frames``: those of the video."""

    text: str
    token_ids: tuple[int, ...]
    frames: tuple[Look, ...] = ()


@runtime_checkable
class Watcher(Protocol):
    """A chat model that answers about the very pictures or the video it is given, with no Library."""

    @property
    def name(self) -> str: ...

    def generate(
        self,
        *,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Reply:
        """The answer to ``question`` after the (question, answer) of ``history``.

        ``images`` or a ``video``, of which ``n_frames`` are looked at (None: as many as suit it), belong to the whole
        conversation: they are given again with every question. ``max_tiles``: into how many tiles a picture may be
        cut, one number for all or one for each. ``temperature`` 0 always says the likeliest word.
        Raises UsageError for what does not fit together, MediaError for a video that cannot be read.
        """
        ...

    def stream(
        self,
        *,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """As ``generate``, in pieces of text as they come."""
        ...
