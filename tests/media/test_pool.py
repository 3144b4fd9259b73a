from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivsearch.domain import Skipped
from ivsearch.errors import UsageError
from ivsearch.media import pool as pool_module
from ivsearch.media.pool import DecodePool, Event, Finished, Job, Kept, Opened
from tests.media.barcode import read

ROOT = Path(__file__).parents[2]


def job(path: Path) -> Job:
    return Job(path, f"{abs(hash(path)):032x}"[:32])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return not Path("/proc/self").exists()
        return False


def wait_until(condition: object, seconds: float = 60.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def is_idle(pid: int) -> bool:
    """Whether it waits and uses no processor, for a quarter of a second."""
    looks = set()
    for _ in range(6):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        looks.add((stat[0], *stat[11:13]))  # its state, and the ticks it ran
        time.sleep(0.05)
    return len(looks) == 1 and looks.pop()[0] == "S"


def first(events: Iterator[Event], kind: type[Kept]) -> Kept:
    return next(event for event in events if isinstance(event, kind))


def test_events_of_good_and_bad_files(tmp_path: Path, plain_clip: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\x00\x01\x02\x03" * 1000)
    Image.new("RGB", (64, 48), (9, 99, 199)).save(tmp_path / "photo.png")
    jobs = [job(plain_clip), job(tmp_path / "bad.mp4"), job(tmp_path / "photo.png"), job(tmp_path / "gone.mp4")]
    with DecodePool(workers=2) as pool:
        events = list(pool.run(jobs))
    skipped = {event.path.name: event.reason for event in events if isinstance(event, Skipped)}
    assert skipped.keys() == {"bad.mp4", "gone.mp4"}
    assert skipped["bad.mp4"].startswith("is not a video or image that can be read")
    assert skipped["gone.mp4"].startswith("file is gone: it was moved or deleted")

    video = [event for event in events if not isinstance(event, Skipped) and event.job == jobs[0]]
    assert [type(event) for event in video] == [Opened, Kept, Kept, Kept, Kept, Finished]
    kept = [event for event in video if isinstance(event, Kept)]
    assert [read(event.frame.pixels) for event in kept] == [0, 30, 60, 90]
    assert [event.frame.pts_s for event in kept] == pytest.approx([0, 1, 2, 3])
    assert [event.sample_index for event in kept] == [0, 1, 2, 3]
    assert kept[0].thumbnail[:2] == b"\xff\xd8"
    finished = video[-1]
    assert isinstance(finished, Finished)
    assert finished.media.media_id == jobs[0].media_id
    assert finished.media.duration_s == pytest.approx(4.0, abs=1e-3)
    assert finished.sample_pts_s == pytest.approx([0, 1, 2, 3])
    assert finished.kept.tolist() == [0, 1, 2, 3]
    assert (finished.sample_pts_s.dtype, finished.kept.dtype) == (np.float64, np.int32)
    assert finished.decode_s > 0

    (photo,) = [event for event in events if isinstance(event, Kept) and event.job == jobs[2]]
    assert photo.frame.pixels.shape == (48, 64, 3)
    assert photo.frame.pixels[0, 0].tolist() == [9, 99, 199]


def test_the_gate_drops_still_scenes_but_keeps_their_times(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (32, 32), (100, 100, 100)) for _ in range(4)] + [Image.new("RGB", (32, 32), "white")]
    path = tmp_path / "still.png"
    for number, picture in enumerate(pictures):
        picture.putpixel((number, 0), (101, 100, 100))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000)
    with DecodePool(workers=1) as pool:
        gated = [event for event in pool.run([job(path)]) if isinstance(event, Finished)]
    with DecodePool(workers=1, gate=False) as pool:
        whole = [event for event in pool.run([job(path)]) if isinstance(event, Finished)]
    assert gated[0].kept.tolist() == [0, 4]
    assert whole[0].kept.tolist() == [0, 1, 2, 3, 4]
    assert gated[0].sample_pts_s == pytest.approx([0, 1, 2, 3, 4])


def test_jobs_are_taken_as_workers_become_free(plain_clip: Path) -> None:
    taken = []

    def jobs() -> Iterator[Job]:
        for number in range(5):
            taken.append(number)
            yield job(plain_clip)

    with DecodePool(workers=1) as pool:
        events = pool.run(jobs())
        next(events)
        assert taken == [0]
        assert sum(isinstance(event, Finished) for event in events) == 5


def test_a_pool_can_run_again(plain_clip: Path) -> None:
    with DecodePool(workers=1) as pool:
        for _ in range(2):
            assert isinstance(list(pool.run([job(plain_clip)]))[-1], Finished)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_worker_that_dies_costs_one_file(big_clip: Path, plain_clip: Path, number: int, name: str) -> None:
    with DecodePool(fps=30, workers=1, gate=False) as pool:
        events = pool.run([job(big_clip), job(plain_clip)])
        first(events, Kept)
        os.kill(pool.pids[0], number)
        rest = list(events)
    (skipped,) = [event for event in rest if isinstance(event, Skipped)]
    assert skipped.path == big_clip
    assert skipped.reason.startswith(f"decoder process died (signal {int(number)}, {name}) on this file")
    assert [event.job.path for event in rest if isinstance(event, Finished)] == [plain_clip]


def test_a_worker_that_hangs_is_stopped(tmp_path: Path, plain_clip: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it waits for a writer that never comes
    with DecodePool(workers=1, stall_s=2.5) as pool:
        events = list(pool.run([job(tmp_path / "pipe.mp4"), job(plain_clip)]))
    assert isinstance(events[0], Skipped)
    assert events[0].reason.startswith("decoder gave nothing for 2.5 s and was stopped")
    assert isinstance(events[-1], Finished)


def test_a_worker_stopped_in_mid_message_is_found_out(big_clip: Path) -> None:
    with DecodePool(fps=30, workers=1, gate=False, stall_s=2.0) as pool:
        events = pool.run([job(big_clip)])
        first(events, Kept)
        os.kill(pool.pids[0], signal.SIGSTOP)
        last = list(events)[-1]
    assert isinstance(last, Skipped)
    assert "decoder gave nothing for 2 s" in last.reason


def test_a_slow_caller_is_not_held_against_the_worker(big_clip: Path) -> None:
    with DecodePool(fps=5, workers=1, gate=False, stall_s=2.0) as pool:
        events = pool.run([job(big_clip)])
        first(events, Kept)
        time.sleep(2.1)
        assert isinstance(list(events)[-1], Finished)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads memory from /proc")
def test_a_slow_caller_holds_the_worker_back(big_clip: Path) -> None:
    with DecodePool(fps=30, workers=1, gate=False) as pool:
        events = pool.run([job(big_clip)])
        first(events, Kept)
        assert wait_until(lambda: is_idle(pool.pids[0]), 120), "it goes on decoding"
        status = Path(f"/proc/{pool.pids[0]}/status").read_text()
        used_kb = int(status.split("VmRSS:")[1].split()[0])
        count = 1 + sum(isinstance(event, Kept) for event in events)
    assert count == 110
    assert used_kb < 240_000  # all pictures are 304 MB


def test_ctrl_c_does_not_reach_the_workers(big_clip: Path) -> None:
    with DecodePool(fps=5, workers=1, gate=False) as pool:
        events = pool.run([job(big_clip)])
        first(events, Kept)
        os.kill(pool.pids[0], signal.SIGINT)
        assert isinstance(list(events)[-1], Finished)


def test_leaving_early_ends_the_workers(big_clip: Path) -> None:
    with DecodePool(fps=30, workers=2, gate=False) as pool:
        events = pool.run([job(big_clip), job(big_clip)])
        first(events, Kept)
        pids = pool.pids
        # Nobody takes their pictures any more: whoever waited for the end of a file would wait for ever.
        events.close()  # type: ignore[attr-defined]
        assert not any(alive(pid) for pid in pids)


def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    code = (
        "import sys, threading, time; from pathlib import Path; from ivsearch.media.pool import DecodePool, Job\n"
        "pool = DecodePool(workers=1)\n"
        "threading.Thread(target=lambda: list(pool.run([Job(Path(sys.argv[1]), '0' * 32)])), daemon=True).start()\n"
        "while not any(worker.is_ready for worker in pool._workers): time.sleep(0.01)\n"
        "print(*pool.pids, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pipe.mp4")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        (pid,) = map(int, parent.stdout.readline().split())
        assert alive(pid)
        parent.kill()
    assert wait_until(lambda: not alive(pid))


def test_names_that_are_not_utf8(tmp_path: Path, plain_clip: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.mp4"))
    path.write_bytes(plain_clip.read_bytes())
    with DecodePool(workers=1) as pool:
        events = list(pool.run([job(path)]))
    assert isinstance(events[-1], Finished)
    assert events[-1].job.path == path


def test_the_limit_of_pixels(plain_clip: Path) -> None:
    with DecodePool(workers=1, max_pixels=10_000) as pool:
        (only,) = pool.run([job(plain_clip)])
    assert isinstance(only, Skipped)
    assert only.reason.endswith("more than the limit of 10,000")


def test_a_rate_that_makes_no_sense() -> None:
    with pytest.raises(UsageError, match="fps must be above 0 and at most 1000, not nan"):
        DecodePool(fps=float("nan"))


def test_workers_do_not_import_torch() -> None:
    code = "import sys, ivsearch.media.worker; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["queue.py", "numpy.py", "PIL.py", "av.py"])
def test_workers_run_nothing_from_the_current_folder(
    tmp_path: Path, plain_clip: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_text("open('executed', 'w').close()\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    with DecodePool(workers=1) as pool:
        assert isinstance(list(pool.run([job(plain_clip)]))[-1], Finished)
    assert not (tmp_path / "executed").exists()


def test_what_lies_beside_the_package_comes_after_the_standard_library(
    tmp_path: Path, plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ivsearch").symlink_to(ROOT / "ivsearch")
    (home / "queue.py").write_text("raise SystemExit(3)\n")
    (home / "numpy.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr("ivsearch.__file__", str(home / "ivsearch/__init__.py"))
    with DecodePool(workers=1) as pool:
        assert isinstance(list(pool.run([job(plain_clip)]))[-1], Finished)


def test_workers_import_the_ivsearch_of_the_pool(
    tmp_path: Path, plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ivsearch").mkdir()
    (tmp_path / "ivsearch/__init__.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with DecodePool(workers=1) as pool:
        assert isinstance(list(pool.run([job(plain_clip)]))[-1], Finished)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (8, 8), (64, 8)])
def test_one_worker_a_core_at_most_8(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    """Of the cores this process may use, which are fewer than the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    assert pool_module.default_workers() == workers


def test_without_affinity_the_machines_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert pool_module.default_workers() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert pool_module.default_workers() == 1


def test_a_pool_starts_no_more_processes_than_the_default(plain_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with DecodePool() as pool:
        events = pool.run([job(plain_clip)] * 3)
        next(events)
        assert len(pool.pids) == 1
