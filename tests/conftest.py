"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REQUIRED = set(filter(None, os.environ.get("IVSEARCH_REQUIRE", "").replace(",", " ").split()))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media and parity fixtures beside the checkout (``IVSEARCH_SHARED`` names another)."""
    path = Path(os.environ.get("IVSEARCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        message = f"{path} is not there: these tests need the shared media; set IVSEARCH_SHARED to its folder"
        if "shared" in REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def shared_media(shared: Path) -> Path:
    """``shared/media``: ``dev`` (real media with ground truth) and ``odd`` (files that break decoders)."""
    return shared / "media"
