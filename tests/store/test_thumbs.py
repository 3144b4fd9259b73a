from __future__ import annotations

import subprocess
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from ivsearch.store import thumbs as module
from ivsearch.store.thumbs import Thumbs


@pytest.fixture
def thumbs(tmp_path: Path) -> Thumbs:
    """One to five of each of 600 Media, of some 2,000 bytes."""
    rng = np.random.default_rng(3)
    thumbs = Thumbs(tmp_path / "thumbs")
    for number in range(600):
        media_id = blake2b(str(number).encode(), digest_size=16).hexdigest()
        for start_s in range(rng.integers(1, 6)):
            thumbs.save(media_id, float(start_s), rng.bytes(int(rng.normal(2000, 300))))
    return thumbs


def bytes_found(folder: Path) -> int:
    sizes = subprocess.run(
        ["find", folder, "-type", "f", "-printf", "%s\n"], check=True, capture_output=True, text=True
    )
    return sum(map(int, sizes.stdout.split()))


def test_the_room_of_few_is_measured(thumbs: Thumbs) -> None:
    assert thumbs.size_bytes(600) == bytes_found(thumbs.folder)


def test_the_room_of_many_is_estimated(thumbs: Thumbs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEASURED_MEDIA", 150)
    looked_at: list[Path] = []
    monkeypatch.setattr(module, "bytes_below", lambda folder: looked_at.append(folder) or bytes_found(folder))
    assert thumbs.size_bytes(600) == pytest.approx(bytes_found(thumbs.folder), rel=0.25)
    assert 0 < len(looked_at) < 70


def test_no_thumbnails_take_no_room(tmp_path: Path) -> None:
    assert Thumbs(tmp_path / "none").size_bytes(10**6) == 0
