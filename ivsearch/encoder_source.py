"""How the encoder of a library is loaded: what was typed, else what the library remembers."""

from __future__ import annotations

import os
from pathlib import Path

from ivsearch.encode.encoder import Encoder
from ivsearch.errors import WeightsError
from ivsearch.settings import DEFAULT_ENCODER, Settings
from ivsearch.store.manifest import EncoderSource, Manifest


def source_of(settings: Settings, manifest: Manifest) -> EncoderSource:
    """As the settings say, and where they say nothing, as it was the last time."""
    name = absolute_name(settings.encoder) or _active_name(manifest) or DEFAULT_ENCODER
    before = manifest.source_of(name) or EncoderSource(name)
    return EncoderSource(
        name,
        absolute_folder(settings.weights) if settings.weights else before.weights,
        settings.preprocess or before.preprocess,
    )


def load(source: EncoderSource, settings: Settings) -> Encoder:
    """Raises WeightsError when they cannot be had, UsageError when the name makes no sense."""
    from ivsearch.encode import load_encoder

    return load_encoder(
        source.name,
        weights=source.weights or None,
        device=settings.device,
        dtype=settings.dtype,
        preprocess=source.preprocess or None,
        attention=settings.attention,
    )


def check_source(source: EncoderSource, settings: Settings) -> None:
    """Raises WeightsError when a folder or file that the library remembers is not there any more."""
    if not settings.weights:
        check_remembered(source.weights, "--weights DIR")
    if not settings.encoder and not source.weights:
        path = _path_in(source.name)
        check_remembered(path, f"--encoder {source.name.removesuffix(path)}PATH")


def check_remembered(path: str, advice: str) -> None:
    """Raises WeightsError when the folder or file that the library remembers is not there any more."""
    if Path(path).is_absolute() and not Path(path).exists():
        raise WeightsError(
            f"the weights this library was made with were in {path}, which is not there any more: "
            f"say where they are now ({advice})"
        )


def absolute_folder(weights: str) -> str:
    """A folder so that it is found from anywhere; a hub id as it is."""
    path = Path(weights).expanduser()
    return os.path.abspath(path) if path.exists() else weights


def absolute_name(name: str) -> str:
    """An encoder's name, found from anywhere: its variant made absolute where that is a folder, or for open_clip a
    model and the file of its weights."""
    stem, _, variant = name.partition(":")
    model, _, file = variant.partition("/")
    if variant and Path(variant).expanduser().is_dir():
        return f"{stem}:{absolute_folder(variant)}"
    if stem == "openclip" and Path(file).expanduser().is_file():
        return f"{stem}:{model}/{absolute_folder(file)}"
    return name


def _active_name(manifest: Manifest) -> str:
    """The encoder of the active Space as it was typed; in older libraries, as it calls itself."""
    if manifest.active is None:
        return ""
    source = manifest.encoders.get(manifest.active.key)
    return source.name if source else manifest.active.encoder


def _path_in(name: str) -> str:
    """The folder or file at the end of a name that ``absolute_name`` gave; empty when there is none."""
    variant = name.partition(":")[2]
    candidates = (variant, variant.partition("/")[2])
    return next((each for each in candidates if Path(each).is_absolute()), "")
