from __future__ import annotations

import re
from pathlib import Path

import pytest

from ivsearch.errors import MediaError
from ivsearch.media.fingerprint import fingerprint


def test_shape_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    (tmp_path / "c").write_bytes(b"two")
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert re.fullmatch("[0-9a-f]{32}", a)
    assert a == b != c


def test_small_files_are_read_whole(tmp_path: Path) -> None:
    content = bytearray(2 << 20)
    (tmp_path / "a").write_bytes(content)
    content[777_777] = 1
    (tmp_path / "b").write_bytes(content)
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


@pytest.mark.parametrize("where", [0, (8 << 20) - 1])
def test_large_files_ends_and_size_count(tmp_path: Path, where: int) -> None:
    content = bytearray(8 << 20)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "longer").write_bytes(content + b"\0")
    content[where] = 1
    (tmp_path / "b").write_bytes(content)
    assert len({fingerprint(tmp_path / name) for name in ("a", "longer", "b")}) == 3


def test_what_fast_misses_strict_sees(tmp_path: Path) -> None:
    content = bytearray(32 << 20)
    (tmp_path / "a").write_bytes(content)
    content[600_000] = 1
    (tmp_path / "b").write_bytes(content)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    assert fingerprint(tmp_path / "a", strict=True) != fingerprint(tmp_path / "b", strict=True)


def test_beyond_4_gib_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(5 << 30)
    assert len(fingerprint(tmp_path / "huge")) == 32


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="file is gone: it was moved or deleted"):
        fingerprint(tmp_path / "gone.mp4")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a directory, not a media file"):
        fingerprint(tmp_path)
