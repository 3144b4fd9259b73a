"""Pictures, videos and shots → what a chat model sees of them. What was looked at last is not looked at again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivsearch.ask.budget import Shot
from ivsearch.ask.chat import Look
from ivsearch.domain import Frame, MediaId
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.excerpt import frames_at
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.official_frames import official_frames
from ivsearch.models.features import Features
from ivsearch.models.loaded_chat import LoadedChat
from ivsearch.models.tiling import count, tiles
from ivsearch.pictures import Transparency

if TYPE_CHECKING:
    from ivsearch.store.visual_tokens import VisualTokens

log = logging.getLogger(__name__)

# Times are rounded; this keeps each on its own frame.
HAIR_S = 0.0005
# Files of which it is remembered what they hold, as long as they do not change.
MOST_FILES = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """``n_tiles`` of every picture; ``features`` of all their tiles in order, None when there are none. ``frames`` of a
    video, what each picture is."""

    n_tiles: tuple[int, ...]
    features: Features | None
    frames: tuple[Look, ...] = ()


NOTHING = Sight((), None)


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """What there is to look at: ``n_tiles`` of every picture are known before ``look`` does the work."""

    n_tiles: tuple[int, ...]
    look: Callable[[], Sight]


class Sights:
    """The eyes of one loaded chat model. For one thread at a time."""

    def __init__(self, loaded: LoadedChat, store: VisualTokens | None) -> None:
        self.loaded, self.config, self.store = loaded, loaded.config, store
        self._holds = lru_cache(MOST_FILES)(_holds)
        self._last: tuple[object, Sight] = ((), NOTHING)

    @property
    def group(self) -> int:
        """Frames that are looked at together: their number must be a multiple of it."""
        return self.config.hico.frames if self.config.hico else 1

    def of_images(self, images: Sequence[Image.Image], max_tiles: Sequence[int]) -> Glance:
        """Each picture cut into at most so many tiles. Raises UsageError for numbers that do not go together, and for
        what is no picture."""
        if len(images) % self.group:
            raise UsageError(
                f"this model looks at pictures in groups of {self.group}, and there are {len(images)}: "
                f"give a multiple of {self.group}, the last one repeated if need be"
            )
        asked = list(zip(images, max_tiles, strict=True))
        counts = tuple(self._count(image, most) for image, most in asked)

        def look() -> Sight:
            if not asked:
                return NOTHING
            stacked = np.ascontiguousarray(np.concatenate([self._tiles(image, most) for image, most in asked]))
            key = (counts, hashlib.blake2b(stacked.data).digest())
            return self._remembered(key) or self._keep(key, Sight(counts, self.loaded.look(stacked)))

        return Glance(counts, look)

    def of_video(self, path: Path, n_frames: int | None) -> Glance:
        """``n_frames`` of a video, as the official demo takes them, a tile each; None: as many as its length asks for.

        Raises UsageError for a number that is no multiple of ``group``, MediaError for a file that cannot be read.
        """
        if n_frames is not None and (n_frames < 1 or n_frames % self.group):
            fitting = max(round(n_frames / self.group), 1) * self.group
            raise UsageError(
                f"n_frames must be {'1 or more' if self.group == 1 else f'a multiple of {self.group}'}, "
                f"not {n_frames}: take {fitting}"
            )
        key = (_identity(path), n_frames)
        known = self._remembered(key)
        if known is not None:
            return Glance(known.n_tiles, lambda: known)
        frames = official_frames(path, n_frames)
        counts = (1,) * len(frames)
        looks: list[Look] = []

        def cut() -> Iterator[NDArray[np.uint8]]:
            for index, frame in zip(frames.indices, frames, strict=True):
                looks.append(Look(index, frame.pts_s))
                yield self._tiles(frame.pixels, 1)

        def look() -> Sight:
            seen = self._watched(cut())
            return self._keep(key, Sight(counts, seen, tuple(looks)))

        return Glance(counts, look)

    def of_shots(self, shots: Sequence[Shot], media: dict[int, MediaId]) -> dict[int, Features]:
        """Features of the frames of each shot, by its label. ``media``: label → Media, for the store; a file that does
        not hold that Media any more is looked at all the same, and nothing of it is kept.

        One whose file cannot be read is complained of and left out.
        """
        found: dict[int, Features] = {}
        for shot in shots:
            try:
                found[shot.label] = self._of_shot(shot, media[shot.label])
            except MediaError as error:
                log.warning("%s is not shown to the chat model: %s", shot.path, error)
        return found

    def _of_shot(self, shot: Shot, media_id: MediaId) -> Features:
        identity = _identity(shot.path)
        store = self.store if self.store and self._holds(identity, media_id) else None
        kept = store.get(media_id, shot.times_s) if store else None
        if kept is not None:
            return Features.of(kept, self.loaded.device, self.loaded.model.language_model.model.words.weight.dtype)
        frames = frames_at(shot.path, sorted(set(shot.times_s)), transparency=Transparency.DROPPED)
        features = self._watched(self._tiles(frame.pixels, 1) for frame in _shown(frames, shot.times_s))
        if store and _identity(shot.path) == identity:  # else it changed while it was looked at
            store.put(media_id, shot.times_s, features.to_numpy())
        return features

    def _watched(self, cut: Iterator[NDArray[np.uint8]]) -> Features:
        """Tiles, cut as they are asked for: hundreds of whole frames would take gigabytes."""
        return self.loaded.watch(map(np.concatenate, _batched(cut, self.loaded.at_once)))

    def _tiles(self, picture: NDArray[np.uint8] | Image.Image, most: int) -> NDArray[np.uint8]:
        return tiles(
            picture,
            image_size=self.config.image_size,
            min_tiles=min(self.config.min_tiles, most),
            max_tiles=most,
            use_thumbnail=self.config.use_thumbnail,
        )

    def _count(self, picture: Image.Image, most: int) -> int:
        return count(
            picture,
            image_size=self.config.image_size,
            min_tiles=min(self.config.min_tiles, most),
            max_tiles=most,
            use_thumbnail=self.config.use_thumbnail,
        )

    def _remembered(self, key: object) -> Sight | None:
        return self._last[1] if self._last[0] == key else None

    def _keep(self, key: object, sight: Sight) -> Sight:
        self._last = (key, sight)
        return sight


def _batched(tiles: Iterator[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    while part := list(islice(tiles, size)):
        yield part


@dataclass(frozen=True, slots=True)
class _Identity:
    """A file as it is now: it may be another one by the next question."""

    path: Path
    size_bytes: int
    mtime_ns: int


def _holds(file: _Identity, media_id: MediaId) -> bool:
    """Whether it still is the Media it was indexed as, by a fingerprint of either kind. Raises MediaError when it
    cannot be read."""
    return any(fingerprint(file.path, strict=strict) == media_id for strict in (False, True))


def _identity(path: Path) -> _Identity:
    try:
        state = path.stat()
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}") from error
    return _Identity(path.resolve(), state.st_size, state.st_mtime_ns)


def _shown(frames: Iterable[Frame], times_s: Sequence[float]) -> Iterator[Frame]:
    """The Frame shown at each time. A slow video shows one for several of them."""
    left = list(times_s[::-1])
    shown: Frame | None = None
    for frame in frames:
        while shown is not None and left and left[-1] + HAIR_S < frame.pts_s:
            left.pop()
            yield shown
        shown = frame
    if shown is not None:
        yield from [shown] * len(left)
