"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ivsearch.domain import Ingested
from ivsearch.encode import load_encoder
from ivsearch.encode.encoder import Encoder
from ivsearch.settings import Settings

if TYPE_CHECKING:
    import torch

    from ivsearch.library import Library

# What needs more packages than the models do is imported where it is used: the tests marked ``gpu`` also run on a
# machine that has torch and little else.
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
def cuda() -> torch.device:
    """A CUDA device; without one the test is skipped, or fails where IVSEARCH_REQUIRE names ``gpu``."""
    import torch

    if not torch.cuda.is_available():
        if "gpu" in REQUIRED:
            pytest.fail("torch finds no CUDA device, and IVSEARCH_REQUIRE says that there must be one")
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def shared_media(shared: Path) -> Path:
    """``shared/media``: ``dev`` (real media with ground truth) and ``odd`` (files that break decoders)."""
    return shared / "media"


@pytest.fixture(scope="session")
def sample_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos and videos that packages ship, and a compilation cut from them. Read only: copy before changing."""
    from demo.sample_media import make

    folder = tmp_path_factory.mktemp("media")
    make(folder)
    return folder


@pytest.fixture(scope="session")
def mini() -> Encoder:
    """The real encoder, loaded once."""
    return load_encoder("mini")


@pytest.fixture(scope="session")
def sample_library(sample_media: Path, mini: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """The sample media, indexed. Read only."""
    library = library_with(mini, tmp_path_factory.mktemp("library"))
    assert all(isinstance(event, Ingested) for event in library.index([sample_media]))
    yield library
    library.close()


def library_with(encoder: Encoder, folder: Path) -> Library:
    """A library that uses an encoder already loaded."""
    from ivsearch.library import open_library

    library = open_library(folder, settings=Settings())
    library.__dict__["encoder"] = encoder
    return library
