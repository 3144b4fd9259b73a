"""What ``ivsearch doctor`` finds out about this machine and this library, and what to do about each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ivsearch import __version__
from ivsearch.ask.endpoint import Endpoint, Patience, key_at_hand, read_url
from ivsearch.encode import describe_encoders, load_encoder
from ivsearch.errors import IvsearchError
from ivsearch.library import open_library
from ivsearch.media.codecs import decodable
from ivsearch.models.device import device_report
from ivsearch.settings import Settings, library_folder

PACKAGES = ("torch", "av", "faiss-cpu", "numpy", "pillow", "sqlalchemy", "alembic", "click", "rich")
# What cameras, phones and the web record in.
WANTED_CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "prores", "mjpeg")
LOW_SPACE_BYTES = 2 << 30


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``advice`` says what to do, empty when nothing has to be done."""

    name: str
    state: State
    detail: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    yield Check("ivsearch", State.OK, f"{__version__}, Python {platform.python_version()} on {platform.platform()}")
    yield from _packages()
    yield from _machine()
    yield _codecs()
    yield from _encoders(settings)
    yield from _model_server(settings)
    yield from _library(settings)


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield Check(name, State.OK, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, State.FAIL, "not installed", f"{sys.executable} -m pip install {name}")


def _machine() -> Iterator[Check]:
    report = device_report()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("processor", State.OK, f"{cores} cores, torch uses {report.threads} threads")
    if report.gpus:
        yield Check("GPU", State.OK, ", ".join(report.gpus), "use it with --device cuda")
    else:
        yield Check("GPU", State.OK, f"none that this torch ({report.build}) can use; the encoder mini needs none")


def _codecs() -> Check:
    have = decodable(WANTED_CODECS)
    missing = [name for name in WANTED_CODECS if name not in have]
    if missing:
        return Check(
            "codecs", State.WARN, f"cannot decode {', '.join(missing)}", "reinstall av from a wheel: pip install -U av"
        )
    return Check("codecs", State.OK, f"can decode {', '.join(have)}")


def _encoders(settings: Settings) -> Iterator[Check]:
    for row in describe_encoders():
        name = f"encoder {row.usage}"
        if row.needs_weights or row.takes_variant:
            yield Check(name, State.OK, "needs weights of its own: --weights DIR")
            continue
        try:
            space = load_encoder(row.name, device=settings.device).space
        except IvsearchError as error:
            yield Check(name, State.FAIL, str(error), "install what is named")
        else:
            yield Check(name, State.OK, f"weights at hand, {space.dim} dimensions, revision {space.revision[:12]}")


def _model_server(settings: Settings) -> Iterator[Check]:
    """Whether it answers, and has the model; nothing when none is set."""
    if not settings.chat_endpoint:
        return
    try:
        endpoint = Endpoint(read_url(settings.chat_endpoint), key_at_hand(), Patience(silence_s=5.0, retries=1))
        models = endpoint.models()
    except IvsearchError as error:
        yield Check("model server", State.WARN, str(error), "start it, or name another with --endpoint")
        return
    wanted = settings.chat.removeprefix("openai:")
    detail = f"{endpoint.url} has {endpoint.listed(models) if models else 'no model'}"
    # Ollama takes a name without a tag for its latest.
    if settings.chat.startswith("openai:") and not {wanted, f"{wanted}:latest"} & {*models}:
        yield Check(
            "model server", State.WARN, f"{detail}, but not {wanted}", "name one it has with --chat openai:MODEL"
        )
    else:
        yield Check("model server", State.OK, detail)


def _library(settings: Settings) -> Iterator[Check]:
    folder = library_folder(settings)
    free = shutil.disk_usage(_existing(folder)).free
    state = State.OK if free > LOW_SPACE_BYTES else State.WARN
    yield Check("disk", state, f"{free / 1e9:.1f} GB free for {folder}", "" if state is State.OK else "make room")
    try:
        with open_library(folder, create=False, settings=settings) as lib:
            problems = list(lib.verify())
            stats = lib.stats()
    except IvsearchError as error:
        yield Check("library", State.WARN, str(error))
        return
    if problems:
        yield Check("library", State.FAIL, f"{len(problems)} problems: {problems[0]}", "ivsearch repair")
    else:
        yield Check("library", State.OK, f"{folder}: {stats.totals.media} media, {stats.totals.clips} clips, sound")
    if stats.totals.skipped:
        yield Check("skipped", State.WARN, f"{stats.totals.skipped} files could not be read", "ivsearch stats")


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
