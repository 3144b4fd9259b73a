"""One .safetensors file: a header with names, dtypes, shapes and places, then the bytes of the tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ivsearch.errors import WeightsError
from ivsearch.models.layout import check_file
from ivsearch.models.weight_file import Entry, mapped_spans

# The format's names of dtypes. https://github.com/huggingface/safetensors#format
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class SafetensorsFile:
    """A WeightFile. Opening reads the header only, and raises WeightsError unless it fits the file's size."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        with _opened(path) as file:
            # In the order of the file, so that reading all of them reads forwards.
            self.entries = {name: self._entry(name, file.get_slice(name)) for name in file.offset_keys()}

    def tensors(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        wanted = set(names)
        for span in mapped_spans((name for name in self.entries if name in wanted), self.entries):
            with _opened(self.path) as file:
                for name in span:
                    yield name, file.get_tensor(name)

    def _entry(self, name: str, stored: Any) -> Entry:
        if stored.get_dtype() not in DTYPES:
            raise WeightsError(
                f"{self.path}: tensor {name!r} is stored as {stored.get_dtype()}, which ivsearch does not read; "
                f"it reads {', '.join(DTYPES)}"
            )
        return Entry(tuple(stored.get_shape()), DTYPES[stored.get_dtype()], self.path)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is cut short or damaged ({error}; it has {path.stat().st_size} bytes): download it again"
        ) from error
