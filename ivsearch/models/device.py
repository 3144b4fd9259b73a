"""What torch can run on here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """``gpus``: name and memory of each GPU torch can use. ``build``: torch's version with its build tag."""

    build: str
    threads: int
    gpus: tuple[str, ...]


def available_devices() -> list[str]:
    """Names of the devices torch can compute on here."""
    import torch

    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else [])]


def device_report() -> DeviceReport:
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        gpus.append("Apple GPU (mps)")
    return DeviceReport(torch.__version__, torch.get_num_threads(), tuple(gpus))
