"""``ivsearch spaces`` as typed; what it does is tested in ``tests/test_spaces.py``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ivsearch.commands import spaces as verb
from ivsearch.encode.encoder import Encoder
from ivsearch.store.reencoding_state import (
    ReencodingState,
    Stage,
    Unread,
    read_state,
    reencoding_lock,
    write_state,
)

from ..conftest import library_with
from .conftest import Run


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "parity" / "internvit_300m"


@pytest.fixture(scope="module")
def pictures(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("pet.jpg", "table.jpg"):
        shutil.copy(sample_media / name, folder)
    return folder


@pytest.fixture(scope="module")
def base(pictures: Path, mini: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with library_with(mini, tmp_path_factory.mktemp("base") / "library") as library:
        assert len(list(library.index(pictures))) == 2
    return library.folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """A library of two pictures, with mini."""
    return Path(shutil.copytree(base, tmp_path / "library"))


def test_from_one_encoder_to_another_and_back(run: Run, folder: Path, weights: Path) -> None:
    done = run("spaces", "--library", folder)
    assert done.code == 0 and done.out.startswith("* mini-") and "2 of 2 (100 %)" in done.out
    done = run("spaces", "add", "--encoder", f"internvit:{weights}", "--library", folder)
    assert done.code == 0, done.err
    # It knows no words: searches by words go on until somebody asks for it.
    assert done.out.startswith("2 media encoded into internvit-") and "it has no text side. switch to it" in done.out
    assert run("spaces", "use", "internvit", "--library", folder).code == 0
    done = run("spaces", "add", "--encoder", f"internvit:{weights}", "--library", folder)
    assert done.code == 0 and "is in use already, and complete: nothing to do" in done.out
    document = json.loads(run("spaces", "--json", "--library", folder).out)
    new, old = document["spaces"]
    assert (new["active"], new["previous"], old["active"], old["previous"]) == (True, False, False, True)
    assert new["name"] == f"internvit:{weights}" and new["percent"] == 100.0
    assert new["vector_bytes"] == sum(path.stat().st_size for path in (folder / "vectors" / new["key"]).iterdir())
    assert document["reencoding"]["stage"] == "done" and document["reencoding"]["running"] is False
    assert run("spaces", "back", "--library", folder).out == f"searches use {old['key']} again\n"
    done = run("spaces", "use", new["key"], "--library", folder)
    assert done.out == f"searches use {new['key']} now\n"
    done = run("spaces", "drop", "mini", "--library", folder)
    assert done.code == 2 and f"to drop {old['key']} takes --yes where nobody can be asked" in done.err
    assert run("spaces", "drop", "mini", "--yes", "--library", folder).out == f"dropped {old['key']}\n"
    assert run("verify", "--library", folder).out == "sound\n"
    assert run("spaces", "--library", folder, "back").code == 2


def test_whoever_is_asked_may_say_no(run: Run, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("spaces", "add", "--encoder", f"internvit:{weights}", "--no-switch", "--library", folder)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda question, err: False)
    done = run("spaces", "drop", "internvit", "--library", folder)
    assert (done.code, done.err) == (1, "nothing was dropped\n")
    assert len(json.loads(run("spaces", "--json", "--library", folder).out)["spaces"]) == 2


def test_files_that_cannot_be_read_are_named(run: Run, folder: Path, pictures: Path, weights: Path) -> None:
    away = (pictures / "pet.jpg").rename(pictures / "away")
    done = run("spaces", "add", "--encoder", f"internvit:{weights}", "--library", folder)
    assert done.code == 3
    assert "pet.jpg: is not there (moved, deleted, or its disk is not mounted)" in done.out
    assert "1 medium has no vectors in it, so searches stay with mini-" in done.out and "--anyway" in done.out
    done = run("spaces", "--library", folder)
    assert "1 of 2 (50 %), 1 not in it" in done.out and "not read: " in done.out
    document = json.loads(run("spaces", "add", "--encoder", f"internvit:{weights}", "--json", "--library", folder).out)
    assert (document["added"], document["active"], len(document["skipped"])) == (0, False, 1)
    away.rename(pictures / "pet.jpg")
    assert "it is complete" in run("spaces", "add", "--encoder", f"internvit:{weights}", "--library", folder).out


def test_a_lost_catalog_of_several_spaces(run: Run, folder: Path, pictures: Path, mini: Encoder, weights: Path) -> None:
    adding = ("spaces", "add", "--encoder", f"internvit:{weights}", "--no-switch", "--library", folder)
    assert run(*adding).code == 0
    segments = {path: path.read_bytes() for path in folder.glob("vectors/internvit-*/*.seg")}
    key = next(iter(segments)).parent.name
    for lost in range(2):
        for file in folder.glob("catalog.db*"):
            file.unlink()
        with library_with(mini, folder) as library:
            assert len(list(library.index(pictures))) == 2
        said = run("verify", "--library", folder).out
        assert f"`ivsearch {' '.join(map(str, adding[:4]))} --library {folder} --no-switch` fills it again" in said
        if lost:
            assert run("spaces", "drop", key, "--library", folder).code == 2
            assert run("spaces", "drop", key, "--yes", "--library", folder).out == f"dropped {key}\n"
            assert not (folder / "vectors" / key).exists()
        else:
            assert run(*adding).code == 0
            assert {path: path.read_bytes() for path in folder.glob("vectors/internvit-*/*.seg")} == segments
        assert run("verify", "--library", folder).out == "sound\n"


def test_what_makes_no_sense(run: Run, folder: Path) -> None:
    done = run("spaces", "add", "--library", folder)
    assert done.code == 2 and "say which encoder: --encoder NAME" in done.err
    assert run("spaces", "stop", "--library", folder).out == "no re-encoding is under way\n"
    done = run("spaces", "use", "nothing", "--library", folder)
    assert done.code == 2 and "this library has no space 'nothing'" in done.err


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine: a process begins, and ends, before it is given up."""
    monkeypatch.setattr(verb, "BEGIN_S", 300)
    monkeypatch.setattr(verb, "END_S", 300)


@pytest.mark.usefixtures("patient")
def test_in_the_background_stopped_and_gone_on_with(run: Run, folder: Path, weights: Path) -> None:
    add = ("spaces", "add", "--encoder", f"internvit:{weights}", "--background", "--library", folder)
    began = json.loads(run(*add, "--json").out)
    try:
        assert os.getsid(began["pid"]) == began["pid"], "it must outlive the terminal"
        # Stopped where it is, or done already.
        assert run("spaces", "stop", "--library", folder).code == 0
    finally:
        deadline = time.monotonic() + 300
        while (state := read_state(folder)) and state.is_running:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert state and state.pid == began["pid"] and state.stage in (Stage.STOPPED, Stage.DONE)
    assert run("spaces", "add", "--encoder", f"internvit:{weights}", "--library", folder).code == 0
    spaces = json.loads(run("spaces", "--json", "--library", folder).out)["spaces"]
    assert {space["name"]: space["percent"] for space in spaces} == {"mini": 100.0, f"internvit:{weights}": 100.0}
    assert Path(began["log"]).exists()


@pytest.mark.usefixtures("patient")
def test_a_background_process_that_cannot_begin_says_why(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("spaces", "add", "--encoder", "internvl-c", "--weights", "./none", "--background", "--library", folder)
    assert done.code == 1
    assert "it did not begin: " in done.err and "no such folder" in done.err and "reencoding.log" in done.err


HOLDER = """
import signal, sys, time
from pathlib import Path
from ivsearch.store.reencoding_state import ReencodingState, Stage, reencoding_lock, write_state
import os
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with reencoding_lock(Path(sys.argv[1])):
    write_state(Path(sys.argv[1]), ReencodingState(os.getpid(), "deaf", "deaf-1", Stage.ENCODING))
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_process_that_does_not_end(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "END_S", 0.3)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        done = run("spaces", "stop", "--library", folder)
        assert done.code == 1 and f"process {holder.pid} has not ended" in done.err
        assert f"kill -9 {holder.pid}" in done.err
        holder.send_signal(signal.SIGKILL)
    state = read_state(folder)
    assert state and state.stage is Stage.KILLED
    assert f"ended without a word (process {holder.pid}" in run("spaces", "--library", folder).out


def test_how_far_it_is(run: Run, folder: Path) -> None:
    unread = tuple(Unread(f"{i:032x}", f"/videos/{i}\n.mp4", "is damaged") for i in range(21))
    began = time.time()
    state = ReencodingState(
        os.getpid(),
        "siglip2:base",
        "siglip2-base-1",
        Stage.ENCODING,
        started_s=began - 100,
        updated_s=began - 3,
        media_done=30,
        media_total=90,
        frames_done=1000,
        frames_total=7000,
        frames_per_s=50.0,
        unread=unread,
    )
    with reencoding_lock(folder):
        write_state(folder, state)
        shown = run("spaces", "--library", folder).out
        assert "re-encoding to siglip2:base: under way, 30 of 90 media, 50.0 frames/s, about 2 min 0 s left" in shown
        told = re.search(rf"process {os.getpid()}, last heard of (\d+) s ago", shown)
        assert told and 3 <= int(told[1]) <= 4 + time.time() - began
        assert "not read: /videos/0\\n.mp4: is damaged" in shown and "and 1 more: " in shown
        document = json.loads(run("spaces", "--json", "--library", folder).out)["reencoding"]
        assert (document["running"], document["left_s"], len(document["unread"])) == (True, 120.0, 21)
    for stage, words in (
        (Stage.FAILED, "failed: no room; the same `ivsearch spaces add` goes on"),
        (Stage.STOPPED, "stopped; the same"),
        (Stage.DONE, "done, 30 of 90 media"),
    ):
        write_state(folder, ReencodingState(1, "x", stage=stage, error="no room", media_done=30, media_total=90))
        assert words in run("spaces", "--library", folder).out
