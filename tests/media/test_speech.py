"""Without weights at hand: everything up to them. What a model hears is not tested here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ivsearch.errors import UsageError, WeightsError
from ivsearch.media.ocr import check_rapidocr
from ivsearch.media.speech import check_speech


def weights(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).write_bytes(b"{}")
    return str(folder)


def test_no_weights_named() -> None:
    with pytest.raises(
        UsageError, match=r"--speech needs weights: --speech-weights DIR.*transcripts beside the videos"
    ):
        check_speech("")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no model.bin and no config.json"),
        (["config.json"], r"no model\.bin\. Convert one with ct2-transformers-converter"),
    ],
)
def test_a_folder_without_a_model(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        check_speech(weights(tmp_path, *names))


def test_without_the_extras_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights(tmp_path, "model.bin", "config.json")
    for package in ("faster_whisper", "rapidocr"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"needs the package faster-whisper: pip install 'ivsearch\[speech\]'"):
        check_speech(folder)
    with pytest.raises(UsageError, match=r"needs the package rapidocr: pip install 'ivsearch\[ocr\]'"):
        check_rapidocr()


def test_a_rapidocr_without_its_models_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rapidocr").mkdir()
    (tmp_path / "rapidocr" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rapidocr", raising=False)
    with pytest.raises(UsageError, match=r"comes without PP-OCRv6_det_small\.onnx, and nothing is downloaded"):
        check_rapidocr()
