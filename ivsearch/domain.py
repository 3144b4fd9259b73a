"""The nouns of ivsearch, as frozen dataclasses. Read this file first.

One word, one meaning, everywhere: code, columns, JSON, help and docs use these names.
Times are presentation times in seconds, counted from the first presented frame of a video.
Nothing here imports anything else of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# ---- what a Library holds ----

MediaId = str
"""Content fingerprint of a Media: lower-case hexadecimal, 32 digits."""


class MediaKind(StrEnum):
    VIDEO = "video"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Media:
    """One video or image, identified by its content; several paths may hold it.

    ``width`` and ``height`` are as displayed: rotation and sample aspect ratio applied.
    ``duration_s`` is 0 for an image. ``recorded_at`` (UTC) comes from the file's own metadata.
    ``warnings`` say what was wrong with a file that could still be read.
    """

    media_id: MediaId
    kind: MediaKind
    duration_s: float
    width: int
    height: int
    codec: str
    size_bytes: int
    fps: float | None = None
    recorded_at: datetime | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture: ``pixels`` (height, width, 3) uint8 sRGB, shown from ``pts_s`` on."""

    pts_s: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """A span ``[start_s, end_s)`` of one Media: what is pooled, indexed and found.

    ``first_frame`` and ``n_frames`` point into the Media's FrameVectors. An image is one Clip of length 0.
    """

    clip_id: int
    media_id: MediaId
    start_s: float
    end_s: float
    first_frame: int
    n_frames: int


@dataclass(frozen=True, slots=True)
class Moment:
    """The sub-span ``[start_s, end_s)`` inside a Clip that a query really matches."""

    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True, slots=True)
class Space:
    """The vector space of one encoder. ``revision`` is a digest of its weights and preprocessing."""

    encoder: str
    revision: str
    dim: int

    @property
    def key(self) -> str:
        """Folder name and catalog key of the Space."""
        return f"{self.encoder.replace(':', '-').replace('/', '-')}-{self.revision[:12]}"


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Unit vectors in one Space: ``vectors`` (n, dim) float32. Two Spaces are never compared."""

    space: Space
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True, eq=False)
class FrameVectors:
    """What the VectorStore keeps of one Media in one Space.

    ``sample_pts_s`` (m,) float64: presentation time of every sampled frame, those the gate dropped too.
    ``kept`` (n,) int32: which of the samples were embedded.
    ``vectors`` (n, dim) float16: their unit vectors.
    """

    sample_pts_s: NDArray[np.float64]
    kept: NDArray[np.int32]
    vectors: NDArray[np.float16]

    @property
    def pts_s(self) -> NDArray[np.float64]:
        """Presentation times of the embedded frames, (n,) float64."""
        return self.sample_pts_s[self.kept]


class Modality(StrEnum):
    """What of a Media can be found: its pictures, or words by where they come from."""

    PICTURE = "picture"
    SUBTITLE = "subtitle"
    SPEECH = "speech"
    SCREEN = "screen"
    """Words in the picture, read by OCR."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """Words written or said in ``[start_s, end_s)`` of a Media; in an image, at 0."""

    start_s: float
    end_s: float
    text: str


# ---- what is asked ----


@dataclass(frozen=True, slots=True)
class Filters:
    """Which Media a Query looks at. ``paths`` are globs; a Media passes when any of its paths does."""

    paths: tuple[str, ...] = ()
    kind: MediaKind | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a picture as it is displayed: its left upper corner and its size, in shares of the picture's
    width and height, or ``in_pixels``."""

    x: float
    y: float
    width: float
    height: float
    in_pixels: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a composed Query: a text, an image file or a Clip, exactly one, and how much it counts.

    A negative ``weight``: it is not wanted. ``region``: only this part of the image. ``start_s`` and ``end_s``: only
    this part of the Clip's video.
    """

    text: str | None = None
    image: Path | None = None
    clip_id: int | None = None
    weight: float = 1.0
    region: Region | None = None
    start_s: float | None = None
    end_s: float | None = None


WITHIN_S = 30.0
"""How soon the next step of a sequence must begin, where nothing is said."""


@dataclass(frozen=True, slots=True)
class Then:
    """The next step of a sequence: what is to come, beginning at most ``within_s`` after the step before has ended."""

    terms: tuple[Term, ...]
    within_s: float = WITHIN_S


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: a text, an image file, a Clip already in the Library, or ``terms`` composed. Exactly one is set.

    ``region``: only this part of the image. ``then``: what must follow in the same video, step by step. ``after_clip``:
    only Media whose Clips have higher ids, that is, indexed since that Clip was the newest.
    """

    text: str | None = None
    image: Path | None = None
    clip_id: int | None = None
    filters: Filters = field(default_factory=Filters)
    terms: tuple[Term, ...] = ()
    then: tuple[Then, ...] = ()
    region: Region | None = None
    after_clip: int | None = None


class Only(StrEnum):
    """What a search looks at, when not at everything."""

    TEXT = "text"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class Reranking:
    """The best ``depth`` hits of a search are judged again by a second, stronger encoder.

    ``weights`` empty: those the library has used for it, else the library's, of an encoder of its kind. ``itm``: by its
    image-text matching head (experimental, texts only) instead of the cosine in its Space.
    """

    encoder: str
    weights: str = ""
    depth: int = 20
    itm: bool = False


# ---- what is found ----


@dataclass(frozen=True, slots=True)
class Copy:
    """What a Hit shows, in another file: the same Media under another path, or a near-duplicate in another Media that
    was folded into it, the same footage encoded anew, scaled or cropped."""

    path: Path
    media_id: MediaId
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one Modality found of a Hit. ``rank`` there, from 1; its ``score`` there (a cosine, or the share of the
    query's words); ``share`` of the fused score, those of a Hit sum to 1; ``text``: the words that were found."""

    modality: Modality
    rank: int
    score: float
    share: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a Hit is where it is.

    ``times_s`` and ``scores``: the curve, the score of every embedded frame of the Media at its presentation time.
    ``words``: what both the query and the Moment are about, strongest first. ``taken_off``: how much of the score went
    because the picture is near to any word. ``percentile``: the share of the library's Clips, of other Media, that
    score lower, in percent.
    """

    times_s: tuple[float, ...]
    scores: tuple[float, ...]
    words: tuple[str, ...]
    taken_off: float
    percentile: float | None


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a file is not among the k hits of a Query: ``reason`` says it in words.

    ``rank`` (from 1, one hit a file), ``score``, ``likely`` and ``moment`` of its best Moment where it could be found;
    ``last_score``: that of the k-th hit.
    """

    path: Path
    reason: str
    rank: int | None = None
    score: float | None = None
    likely: float | None = None
    moment: Moment | None = None
    last_score: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """What was found. ``[start_s, end_s)`` spans the merged Clips, ``moment`` the best part of it.

    ``score`` is the cosine similarity in the Space; it orders hits of one query and nothing else.
    ``clip_id`` is the best Clip of the span. A hit that was ranked again has the score of the re-ranker, and
    ``retrieval_score`` is the one it was found with. ``likely``, in [0, 1]: how likely its picture is what was asked
    for, by how its score stands out in this library; None where that cannot be told, or words hold all of the query.
    ``copies``: the other files it is in. ``steps``: the Moments of a sequence, one a step, in time order.
    ``contributions``: where words in the footage were found, too, what each Modality gave, the most first; ``score`` is
    then the fused one, in [0, 1].
    ``explanation``: only where it was asked for.
    """

    rank: int
    score: float
    path: Path
    media_id: MediaId
    kind: MediaKind
    clip_id: int
    start_s: float
    end_s: float
    moment: Moment
    retrieval_score: float | None = None
    likely: float | None = None
    copies: tuple[Copy, ...] = ()
    steps: tuple[Moment, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """The answer to one Query in one Space, best first. Behaves as a sequence of Hit.

    ``matched``: something stands out; without it the hits are only what comes nearest.
    ``reranker``: the Space of the encoder that ranked the best of them again.
    """

    query: Query
    space: Space
    hits: tuple[Hit, ...]
    matched: bool
    reranker: Space | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.hits)

    def __getitem__(self, index: int) -> Hit:
        return self.hits[index]


# ---- what is said, and shown for it ----


@dataclass(frozen=True, slots=True)
class Concept:
    """A word for something seen, and how strongly: ``weight`` in [0, 1]."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A found span shown to the chat model under ``label`` (1, 2, …), with what the encoder sees in it.

    ``words``: what is said and written in it, in order of time.
    """

    label: int
    hit: Hit
    start_s: float
    end_s: float
    sees: tuple[Concept, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A label an Answer cites, and the span of it that is meant.

    ``verified``: the span exists and supports the sentence; ``support`` in [0, 1]; ``reason``: why it is not verified.
    """

    label: int
    path: Path
    start_s: float
    end_s: float
    verified: bool
    support: float
    reason: str = ""


class Verdict(StrEnum):
    """What the check of a sentence said."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    UNCITED = "uncited"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a chat model's reply, shown or not. ``reason``: why it is not supported."""

    text: str
    labels: tuple[int, ...]
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, with checked citations.

    ``grounded``: something fits the question, at least one citation, and every one verified. ``composed``: put together
    plainly from the Evidence, with no language model. ``matched``: something fits the question clearly; without it the
    Answer says that the footage does not show it, and cites at most what comes nearest. ``sentences``: all that a chat
    model said, also what was withheld. ``searched``: the question as it was understood. ``error``: why the chat model's
    reply broke off, if it did; what it had said until then was checked as ever.
    """

    question: str
    text: str
    cited: tuple[Citation, ...]
    grounded: bool
    composed: bool
    chat: str
    matched: bool = True
    sentences: tuple[Sentence, ...] = ()
    searched: str = ""
    error: str = ""

    @property
    def verified(self) -> bool:
        """Whether every citation was checked and holds."""
        return all(citation.verified for citation in self.cited)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an Answer's text that was checked and may be shown. The pieces joined are the text."""

    text: str


class Aim(StrEnum):
    """What a chat model is asked for. All but an ANSWER say in the question itself how to reply."""

    ANSWER = "answer"
    VERDICT = "verdict"
    """Yes or no: does the clip show what was said?"""
    REWRITE = "rewrite"
    """The question so that it can be understood alone."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation. The one asked now has an empty ``answer``."""

    question: str
    answer: str
    aim: Aim = Aim.ANSWER


# ---- what indexing did ----


class Outcome(StrEnum):
    """What indexing did with a readable file."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    LINKED = "linked"
    """The content was known already under another path: moved, renamed or copied."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """A file that is in the Library now."""

    path: Path
    media: Media
    outcome: Outcome
    n_samples: int
    n_frames: int
    n_clips: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be read, and why, in words that say what to do."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A path that is no longer there, and so no longer found."""

    path: Path
    media_id: MediaId


@dataclass(frozen=True, slots=True)
class TextRead:
    """Words of a Media that are in the Library now. ``path``: the file they were read in, beside the Media or itself.

    ``warnings``: what of it could not be read.
    """

    path: Path
    media_id: MediaId
    source: Modality
    language: str
    n_lines: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextRemoved:
    """A file with words of a Media that is no longer there, and so no longer found."""

    path: Path
    media_id: MediaId
    source: Modality
