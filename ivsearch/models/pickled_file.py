"""One .bin file as torch.save writes it: a pickle, read with ``weights_only`` so that it can hold no code."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ivsearch.errors import WeightsError
from ivsearch.models.layout import check_file
from ivsearch.models.weight_file import Entry, mapped_spans

ZIP_MARK = b"PK"


class PickledFile:
    """A WeightFile. Opening unpickles names and shapes; the tensors stay on disk, but for files of torch before 1.6."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        with path.open("rb") as file:
            self._mappable = file.read(len(ZIP_MARK)) == ZIP_MARK
        self.entries = {
            name: Entry(tuple(tensor.shape), tensor.dtype, path) for name, tensor in self._state_dict().items()
        }

    def tensors(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        wanted = set(names)
        ordered = [name for name in self.entries if name in wanted]
        for span in mapped_spans(ordered, self.entries) if self._mappable else [ordered]:
            state_dict = self._state_dict()
            for name in span:
                yield name, state_dict[name]

    def _state_dict(self) -> dict[str, Tensor]:
        try:
            state_dict = torch.load(self.path, weights_only=True, mmap=self._mappable, map_location="cpu")
        except pickle.UnpicklingError as error:
            # torch's own text advises to switch the protection off.
            raise WeightsError(
                f"{self.path} is refused: it is damaged, or holds Python objects that could run code. Download it "
                "again from its publisher, or get the .safetensors files of the model instead"
            ) from error
        except Exception as error:
            # A damaged pickle can fail in any way.
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise WeightsError(f"{self.path} is cut short or damaged ({reason}): download it again") from error
        if not isinstance(state_dict, dict):
            raise WeightsError(f"{self.path} should hold tensors by name, not one {type(state_dict).__name__}")
        for name, tensor in state_dict.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise WeightsError(
                    f"{self.path} should hold tensors by name, but {name!r} is a {type(tensor).__name__}: "
                    "name a folder with a model's weights, not with a training state"
                )
        return state_dict
