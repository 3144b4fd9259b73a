"""Parity fixtures: tiny checkpoints in the official layout, and what the official code computes from them."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INTERNVL_14B = ("internvl14b_single", "internvl14b_sharded", "internvl14b_bin", "internvl14b_realtok")
CHATS = ("chat_internlm2", "chat_qwen2", "chat_llama")
IV25 = ("iv25_168", "iv25_448")
# Not an output: how sure the official code was of each token.
NOT_OUTPUTS = {"caption_greedy_margin"}


class Parity:
    """One fixture. ``check`` compares with the official array of a name, within the tolerance written beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
        self.expected: dict[str, NDArray[Any]] = dict(np.load(folder / "expected.npz"))
        self.checked: set[str] = set()

    @cached_property
    def texts(self) -> dict[str, Any]:
        texts: dict[str, Any] = json.loads((self.folder / "texts.json").read_text())
        return texts

    @cached_property
    def chats(self) -> list[dict[str, Any]]:
        """What the official ``chat()`` and ``batch_chat()`` were asked, and said."""
        chats: list[dict[str, Any]] = json.loads((self.folder / "chats.json").read_text())
        return chats

    def picture(self, name: str) -> Image.Image:
        return Image.open(self.folder / self.notes["images_dir"] / name)

    @property
    def paths(self) -> list[Path]:
        return [self.folder / name for name in self.notes["images"]]

    @cached_property
    def pictures(self) -> list[NDArray[np.uint8]]:
        return [np.asarray(Image.open(path).convert("RGB")) for path in self.paths]

    def check(self, name: str, value: Any) -> None:
        wanted = self.expected[name]
        found = np.asarray(value)
        assert found.shape == wanted.shape, f"{name}: {found.shape}, not {wanted.shape}"
        rule = next(rule for pattern, rule in self.notes["tolerances"].items() if fnmatch(name, pattern))
        if isinstance(rule, str):
            np.testing.assert_array_equal(found, wanted, err_msg=name)
        else:
            np.testing.assert_allclose(found, wanted, rule.get("rtol", 0), rule["atol"], err_msg=name)
        self.checked.add(name)

    def assert_all_checked(self) -> None:
        assert self.checked == set(self.expected) - NOT_OUTPUTS


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))
