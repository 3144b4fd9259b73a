"""What went wrong with a file, in words."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ivsearch.media.faults import explain

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["EIO", "ENXIO", "ENODEV", "ETIMEDOUT", "EHOSTDOWN", "ESTALE"])
def test_a_failing_disk_is_named(tmp_path: Path, name: str) -> None:
    number = getattr(errno, name)
    (tmp_path / "a.mp4").write_bytes(b"\x00\x01\x02\x03")
    words = explain(tmp_path / "a.mp4", OSError(number, os.strerror(number)))
    assert words == f"the disk or network share gives an error ({os.strerror(number)}); check it, then index again"


def test_disk_errors_go_by_name(tmp_path: Path) -> None:
    """Their numbers differ between systems: macOS has 60 for a time-out, which is another error on Linux."""
    (tmp_path / "a.mp4").write_bytes(b"\x00\x01\x02\x03")
    code = (
        "import errno, pathlib, sys; errno.ETIMEDOUT = 60\n"
        "from ivsearch.media.faults import explain; print(explain(pathlib.Path(sys.argv[1]), OSError(60, 'slow')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.mp4")]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.startswith("the disk or network share gives an error")


def test_another_error_is_not_put_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"some words\n" * 9)
    assert explain(tmp_path / "a.mp4", OSError(errno.EINVAL, "no")) == "is not a video or image: it holds text"
