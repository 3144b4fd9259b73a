"""Which files of a folder hold a model's weights: the four layouts of the official repositories.

In this order, the first that is there: ``model.safetensors``; its shards named by ``model.safetensors.index.json``;
``pytorch_model.bin``; its shards named by ``pytorch_model.bin.index.json``. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ivsearch.errors import WeightsError

STEMS = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".bin")
LFS_MARK = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Layout:
    """The weight files of ``folder``. ``weight_map``, tensor → file name, is the index's; a single file has none."""

    folder: Path
    files: tuple[Path, ...]
    index: Path | None
    weight_map: Mapping[str, str] | None


def find_layout(folder: Path) -> Layout:
    """Finds the weight files of ``folder`` and looks that each is there, whole as far as one can tell unopened.

    Raises WeightsError for a folder without weights, a damaged index, a file that is missing, empty, or a Git-LFS
    pointer, and for an index that names a file outside the folder.
    """
    try:
        return _find_layout(folder)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be read ({error.strerror}): check its permissions and the disk") from error


def _find_layout(folder: Path) -> Layout:
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; name the folder that holds the model's config.json and weights")
    for stem in STEMS:
        single, index = folder / stem, folder / f"{stem}.index.json"
        if _named(single):
            check_file(single)
            return Layout(folder, (single,), None, None)
        if _named(index):
            weight_map = read_index(index)
            files = tuple(sorted({folder / name for name in weight_map.values()}))
            for file in files:
                check_file(file, named_by=index.name)
            return Layout(folder, files, index, weight_map)
    raise WeightsError(_no_weights(folder))


def check_file(path: Path, named_by: str = "") -> None:
    """Raises WeightsError where ``path`` cannot be what it should be, without reading more than its first bytes."""
    source = f" ({named_by} names it)" if named_by else ""
    if not path.exists():
        gone = "is a link to a file that is gone" if path.is_symlink() else "is missing"
        raise WeightsError(f"{path} {gone}{source}: download it again")
    if not path.is_file():
        raise WeightsError(f"{path} is not a file{source}: download it again")
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_MARK))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from error
    if not start:
        raise WeightsError(f"{path} is empty{source}: download it again")
    if start == LFS_MARK:
        raise WeightsError(f"{path} is only a Git-LFS pointer{source}: run `git lfs pull` in {path.parent}")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object. Raises WeightsError."""
    check_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error}): download it again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} should hold a JSON object, not {type(value).__name__}: download it again")
    return value


def read_index(index: Path) -> dict[str, str]:
    """The index's map from tensors to names of files in its folder. Raises WeightsError."""
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index} has no 'weight_map' from tensors to files: download it again")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not stays_inside(name):
            raise WeightsError(
                f"{index}: tensor {tensor!r} is said to be in {name!r}, which is no file of this folder; "
                "do not trust this checkpoint, download it again from its publisher"
            )
    return weight_map


def stays_inside(name: str) -> bool:
    """Whether ``name``, read from a file one need not trust, names a file of the folder it stands in."""
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & set(name)


def _named(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _no_weights(folder: Path) -> str:
    found = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    wanted = f"one of {STEMS[0]}, {STEMS[0]}.index.json, {STEMS[1]}, {STEMS[1]}.index.json"
    if found:
        return f"{folder} holds {found[0]} but not {wanted}: download the rest of the repository"
    return f"{folder} holds no weights: {wanted} must be there; download the repository or name another folder"
