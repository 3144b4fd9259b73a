"""``ivsearch embed``, with no library anywhere."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ivsearch.encode.encoder import Encoder
from ivsearch.media.fingerprint import fingerprint

from .conftest import Run


def test_texts(run: Run, mini: Encoder, tmp_path: Path) -> None:
    done = run("embed", "text", "a photo", "一张照片", "-o", tmp_path / "out.npz")
    assert done.code == 0 and done.out.startswith("2 vectors of 256 dimensions in ")
    arrays = np.load(tmp_path / "out.npz")
    assert arrays["inputs"].tolist() == ["a photo", "一张照片"] and arrays["embeddings"].dtype == np.float32
    np.testing.assert_allclose(arrays["embeddings"], mini.encode_texts(["a photo", "一张照片"]).vectors, atol=1e-5)
    assert set(arrays) == {"embeddings", "inputs", "encoder", "revision"}


def test_texts_of_a_file_and_of_standard_input(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries.txt").write_text("a dog\n\n一只猫\r\n", encoding="utf-8")
    run("embed", "text", "first", "--from", tmp_path / "queries.txt", "-o", tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["inputs"].tolist() == ["first", "a dog", "一只猫"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("снег\n".encode())))
    run("embed", "text", "--from", "-", "-o", tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["inputs"].tolist() == ["снег"]


def test_images_with_some_that_cannot_be_read(run: Run, sample_media: Path, tmp_path: Path) -> None:
    pet = sample_media / "pet.jpg"
    done = run("embed", "image", pet, tmp_path / "gone.png", "-o", tmp_path / "out.npz", "--json")
    assert done.code == 3 and "gone.png: no such file" in done.err
    document = json.loads(done.out)
    assert (document["n"], document["dim"], document["space"]["encoder"]) == (1, 256, "mini")
    assert [Path(each["path"]).name for each in document["skipped"]] == ["gone.png"]
    assert np.load(tmp_path / "out.npz")["inputs"].tolist() == [str(pet)]


def test_videos(run: Run, sample_media: Path, tmp_path: Path) -> None:
    done = run("embed", "video", sample_media / "call.mp4", "--fps", "2", "-o", tmp_path / "out.npz")
    assert done.code == 0
    arrays = np.load(tmp_path / "out.npz")
    n = len(arrays["embeddings"])
    assert n > 1 and {len(arrays[name]) for name in ("inputs", "media", "pts_s")} == {n}
    assert set(arrays["media"]) == {fingerprint(sample_media / "call.mp4")}
    assert arrays["pts_s"].dtype == np.float64
    assert run("embed", "video", sample_media / "call.mp4", "--pooled", "-o", tmp_path / "out.npz").code == 0
    assert np.load(tmp_path / "out.npz")["embeddings"].shape == (1, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text", "-o", "out.npz"], "name the texts: ivsearch embed text"),
        (["text", "a"], "Missing option '--output' / '-o'"),
        (["text", "a", "-o", "-"], "vectors cannot be written to standard output"),
        (["text", "caf\udce9", "-o", "out.npz"], "not valid UTF-8"),
        (["text", "--from", "none.txt", "-o", "out.npz"], "--from none.txt: no such file or directory"),
        (["text", "--from", "latin.txt", "-o", "out.npz"], "--from latin.txt: is not UTF-8 text; save it as UTF-8"),
        (["video", "a.mp4", "--fps", "0", "-o", "out.npz"], "fps must be above 0"),
        (["image", "a.jpg", "--encoder", "typo", "-o", "out.npz"], "unknown encoder 'typo'"),
        (["image", "-o", "out.npz"], "Missing argument 'PATH...'"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], message: str) -> None:
    Path("latin.txt").write_bytes(b"caf\xe9")
    done = run("embed", *arguments)
    assert done.code == 2 and message in " ".join(done.err.split())
    assert not Path("out.npz").exists() and "Traceback" not in done.err


def test_captions_need_an_encoder_that_can(run: Run, sample_media: Path) -> None:
    done = run("caption", sample_media / "pet.jpg", "--encoder", "mini")
    assert done.code == 2 and "encoder 'mini' cannot caption pictures; internvl-g and internvl-c can" in done.err
    done = run("caption", "a.jpg", "--min-new-tokens", "9", "--max-new-tokens", "8")
    assert done.code == 2 and "--min-new-tokens 9 is more than --max-new-tokens 8" in done.err
    done = run("caption", "a.jpg", "--prompt", "caf\udce9")
    assert done.code == 2 and "not valid UTF-8" in done.err


def test_a_place_that_cannot_be_written_to_costs_no_work(run: Run, sample_media: Path) -> None:
    done = run("embed", "image", sample_media / "pet.jpg", "-o", "/proc/out.npz")
    assert done.code == 2 and "/proc/out.npz cannot be written" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "ivsearch: interrupted; nothing was written"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "device; make room or write elsewhere (-o), and run"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "change the permissions or write elsewhere (-o)"),
    ],
)
def test_what_ends_it_early(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, message: str
) -> None:
    def fail(number: int) -> None:
        raise fault

    monkeypatch.setattr(os, "fsync", fail)
    done = run("embed", "text", "a cat", "-o", tmp_path / "out.npz")
    assert done.code == code and message in done.err and "--library" not in done.err
    assert not (tmp_path / "out.npz").exists()


def test_a_caption_that_is_interrupted_keeps_no_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ivsearch.commands.caption.loaded_encoder", interrupt)
    assert run("caption", "a.jpg").err == "ivsearch: interrupted\n"


def test_the_help_says_what_media_is(run: Run) -> None:
    assert "`media` (n,), the content id of the video a row is of" in " ".join(run("embed", "--help").out.split())


def test_devices_and_links_are_not_replaced(run: Run, tmp_path: Path) -> None:
    done = run("embed", "text", "a photo", "-o", "/dev/null")
    assert done.code == 2 and "/dev/null is a device or pipe, which a file would replace: name a file" in done.err
    assert Path("/dev/null").is_char_device()
    link, real = tmp_path / "link.npz", tmp_path / "real.npz"
    real.write_bytes(b"")
    link.symlink_to(real)
    assert run("embed", "text", "a photo", "-o", link).code == 0
    assert link.is_symlink() and len(np.load(real)["embeddings"]) == 1


def test_nothing_to_embed_writes_nothing(run: Run, sample_media: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    shutil.copy(sample_media / "call.mp4", tmp_path / "only")
    out = tmp_path / "out.npz"
    out.write_bytes(b"earlier work")
    done = run("embed", "image", tmp_path / "only", "-o", out)
    assert done.code == 1 and "nothing to embed was found: " in done.err and "is not written" in done.err
    assert run("embed", "image", tmp_path / "gone.jpg", "-o", out).code == 3
    assert out.read_bytes() == b"earlier work"
