"""``ivsearch models`` against sha256sum, git and folders broken on purpose."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import Run


@pytest.fixture
def weights(shared: Path, tmp_path: Path) -> Path:
    """A copy of a sharded fixture, to be broken."""
    folder = tmp_path / "weights"
    shutil.copytree(shared / "parity" / "internvl14b_sharded", folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


SHARD = "model-00002-of-00003.safetensors"


def flip(path: Path) -> None:
    """One bit near the end, where only a digest can notice."""
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def sha256sum(folder: Path, *names: str) -> str:
    return subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_list_has_encoders_and_chats(run: Run) -> None:
    assert "encoders (--encoder)\n  mini " in run("models").out
    assert set(json.loads(run("models", "--json").out)) == {"encoders", "chats"}


@pytest.mark.parametrize("verb", [(), ("verify",), ("pull",)])
def test_help_shows_examples(verb: tuple[str, ...], run: Run) -> None:
    assert "ivsearch models" in run("models", *verb, "--help").out.split("Examples:")[1]


def test_listing_models_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ivsearch', 'models']\n"
        "from ivsearch.commands.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_without_anything_to_compare_the_digests_are_those_of_sha256sum(weights: Path, run: Run) -> None:
    done = run("models", "verify", weights)
    assert done.code == 0
    assert "nothing to compare the digests with; --write records them" in done.out
    for line in sha256sum(weights, SHARD, "config.json", "tokenizer.model").splitlines():
        assert f"  {line} (" in done.out
    assert "all there and of the right size" in done.out
    assert not (weights / "SHA256SUMS").exists()


def test_what_is_written_sha256sum_accepts(weights: Path, run: Run) -> None:
    assert "wrote " in run("models", "verify", "--write", weights).err
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=weights, check=True, capture_output=True)
    assert SHARD in (weights / "SHA256SUMS").read_text()
    done = run("models", "verify", weights)
    assert (done.code, "compared with SHA256SUMS" in done.out, "  sound\n" in done.out) == (0, True, True)


def test_a_flipped_bit_is_found(weights: Path, run: Run) -> None:
    (weights / "SHA256SUMS").write_text("# by its publisher\n" + sha256sum(weights, "-b", SHARD, "config.json"))
    before = (weights / "SHA256SUMS").read_text()
    flip(weights / SHARD)
    done = run("models", "verify", "--write", weights)
    expected, found = before.split("\n")[1].split()[0], sha256sum(weights, SHARD).split()[0]
    assert done.code == 1
    assert f"FAILED  {SHARD}: expected {expected}, found {found}: download it again" in done.out
    assert "1 of 11 files failed" in done.out
    assert (weights / "SHA256SUMS").read_text() == before
    document = json.loads(run("models", "verify", "--json", weights).out)
    assert document["sound"] is False
    assert document["weights"][0]["compared_with"] == "SHA256SUMS"
    (bad,) = [file for file in document["weights"][0]["files"] if not file["sound"]]
    assert bad == {
        "file": SHARD,
        "size_bytes": (weights / SHARD).stat().st_size,
        "digest": found,
        "expected": expected,
        "fault": "",
        "sound": False,
    }


def test_broken_folders_fail(weights: Path, run: Run) -> None:
    (weights / SHARD).write_bytes((weights / SHARD).read_bytes()[:-10])
    done = run("models", "verify", weights)
    assert (done.code, f"FAILED  {SHARD}: " in done.out, "is cut short or damaged" in done.out) == (1, True, True)
    (weights / SHARD).unlink()
    assert f"{SHARD} is missing: download it again" in run("models", "verify", weights).out
    shutil.copy(weights / "model-00001-of-00003.safetensors", weights / SHARD)
    assert f"{SHARD} lacks " in run("models", "verify", weights).out
    (weights / "model.safetensors.index.json").write_text("{}")
    assert "has no 'weight_map'" in run("models", "verify", weights).out


def test_broken_bins_fail(shared: Path, tmp_path: Path, run: Run) -> None:
    source = shared / "parity" / "internvl14b_bin"
    name = "pytorch_model-00002-of-00002.bin"
    for path in (*source.glob("*.bin"), source / "pytorch_model.bin.index.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert run("models", "verify", tmp_path).code == 0
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-10])
    done = run("models", "verify", tmp_path)
    assert (done.code, f"{name} is cut short or damaged (File is not a zip file)" in done.out) == (1, True)


def test_a_folder_without_weights_fails(tmp_path: Path, run: Run) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = run("models", "verify", tmp_path)
    assert (done.code, "model.safetensors is missing" in done.out) == (1, True)


@pytest.mark.parametrize("line", ["hello", f"{'0' * 64}  ../escaped", f"{'0' * 64}  /etc/passwd"])
def test_sums_that_make_no_sense_are_told(line: str, weights: Path, run: Run) -> None:
    (weights / "SHA256SUMS").write_text(f"{line}\n")
    done = run("models", "verify", weights)
    assert done.code == 4
    assert "SHA256SUMS, line 1: " in done.err
    assert "is not a digest and the name of a file of this folder" in done.err


def test_sums_name_what_is_missing(weights: Path, run: Run) -> None:
    (weights / "SHA256SUMS").write_text(f"{'0' * 64}  extra.txt\n")
    done = run("models", "verify", weights)
    assert (done.code, "extra.txt is missing" in done.out) == (1, True)


@pytest.fixture
def cached(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fixture as the hub's cache keeps it: big files named by their sha256, small ones by git's digest."""
    model = tmp_path / "hub" / "models--org--name"
    snapshot = model / "snapshots" / ("c" * 40)
    for folder in (snapshot, model / "blobs", model / "refs"):
        folder.mkdir(parents=True)
    (model / "refs" / "main").write_text("c" * 40)
    for path in weights.glob("*[!z]"):
        if path.suffix == ".safetensors":
            blob = sha256sum(weights, path.name).split()[0]
        else:
            git = subprocess.run(["git", "hash-object", "--no-filters", path], capture_output=True, text=True)
            blob = git.stdout.strip()
        path.rename(model / "blobs" / blob)
        (snapshot / path.name).symlink_to(f"../../blobs/{blob}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_a_cached_model_is_compared_with_what_the_hub_said(cached: Path, run: Run) -> None:
    done = run("models", "verify", "org/name")
    assert (done.code, "compared with what the hub said at the download" in done.out) == (0, True)
    assert done.out.count("\n  ok ") == 11
    for name in (SHARD, "config.json"):
        flip(cached / name)
        done = run("models", "verify", "org/name")
        assert (done.code, f"FAILED  {name}: expected {(cached / name).readlink().name}, found" in done.out) == (
            1,
            True,
        )
        flip(cached / name)
    assert run("models", "verify", "--write", "org/name").code == 0
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=cached, check=True, capture_output=True)


def test_a_partial_snapshot_fails(cached: Path, run: Run) -> None:
    (cached / SHARD).unlink()
    done = run("models", "verify", "org/name")
    assert (done.code, f"{SHARD} is missing" in done.out) == (1, True)
    (cached / "config.json").resolve().unlink()
    assert "config.json is a link to a file that is gone" in run("models", "verify", "org/name").out


def test_notes_of_a_download_into_a_folder_are_used(weights: Path, run: Run) -> None:
    notes = weights / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / f"{SHARD}.metadata").write_text(f"{'c' * 40}\n{sha256sum(weights, SHARD).split()[0]}\n1700000000.0\n")
    assert f"\n  ok      {SHARD} (" in run("models", "verify", weights).out
    flip(weights / SHARD)
    assert run("models", "verify", weights).code == 1


def test_pull_prints_the_folder(cached: Path, run: Run) -> None:
    done = run("models", "pull", "org/name")
    assert (done.code, done.out) == (0, f"{cached}\n")
    assert json.loads(run("models", "pull", "org/name", "--json").out) == {"model": "org/name", "folder": str(cached)}


def test_models_that_are_not_there_are_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = run("models", "verify", "org/absent")
    assert (done.code, "run `ivsearch models pull org/absent` first" in done.err) == (4, True)
    done = run("models", "pull", "org/absent")
    assert (done.code, "HF_HUB_OFFLINE is set" in done.err) == (4, True)
    done = run("models", "pull", "./folder")
    assert (done.code, "is not a hub id: write org/name or org/name@revision" in done.err) == (2, True)
    assert run("models", "verify", "./folder").code == 4


def test_a_folder_is_not_pulled(run: Run, tmp_path: Path) -> None:
    done = run("models", "pull", tmp_path)
    assert done.code == 2 and "is a folder already: nothing to download, name it with --weights" in done.err
