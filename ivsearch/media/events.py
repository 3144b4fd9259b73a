"""What goes in and out of the DecodePool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Frame, Media, MediaId, Skipped
from ivsearch.pictures import Transparency


@dataclass(frozen=True, slots=True)
class Reading:
    """How every file is read: samples a second of video, whether the gate is used, the largest picture, alpha."""

    fps: float
    gate: bool
    max_pixels: int
    transparency: Transparency


@dataclass(frozen=True, slots=True)
class Job:
    """A file to decode."""

    path: Path
    media_id: MediaId


@dataclass(frozen=True, slots=True)
class Opened:
    """The file could be opened and its first picture decoded; ``media.duration_s`` is the header's."""

    job: Job
    media: Media


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A Frame that passed the gate. ``thumbnail`` is a JPEG."""

    job: Job
    frame: Frame
    sample_index: int
    thumbnail: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The file is done. ``media`` has the true duration and the warnings.

    ``sample_pts_s`` (m,): presentation time of every sample. ``kept`` (n,): the samples that came as Kept.
    ``decode_s`` and ``gate_s``: CPU seconds of reading and decoding, and of the gate and thumbnails.
    """

    job: Job
    media: Media
    sample_pts_s: NDArray[np.float64]
    kept: NDArray[np.int32]
    decode_s: float
    gate_s: float


Event = Opened | Kept | Finished | Skipped
