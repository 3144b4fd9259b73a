"""A cache that is bounded, survives everything, and never gives what was not put."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.store.visual_tokens import VisualTokens, drop_damaged

LIMIT = 200_000


def media(number: int) -> str:
    return f"{number:032x}"


def seen(number: int, frames: int = 4) -> NDArray[np.float16]:
    return np.random.default_rng(number).standard_normal((frames, 16, 32)).astype(np.float16)


def times(number: int, frames: int = 4) -> list[float]:
    return [number + 0.1 * index for index in range(frames)]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def tokens(tmp_path: Path) -> VisualTokens:
    return VisualTokens(tmp_path / "visual_tokens", "model-a", LIMIT)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint16])
def test_what_was_put_comes_back(tokens: VisualTokens, dtype: type) -> None:
    features: NDArray[np.generic] = (1000 * seen(1)).astype(np.int32).astype(dtype)
    tokens.put(media(1), times(1), features)
    found = VisualTokens(tokens.folder, "model-a", LIMIT).get(media(1), tuple(times(1)))
    assert found is not None and found.dtype == dtype and found.flags.writeable
    np.testing.assert_array_equal(found, features)


def test_other_media_times_and_models_find_nothing(tokens: VisualTokens) -> None:
    tokens.put(media(1), times(1), seen(1))
    assert tokens.get(media(2), times(1)) is None
    assert tokens.get(media(1), times(1)[:3]) is None
    assert tokens.get(media(1), [*times(1)[:3], times(1)[3] + 1e-9]) is None
    assert VisualTokens(tokens.folder, "model-b", LIMIT).get(media(1), times(1)) is None
    # Models whose keys begin alike share a folder, not what is in it.
    one, other = ("0" * 16 + end for end in "12")
    VisualTokens(tokens.folder, one, LIMIT).put(media(1), times(1), seen(1))
    assert VisualTokens(tokens.folder, other, LIMIT).get(media(1), times(1)) is None


def test_other_numbers_are_refused(tokens: VisualTokens) -> None:
    with pytest.raises(TypeError, match=r"^features must be float16, float32, uint16, not float64$"):
        tokens.put(media(1), times(1), seen(1).astype(np.float64))


def test_what_was_asked_for_longest_ago_makes_room(tokens: VisualTokens) -> None:
    tokens.put(media(0), times(0), seen(0))
    room = LIMIT // size_of(tokens.folder)
    for number in range(1, room):
        tokens.put(media(number), times(number), seen(number))
        time.sleep(0.002)
    assert tokens.get(media(0), times(0)) is not None  # and so it is the latest
    tokens.put(media(99), times(99), seen(99))
    assert tokens.get(media(1), times(1)) is None
    there = [number for number in range(room) if tokens.get(media(number), times(number)) is not None]
    gone = room - len(there)
    assert there == [0, *range(1 + gone, room)] and 1 <= gone <= room // 8
    assert tokens.get(media(99), times(99)) is not None


@pytest.mark.parametrize("written", [None, "", "many", "0", "999999999"])
def test_whatever_is_written_down_of_the_size(tokens: VisualTokens, written: str | None) -> None:
    for number in range(10):
        tokens.put(media(number), times(number), seen(number))
    total = tokens.folder / "total"
    assert 0 <= int(total.read_text()) - size_of(tokens.folder) <= 64
    if written is None:
        total.unlink()
    else:
        total.write_text(written)
    tokens.put(media(10), times(10), seen(10))
    assert all(tokens.get(media(number), times(number)) is not None for number in range(11))
    if written != "0":
        assert 0 <= int(total.read_text()) - size_of(tokens.folder) <= 64


def test_a_random_load_stays_below_the_limit_and_is_never_wrong(tmp_path: Path) -> None:
    drawn = random.Random(7)
    models = [VisualTokens(tmp_path / "v", key, LIMIT) for key in ("a", "b")]
    found = 0
    for _ in range(400):
        model, number, frames = drawn.randrange(2), int(drawn.expovariate(0.1)), drawn.choice([1, 4, 16])
        kept = models[model].get(media(number), times(number, frames))
        if kept is None:
            models[model].put(media(number), times(number, frames), seen(1000 * model + number, frames))
        else:
            np.testing.assert_array_equal(kept, seen(1000 * model + number, frames))
            found += 1
        assert size_of(tmp_path / "v") <= LIMIT
    assert found > 50


def test_larger_than_the_limit_is_not_kept_and_displaces_nothing(tokens: VisualTokens) -> None:
    tokens.put(media(1), times(1), seen(1))
    tokens.put(media(2), times(2, 400), seen(2, 400))
    assert tokens.get(media(2), times(2, 400)) is None
    assert tokens.get(media(1), times(1)) is not None


WRITER = """
import sys
from pathlib import Path
from ivsearch.store.visual_tokens import VisualTokens
from tests.store.test_visual_tokens import LIMIT, media, seen, times
import random, numpy as np
folder, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
tokens, drawn, found = VisualTokens(folder, "model-a", LIMIT), random.Random(seed), 0
while rounds:
    print("round", flush=True)
    rounds -= 1
    number = drawn.randrange(30)
    kept = tokens.get(media(number), times(number))
    if kept is None:
        tokens.put(media(number), times(number), seen(number))
    else:
        assert (kept == seen(number)).all()
        found += 1
print(found)
"""


def writer(folder: Path, seed: int, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(seed), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_two_processes_at_once(tmp_path: Path) -> None:
    running = [writer(tmp_path / "v", seed, 300) for seed in (1, 2)]
    largest = 0
    while any(process.poll() is None for process in running):
        largest = max(largest, files_there(tmp_path / "v"))
    for process in running:
        said = process.communicate()[0].split()
        assert process.returncode == 0 and int(said[-1]) > 50
    assert 0 < max(largest, files_there(tmp_path / "v")) <= LIMIT
    assert not list((tmp_path / "v").rglob("*.tmp"))


def files_there(folder: Path) -> int:
    """Like size_of, while others remove and rename."""
    total = 0
    for path in folder.glob("*/??/*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            # Files may have moved between two looks: this one does not count.
            return 0
    return total


def test_killed_in_the_middle_of_a_put(tmp_path: Path) -> None:
    drawn = random.Random(3)
    for seed in range(8):
        process = writer(tmp_path / "v", seed, 100_000)
        assert process.stdout is not None
        for _ in range(drawn.randrange(5, 40)):
            assert process.stdout.readline() == "round\n"
        time.sleep(0.01 * drawn.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    tokens = VisualTokens(tmp_path / "v", "model-a", LIMIT)
    folder = tokens._path(media(50), times(50)).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "half.tmp").write_bytes(bytes(LIMIT))
    (tmp_path / "v" / "total").unlink()
    tokens.put(media(50), times(50), seen(50))
    assert not list((tmp_path / "v").rglob("*.tmp")) and size_of(tmp_path / "v") <= LIMIT
    found = 0
    for number in range(51):
        kept = tokens.get(media(number), times(number))
        if kept is not None:
            np.testing.assert_array_equal(kept, seen(number))
            found += 1
    assert found > 10


def test_flipped_bits_and_torn_files_are_thrown_away(tokens: VisualTokens) -> None:
    tokens.put(media(1), times(1), seen(1))
    (path,) = tokens.folder.rglob("*.tokens")
    whole = path.read_bytes()
    drawn = random.Random(5)
    damaged = [bytes(whole[:cut]) for cut in (0, 1, 15, 16, 40, len(whole) - 1)]
    for _ in range(200):
        at = drawn.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << drawn.randrange(8)]) + whole[at + 1 :])
    for blob in damaged:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
        assert tokens.get(media(1), times(1)) is None
        assert not path.exists()
    tokens.put(media(1), times(1), seen(1))
    assert tokens.get(media(1), times(1)) is not None


FORMS = {
    "nothing": "{}",
    "a list": "[]",
    "a number": "1",
    "no JSON": "{",
    "no dtype": '{"shape": [1]}',
    "another dtype": '{"dtype": "float64", "shape": [1]}',
    "a list of dtypes": '{"dtype": ["float16"], "shape": [1]}',
    "no shape": '{"dtype": "float16"}',
    "a shape of words": '{"dtype": "float16", "shape": ["a"]}',
    "a shape below 0": '{"dtype": "float16", "shape": [-1]}',
    "another shape": '{"dtype": "float16", "shape": [5, 1000000]}',
}


@pytest.mark.parametrize("what", FORMS)
def test_a_note_of_another_form_is_thrown_away_whatever_its_checksum(tokens: VisualTokens, what: str) -> None:
    header, payload = FORMS[what].encode(), bytes(4096)
    tokens.put(media(1), times(1), seen(1))
    (path,) = tokens.folder.rglob("*.tokens")
    body = struct.pack("<4sIQ", path.read_bytes()[:4], len(header), len(payload)) + header + payload
    blob = body + hashlib.blake2b(body, digest_size=16).digest()
    path.write_bytes(blob)
    assert tokens.get(media(1), times(1)) is None
    assert not path.exists()
    path.parent.mkdir(parents=True)
    path.write_bytes(blob)
    assert drop_damaged(tokens.folder) == 1
    assert not path.exists()


def test_drop_damaged(tokens: VisualTokens) -> None:
    for number in range(4):
        tokens.put(media(number), times(number), seen(number))
    path = tokens._path(media(2), times(2))
    path.write_bytes(path.read_bytes()[:-1])
    assert drop_damaged(tokens.folder) == 1 and drop_damaged(tokens.folder) == 0
    assert [number for number in range(4) if tokens.get(media(number), times(number)) is not None] == [0, 1, 3]


def test_a_full_disk(tokens: VisualTokens) -> None:
    tokens.put(media(1), times(1), seen(1))
    # No file may grow beyond this: the write fails half way, as on a full disk.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        tokens.put(media(2), times(2), seen(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert tokens.get(media(2), times(2)) is None and not list(tokens.folder.rglob("*.tmp"))
    assert tokens.get(media(1), times(1)) is not None


def test_a_library_that_cannot_be_written_to() -> None:
    with tempfile.TemporaryDirectory() as folder:  # and not pytest's, which only its owner may read
        Path(folder).chmod(0o755)
        tokens = VisualTokens(Path(folder) / "v", "model-a", LIMIT)
        tokens.put(media(1), times(1), seen(1))
        for path in (tokens.folder, *tokens.folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        pid = os.fork()
        if pid == 0:
            if os.getuid() == 0:
                os.setuid(65534)  # root may write anywhere, nobody may not
            tokens.put(media(2), times(2), seen(2))
            kept = tokens.get(media(1), times(1)) is not None
            os._exit(0 if kept and tokens.get(media(2), times(2)) is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for path in (tokens.folder, *tokens.folder.rglob("*")):
            path.chmod(0o755)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tokens = VisualTokens(tmp_path / "file" / "v", "model-a", LIMIT)
    tokens.put(media(1), times(1), seen(1))
    assert tokens.get(media(1), times(1)) is None
