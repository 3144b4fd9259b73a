"""Words in a picture, read by RapidOCR with the models that come in its package: Latin, Chinese and Japanese script.

The models are PP-OCRv6 small; nothing is ever downloaded. Their alphabet has no Arabic, Cyrillic, Hebrew, Korean, Thai
or Indic letters: words on screen in those scripts are not read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivsearch.errors import MediaError, UsageError

MIN_CONFIDENCE = 0.8
"""Words read with less are left out. The figures are in benchmarks/LOG.md."""
LONGEST_SIDE = 960
"""Pixels of the longest side in which words are looked for; they are then read in full size."""
DETECTOR = "PP-OCRv6_det_small.onnx"
RECOGNISER = "PP-OCRv6_rec_small.onnx"


@dataclass(frozen=True, slots=True)
class Words:
    """A row of words in a picture. ``confidence`` in [0, 1]."""

    text: str
    confidence: float


class ScreenReader(Protocol):
    """Reads words in pictures. ``reading`` names it with its version: other words may come from another one."""

    reading: str

    def read(self, pixels: NDArray[np.uint8]) -> list[Words]:
        """``pixels`` (height, width, 3) sRGB → rows from top to bottom. One thread at a time.

        Raises MediaError when there is no reading this picture."""
        ...


class RapidReader:
    """RapidOCR on one thread; make one for every thread. Raises UsageError when its package is not installed."""

    def __init__(self) -> None:
        models = check_rapidocr()
        from rapidocr import RapidOCR

        self.reading = f"rapidocr {version('rapidocr')}"
        self._engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,  # words upside down are rare, and looking for them costs a fifth
                "Global.text_score": MIN_CONFIDENCE,
                "Det.model_path": str(models / DETECTOR),
                "Det.limit_type": "max",
                "Det.limit_side_len": LONGEST_SIDE,
                "Rec.model_path": str(models / RECOGNISER),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(self, pixels: NDArray[np.uint8]) -> list[Words]:
        try:
            found = self._engine(np.ascontiguousarray(pixels[:, :, ::-1]))  # it wants blue first
        except MemoryError:
            raise
        except Exception as error:  # what its steps raise has no name in common: one picture, not the run
            why = f"{type(error).__name__} {error}".strip()
            raise MediaError(f"words on screen cannot be read in it: {why}") from error
        texts: Sequence[str] = getattr(found, "txts", None) or ()
        scores: Sequence[float] = getattr(found, "scores", None) or ()
        return [Words(text.strip(), float(score)) for text, score in zip(texts, scores, strict=True) if text.strip()]


def check_rapidocr() -> Path:
    """The folder of its models. Raises UsageError when it cannot be used, and says what to do."""
    for package in ("rapidocr", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"reading words on screen needs the package {package}: pip install 'ivsearch[ocr]'")
    spec = importlib.util.find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "models"
    for name in (DETECTOR, RECOGNISER):
        if not (folder / name).is_file():
            raise UsageError(
                f"this rapidocr comes without {name}, and nothing is downloaded: pip install 'rapidocr>=3.9,<4'"
            )
    return folder
