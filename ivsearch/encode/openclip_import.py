"""Importing open_clip where torchvision is not installed, or does not fit torch.

open_clip and timm name torchvision's transforms and datasets at import, for training; nothing that ivsearch calls uses
them. torchvision is compiled against one build of torch, and beside another it breaks transformers too. So, only while
open_clip is being imported, every name of torchvision is an ``Absent``, which says so when it is called.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from types import ModuleType

from ivsearch.errors import WeightsError

_importing = Lock()


class _AbsentType(type):
    """Absent names are classes, so that open_clip can derive from them, and their attributes are told apart as an
    enum's are."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _AbsentType(name, (Absent,), {})
        setattr(cls, name, found)
        return found


class Absent(metaclass=_AbsentType):
    """Stands where a torchvision class or function would."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        raise ImportError(f"{type(self).__name__} needs torchvision: install the one that fits your torch")


class _AbsentModule(ModuleType):
    def __getattr__(self, name: str) -> type:
        return getattr(Absent, name)


class _AbsentTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _torchvision_works() -> bool:
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):  # not there; made for another torch; a library missing
        _forget_torchvision()
        return False
    return True


@contextmanager
def _absent_torchvision() -> Iterator[None]:
    """Nothing is left behind: later on, torchvision is as missing as it was before."""
    finder = _AbsentTorchvision()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget_torchvision()


def import_open_clip() -> ModuleType:
    """The module open_clip. WeightsError says what to install when it, or something it needs, is not there."""
    with _importing:
        try:
            if "open_clip" in sys.modules or _torchvision_works():
                return importlib.import_module("open_clip")
            # Now, so that it finds torchvision as missing as it is, and remembers that.
            from transformers.utils.import_utils import is_torchvision_available

            is_torchvision_available()
            with _absent_torchvision():
                importlib.import_module("timm")  # without it open_clip is imported in part, and fails later
                return importlib.import_module("open_clip")
        except ImportError as error:
            raise WeightsError(
                f"encoder 'openclip' needs open_clip ({error}): pip install 'ivsearch[openclip]', or without "
                "torchvision, pip install --no-deps open-clip-torch timm and pip install ftfy regex"
            ) from error
