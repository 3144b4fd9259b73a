"""Clips shared by the tests of media."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.barcode import encode


@pytest.fixture(scope="session")
def plain_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of 30 pictures a second, H.264 in MP4, with B-pictures."""
    return encode(tmp_path_factory.mktemp("clips") / "plain.mp4", range(120), options={"preset": "fast", "bf": "2"})


@pytest.fixture(scope="session")
def big_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """110 pictures of 1280 × 720: 304 MB as pixels, far more than a worker may hold ready."""
    path = tmp_path_factory.mktemp("clips") / "big.avi"
    return encode(path, range(110), codec="mpeg4", size=(1280, 720), options={"g": "10"})
