"""The weights of one model on disk, read strictly and one tensor at a time, and the config that goes with them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ivsearch.errors import WeightsError
from ivsearch.models.layout import find_layout, read_object
from ivsearch.models.pickled_file import PickledFile
from ivsearch.models.safetensors_file import SafetensorsFile
from ivsearch.models.weight_file import Entry, WeightFile

log = logging.getLogger(__name__)

SHOWN = 3
WHOLE_BYTES = 1 << 16
SAMPLES = 4
SAMPLE_BYTES = 1 << 12


def open_checkpoint(folder: Path) -> Checkpoint:
    """Opens the checkpoint in ``folder`` without reading a tensor.

    With an index, the tensors it lists are the checkpoint: others in its shards are ignored, as transformers does.
    Raises WeightsError for a missing or damaged ``config.json``, index or file, and for an index that lists a tensor
    its file lacks.
    """
    layout = find_layout(folder)
    config = read_object(folder / "config.json")
    files = [_open_file(path) for path in layout.files]
    held: dict[str, Entry] = {}
    for file in files:
        names = set(file.entries)
        if layout.weight_map is not None:
            listed = {name for name, where in layout.weight_map.items() if folder / where == file.path}
            if lacking := sorted(listed - names):
                raise WeightsError(
                    f"{file.path} lacks {_some(lacking)}, which {layout.index and layout.index.name} says it holds: "
                    "file and index are of two downloads; download both again"
                )
            if ignored := sorted(names - listed):
                log.debug("%s: ignoring %s, not in the index", file.path, _some(ignored))
            names = listed
        held |= {name: entry for name, entry in file.entries.items() if name in names}
    return Checkpoint(folder, config, held, files)


def _open_file(path: Path) -> WeightFile:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else PickledFile(path)


class Checkpoint:
    """``config`` is config.json as it stands; ``entries``, every tensor by name; ``open_checkpoint`` makes one."""

    def __init__(
        self, folder: Path, config: dict[str, Any], entries: Mapping[str, Entry], files: Sequence[WeightFile]
    ) -> None:
        self.folder = folder
        self.config = config
        self.entries = entries
        self._files = files

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the tensors."""
        return tuple(file.path for file in self._files)

    def expect(self, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
        """Raises WeightsError unless the checkpoint holds exactly these tensors in these shapes.

        ``what`` names the architecture, for the message.
        """
        complaints = self._unlike(shapes)
        if unexpected := [name for name in self.entries if name not in shapes]:
            complaints.append(f"unexpected {_some(unexpected)}")
        if complaints:
            raise WeightsError(
                f"{self.folder} does not hold the weights of {what}: {'; '.join(complaints)}. Name the folder of the "
                "model you asked for, or download it again"
            )

    def without(self, prefixes: tuple[str, ...]) -> Checkpoint:
        """The same files, but for the tensors whose names begin like that."""
        kept = {name: entry for name, entry in self.entries.items() if not name.startswith(prefixes)}
        return Checkpoint(self.folder, self.config, kept, self._files)

    def read(self, name: str) -> Tensor:
        """One tensor, a copy in memory, on the CPU, in the dtype it is stored in. Raises WeightsError if absent."""
        if name not in self.entries:
            raise WeightsError(f"{self.folder} holds no tensor {name!r}: name the folder of the model you asked for")
        return next(self._tensors([name]))[1].clone()

    def fill(
        self,
        module: nn.Module,
        prefix: str = "",
        *,
        device: torch.device | str | Callable[[str], torch.device],
        dtype: torch.dtype | None,
        only: Callable[[str], bool] = lambda name: True,
    ) -> None:
        """Replaces every parameter and persistent buffer n of ``module`` by the tensor ``prefix + n``.

        ``only`` picks among the n, to read a part of a model now and the rest when it is needed.
        ``module`` is best built on the meta device: nothing of its own values is kept. Tensors are read one at a time,
        moved to ``device`` (or to what it answers for n, to spread a model over several), cast to ``dtype`` if they
        are floating (None keeps what is stored), and need no gradient. Nothing refers to the file afterwards.
        Buffers that are not persistent, and parameters tied to one another, are the caller's to set.

        Raises WeightsError for a missing or misshaped tensor, and for NaN or infinity in one.
        """
        slots = {name: slot for name, slot in module.state_dict(keep_vars=True).items() if only(name)}
        if complaints := self._unlike({prefix + name: tuple(slot.shape) for name, slot in slots.items()}):
            raise WeightsError(
                f"{self.folder} does not fit {type(module).__name__}: {'; '.join(complaints)}. Name the folder of the "
                "model you asked for, or download it again"
            )
        for name, stored in self._tensors([prefix + name for name in slots]):
            slot = name.removeprefix(prefix)
            if stored.is_floating_point() is not slots[slot].is_floating_point():
                raise WeightsError(
                    f"{self.entries[name].file}: tensor {name!r} is stored as {stored.dtype}, where the network has "
                    f"{slots[slot].dtype}: the file is damaged or of another model, download it again"
                )
            place = torch.device(device) if isinstance(device, (torch.device, str)) else device(slot)
            loaded = _moved(stored, place, dtype if stored.is_floating_point() else None)
            if not _is_finite(loaded):
                raise WeightsError(self._not_finite(name, stored, loaded.dtype))
            _put(module, slot, loaded)

    def digest(self) -> str:
        """Hexadecimal sha256 of what the checkpoint holds, the same in whichever of the layouts it is stored.

        Covers every name, shape and dtype, all bytes of tensors up to 64 KiB (norms, biases, scales), and of larger
        ones four stretches of 4 KiB from the first to the last byte, so that 28 GB take about a second. It tells
        models and fine-tunings apart, for those change tensors throughout. It cannot notice a few bytes flipped
        between the stretches: ``ivsearch models verify`` reads everything.
        """
        digest = hashlib.sha256()
        samples = {name: _sample(tensor) for name, tensor in self._tensors(self.entries)}
        for name in sorted(self.entries):
            entry = self.entries[name]
            digest.update(f"{name}\0{entry.dtype}\0{entry.shape}\0".encode())
            digest.update(samples[name])
        return digest.hexdigest()

    def _tensors(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Still mapped, in the order of the files."""
        wanted = set(names)
        for file in self._files:
            yield from file.tensors(name for name in wanted if self.entries[name].file == file.path)

    def _unlike(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        complaints = []
        if missing := [name for name in shapes if name not in self.entries]:
            complaints.append(f"missing {_some(missing)}")
        misshaped = [
            f"{name} is {list(self.entries[name].shape)} and should be {list(shape)}"
            for name, shape in shapes.items()
            if name in self.entries and self.entries[name].shape != tuple(shape)
        ]
        if misshaped:
            complaints.append(f"misshaped {_some(misshaped)}")
        return complaints

    def _not_finite(self, name: str, stored: Tensor, dtype: torch.dtype) -> str:
        where = f"{self.entries[name].file}: tensor {name!r}"
        if _is_finite(stored):
            return f"{where} has values too large for {dtype}: load it as float32 or bfloat16"
        return f"{where} contains NaN or infinity: the file is damaged, download it again"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _moved(stored: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    if device.type == "cpu":
        # One pass, and always a copy: ``stored`` is a view of the mapped file.
        return stored.to(dtype=dtype or stored.dtype, copy=True, memory_format=torch.contiguous_format)
    # Moved as it is stored, cast where it arrives. Never non_blocking: the source is not pinned and is unmapped soon.
    return stored.to(device).to(dtype=dtype or stored.dtype, memory_format=torch.contiguous_format)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.itemsize == 1:
        tensor = tensor.to(torch.float16)
    # NaN spoils both ends, and there is no mask as large as the tensor.
    least, most = torch.aminmax(tensor)
    return bool(torch.isfinite(least) & torch.isfinite(most))


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    is_parameter = leaf in dict(owner.named_parameters(recurse=False))
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)


def _sample(tensor: Tensor) -> bytes:
    stored = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if len(stored) <= WHOLE_BYTES:
        return stored.numpy().tobytes()
    last = len(stored) - SAMPLE_BYTES
    starts = [last * i // (SAMPLES - 1) for i in range(SAMPLES)]
    return b"".join(stored[start : start + SAMPLE_BYTES].numpy().tobytes() for start in starts)
