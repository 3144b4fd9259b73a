from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ivsearch.domain import Skipped
from ivsearch.media.scan import Found, scan


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(*roots: Path) -> list[Path]:
    return [item.path for item in scan(roots) if isinstance(item, Found)]


def skipped(*roots: Path) -> dict[Path, str]:
    return {item.path: item.reason for item in scan(roots) if isinstance(item, Skipped)}


def test_files_come_sorted_with_size_and_time(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/z.MKV", "a/b.jpg", "c.txt", "d.wav"):
        touch(tmp_path / name, b"12345")
    items = list(scan([tmp_path]))
    assert [item.path.relative_to(tmp_path).as_posix() for item in items] == ["a/b.jpg", "a/z.MKV", "b.mp4", "d.wav"]
    first = items[0]
    assert isinstance(first, Found)
    assert first.size_bytes == 5
    assert first.mtime_ns == (tmp_path / "a/b.jpg").stat().st_mtime_ns


def test_hidden_names_are_left_out_but_not_when_named(tmp_path: Path) -> None:
    touch(tmp_path / ".hidden/a.mp4")
    touch(tmp_path / "._b.mp4")
    touch(tmp_path / "b.mp4")
    assert found(tmp_path) == [tmp_path / "b.mp4"]
    assert found(tmp_path / ".hidden") == [tmp_path / ".hidden/a.mp4"]


def test_a_file_named_directly_needs_no_suffix(tmp_path: Path) -> None:
    path = touch(tmp_path / "recording.bin")
    assert found(tmp_path) == []
    assert found(path) == [path]


def test_each_file_comes_once(tmp_path: Path) -> None:
    path = touch(tmp_path / "in/a.mp4")
    assert found(tmp_path, tmp_path / "in", path, path) == [path]


def test_relative_roots_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert found(Path()) == [tmp_path / "a.mp4"]


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "far/a.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "far")
    (tmp_path / "far/loop").symlink_to(tmp_path / "root")
    assert found(tmp_path / "root") == [tmp_path / "root/link/a.mp4"]


@pytest.mark.parametrize("name", ["héllo 世界.mp4", "new\nline.mp4", "a b '%20#.mp4"])
def test_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    assert found(touch(tmp_path / name).parent) == [tmp_path / name]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    assert [os.fsencode(path) for path in found(tmp_path)] == [raw]


def test_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone.mp4")
    assert skipped(tmp_path)[tmp_path / "a.mp4"] == f"is a link to '{tmp_path / 'gone.mp4'}', which is not there"


def test_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "a.mp4")
    assert "is a link that cannot be followed" in skipped(tmp_path)[tmp_path / "a.mp4"]


def test_missing_root(tmp_path: Path) -> None:
    assert "no such file or folder" in skipped(tmp_path / "nowhere")[tmp_path / "nowhere"]


def test_folder_with_the_name_of_a_video(tmp_path: Path) -> None:
    inside = touch(tmp_path / "x.mp4/inner.mp4")
    assert skipped(tmp_path)[tmp_path / "x.mp4"].startswith("is a directory")
    assert found(tmp_path) == [inside]


def test_pipes_and_sockets(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        reasons = skipped(tmp_path)
    assert reasons[tmp_path / "pipe.mp4"].startswith("is a named pipe, not a file")
    assert reasons[tmp_path / "socket.mp4"].startswith("is a socket, not a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4").chmod(0)
    (tmp_path / "locked").mkdir(mode=0)
    reasons = skipped(tmp_path)
    assert reasons[tmp_path / "a.mp4"].startswith("no permission to read it")
    assert reasons[tmp_path / "locked"].startswith("folder cannot be listed")


def test_scan_loads_nothing_heavy() -> None:
    code = "import sys, ivsearch.media.scan, ivsearch.media.events; print('av' in sys.modules, 'torch' in sys.modules)"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
