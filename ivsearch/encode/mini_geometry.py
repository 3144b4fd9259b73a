"""The fixed numbers of ``mini``'s space, computed once and shipped, so that every machine has the very same space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

GEOMETRY_FILE = files("ivsearch.encode").joinpath("data/mini.npz")


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Where names and texts lie. All float32; d = 255.

    ``class_vectors`` (1000, d): an ImageNet class, from its readable name and its gloss.
    ``colour_vectors`` (11, d): a basic colour term, less the mean of them all.
    ``content_free`` (1000,): the classifier's centred logits on empty pictures.
    ``use_mean`` (512,), ``use_map`` (512, d): from the Universal Sentence Encoder's space to ours.
    ``e5_mean`` (384,), ``e5_map`` (384, d): from multilingual-e5-small's space to ours.
    """

    class_vectors: NDArray[np.float32]
    colour_vectors: NDArray[np.float32]
    content_free: NDArray[np.float32]
    use_mean: NDArray[np.float32]
    use_map: NDArray[np.float32]
    e5_mean: NDArray[np.float32]
    e5_map: NDArray[np.float32]


@cache
def geometry() -> Geometry:
    """The shipped Geometry. ``benchmarks/mini_experiments.py geometry`` says how it is made."""
    with GEOMETRY_FILE.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Geometry(**{name: arrays[name].astype(np.float32) for name in Geometry.__slots__})
