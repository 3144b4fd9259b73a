"""Which devices a model runs on: one, a copy on each of several, or its layers spread over several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ivsearch.errors import UsageError
from ivsearch.models.device import available_devices

# Left for activations on each device.
SPARE_BYTES = 4 << 30

Where = Callable[[str], torch.device]


def find_devices(name: str) -> tuple[torch.device, ...]:
    """``cpu``, ``cuda``, ``cuda:1``, ``mps``; several joined by commas; ``auto``: all GPUs, or the CPU without any.

    Raises UsageError for one that is not here, naming those that are.
    """
    here = available_devices()
    if name == "auto":
        gpus = tuple(torch.device(each) for each in here if each.startswith("cuda:"))
        return gpus or (torch.device("cpu"),)
    wanted = [each.strip() for each in name.split(",")]
    for each in wanted:
        if each not in here:
            raise UsageError(f"there is no device {each!r}; here are: {', '.join(here)}, and auto")
    return tuple(dict.fromkeys(torch.device("cuda:0" if each == "cuda" else each) for each in wanted))


@dataclass(frozen=True, slots=True)
class Spread:
    """``copies``: for each copy of the model, where each of its tensors goes."""

    copies: tuple[Where, ...]
    layered: bool


def plan(
    devices: Sequence[torch.device],
    sizes_bytes: Mapping[str, int],
    free_bytes: Sequence[int],
    unit: Callable[[str], str],
    copied: Callable[[str], bool] = lambda name: True,
) -> Spread:
    """A copy on each device when the ``copied`` tensors fit there, else one copy with its layers in turn on all.

    ``sizes_bytes`` are those of the tensors, in the order in which a forward pass comes to them; tensors of one
    ``unit`` (a layer, a head) stay together. One device gets everything, fit or not: it knows best what it can hold.
    Raises UsageError when all together are too small.
    """
    needed = sum(sizes_bytes.values())
    needed_each = sum(size for name, size in sizes_bytes.items() if copied(name))
    if len(devices) == 1 or all(needed_each + SPARE_BYTES <= free for free in free_bytes):
        return Spread(tuple(_always(device) for device in devices), layered=False)
    rooms = [max(0, free - SPARE_BYTES) for free in free_bytes]
    if needed > sum(rooms):
        raise UsageError(
            f"the model needs {needed / 2**30:.1f} GiB and {SPARE_BYTES / 2**30:.0f} GiB to work in on each device; "
            f"free are {', '.join(f'{free / 2**30:.1f}' for free in free_bytes)} GiB: take dtype bfloat16 or "
            "more devices"
        )
    return Spread((_by_layers(devices, sizes_bytes, rooms, unit),), layered=True)


def free_memory(devices: Sequence[torch.device]) -> list[int]:
    """Bytes that can still be taken on each device; on what is no CUDA device, as if without end."""
    return [torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 1 << 50 for device in devices]


def _always(device: torch.device) -> Where:
    return lambda name: device


def _by_layers(
    devices: Sequence[torch.device], sizes_bytes: Mapping[str, int], rooms: Sequence[int], unit: Callable[[str], str]
) -> Where:
    """Units in order, each device filled in proportion to its room."""
    units: dict[str, int] = {}
    for name, size in sizes_bytes.items():
        units[unit(name)] = units.get(unit(name), 0) + size
    share = sum(units.values()) / sum(rooms)
    edges = [share * sum(rooms[: index + 1]) for index in range(len(rooms))]
    places: dict[str, torch.device] = {}
    reached = 0
    for each, size in units.items():
        # By its middle: a unit goes where most of it lies.
        index = next((i for i, edge in enumerate(edges) if reached + size / 2 <= edge), len(devices) - 1)
        places[each] = devices[index]
        reached += size
    return lambda name: places[unit(name)]
