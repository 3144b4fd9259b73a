"""InternVL-14B through every verb, from a tiny checkpoint of the official layout, with the network denied."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Query, Reranking
from ivsearch.encode import caption_images, load_encoder
from ivsearch.errors import MediaError, SpaceMismatch, WeightsError
from ivsearch.library import open_library
from ivsearch.plain_text import printable
from ivsearch.settings import Settings

from .conftest import Run

IMAGES = ("photo1.png", "photo2.png", "photo3.png", "gray.png", "rgba.png")


@pytest.fixture(scope="module")
def checkpoint(shared: Path) -> Path:
    return shared / "parity" / "internvl14b_single"


@pytest.fixture(scope="module")
def images(shared: Path) -> list[Path]:
    return [shared / "parity" / "images" / name for name in IMAGES]


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> dict[str, NDArray]:
    return dict(np.load(checkpoint / "expected.npz"))


@pytest.fixture(autouse=True)
def denied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("looks up a host"))


@pytest.fixture
def media(images: list[Path], sample_media: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for path in (images[0], images[4], sample_media / "call.mp4"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def library(run: Run, media: Path, checkpoint: Path, tmp_path: Path) -> Iterator[Path]:
    weights = tmp_path / "weights"
    shutil.copytree(checkpoint, weights)
    folder = tmp_path / "library"
    done = run(
        "index",
        media,
        "--library",
        folder,
        "--encoder",
        "internvl-c",
        "--weights",
        "../weights",
        "--preprocess",
        "clip",
    )
    assert (done.code, done.err) == (0, "") and "3 indexed" in done.out
    yield folder


def unit(rows: NDArray) -> NDArray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_library_remembers_its_encoder(run: Run, library: Path, images: list[Path], tmp_path: Path) -> None:
    document = json.loads(run("search", "一只猫", "--library", library, "--json").out)
    assert document["space"]["encoder"] == "internvl-c" and len(document["hits"]) == 3
    for image in (images[0], images[4]):
        hit = json.loads(run("search", "--image", image, "--library", library, "--json").out)["hits"][0]
        assert Path(hit["path"]).name == image.name and hit["score"] == pytest.approx(1.0, abs=1e-3)
    assert "3 unchanged" in run("index", "--library", library).out
    assert run("search", "a cat", "--library", library, "--preprocess", "retrieval").code == 2

    moved = tmp_path / "moved"
    (tmp_path / "weights").rename(moved)
    done = run("search", "a cat", "--library", library)
    assert done.code == 4
    assert f"made with were in {tmp_path / 'weights'}, which is not there any more" in done.err
    assert "(--weights DIR)" in done.err
    # Nothing stands out to random weights.
    assert run("search", "a cat", "--library", library, "--weights", moved, "--min-likely", "0").code == 0
    assert run("index", "--library", library, "--weights", moved).code == 0
    assert run("search", "a cat", "--library", library, "--min-likely", "0").code == 0


def test_other_weights_are_not_searched(library: Path, shared: Path) -> None:
    other = str(shared / "parity" / "internvl14b_realtok")
    with open_library(library, settings=Settings(weights=other)) as opened, pytest.raises(SpaceMismatch) as raised:
        opened.search("a cat")
    assert f"ivsearch index --encoder internvl-c --weights {other}" in str(raised.value)


def test_vectors_are_the_official_ones(
    run: Run, checkpoint: Path, images: list[Path], expected: dict[str, NDArray], tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    for letter in "cg":
        flags = ["--encoder", f"internvl-{letter}", "--weights", checkpoint, "-o", out]
        assert run("embed", "image", *images, "--preprocess", "clip", "--batch", "2", *flags).code == 0
        wanted = unit(expected[f"image_embeds_{letter.upper()}"])
        np.testing.assert_allclose(np.load(out)["embeddings"], wanted, atol=1e-4)
    texts = json.loads((checkpoint / "texts.json").read_text("utf-8"))["texts"]
    flags = ["--encoder", "internvl-c", "--weights", checkpoint, "-o", out]
    assert run("embed", "text", *texts[:3], texts[8], *flags).code == 0
    np.testing.assert_allclose(np.load(out)["embeddings"], unit(expected["text_embeds"][[0, 1, 2, 8]]), atol=1e-4)


def test_videos_without_a_library(run: Run, checkpoint: Path, sample_media: Path, tmp_path: Path) -> None:
    flags = ["--encoder", "internvl-g", "--weights", checkpoint, "-o", tmp_path / "out.npz"]
    assert run("embed", "video", sample_media / "call.mp4", *flags).code == 0
    arrays = np.load(tmp_path / "out.npz")
    assert str(arrays["encoder"]) == "internvl-g" and len(arrays["pts_s"]) == len(arrays["embeddings"]) > 0
    np.testing.assert_allclose(np.linalg.norm(arrays["embeddings"], axis=1), 1, atol=1e-5)


def test_captions_are_the_official_ones(
    run: Run, checkpoint: Path, images: list[Path], expected: dict[str, NDArray], tmp_path: Path
) -> None:
    flags = ["--weights", checkpoint, "--preprocess", "clip"]
    greedy = ["--beams", "1", "--min-new-tokens", "0", "--max-new-tokens", "20"]
    done = run("caption", *images, tmp_path / "gone.jpg", *flags, *greedy, "--json")
    assert done.code == 3 and "gone.jpg: no such file" in done.err
    document = json.loads(done.out)
    assert [each["path"] for each in document["captions"]] == [str(path) for path in images]
    assert [Path(each["path"]).name for each in document["skipped"]] == ["gone.jpg"]
    for each, ids in zip(document["captions"], expected["caption_greedy"].tolist(), strict=True):
        stop = ids.index(2) if 2 in ids else len(ids)
        assert [token for token in each["token_ids"] if token != 2] == ids[:stop]
    lines = run("caption", *images[:2], *flags, *greedy).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(path) for path in images[:2]]
    assert [line.split("\t")[1] for line in lines] == [printable(each["caption"]) for each in document["captions"][:2]]
    jsonl = [json.loads(line) for line in run("caption", *images[:2], *flags, *greedy, "--jsonl").out.splitlines()]
    assert jsonl == document["captions"][:2]


def test_captions_from_python(checkpoint: Path, images: list[Path], expected: dict[str, NDArray]) -> None:
    encoder = load_encoder("internvl-g", weights=checkpoint, preprocess="clip")
    (caption,) = caption_images(encoder, images[:1], max_new_tokens=20)
    assert [token for token in caption.token_ids if token != 2] == [
        token for token in expected["caption_beam5"][0].tolist() if token not in (0, 2)
    ]
    with pytest.raises(MediaError, match=r"gone\.jpg: no such file"):
        caption_images(encoder, ["gone.jpg"])


def test_ranking_again_with_g(run: Run, library: Path, images: list[Path], expected: dict[str, NDArray]) -> None:
    flags = ["--library", library, "--rerank", "internvl-g", "--json"]
    document = json.loads(run("search", "--image", images[0], *flags).out)
    assert document["space"]["encoder"] == "internvl-c" and document["reranker"]["encoder"] == "internvl-g"
    scores = {Path(hit["path"]).name: hit["score"] for hit in document["hits"]}
    official = unit(expected["image_embeds_G"])
    assert scores["photo1.png"] == pytest.approx(1.0, abs=1e-3)
    assert scores["rgba.png"] == pytest.approx(float(official[0] @ official[4]), abs=1e-3)
    assert all("retrieval_score" in hit for hit in document["hits"])
    done = run("search", "a cat", *flags, "--rerank-itm", "--rerank-depth", "2", "--min-likely", "0")
    hits = json.loads(done.out)["hits"]
    assert done.code == 0 and ["retrieval_score" in hit for hit in hits] == [True, True, False]
    assert all(0 <= hit["score"] <= 1 for hit in hits[:2])


def test_the_weights_of_a_library_are_read_once_for_both(library: Path) -> None:
    with open_library(library) as opened:
        opened.find(Query("a cat"), rerank=Reranking("internvl-g"))
        reranker = opened._searching.rerankers.encoder(Reranking("internvl-g"))
        assert reranker.weights is opened.encoder.weights  # type: ignore[attr-defined]


def test_what_a_reranker_lacks(run: Run, library: Path, sample_media: Path, tmp_path: Path) -> None:
    done = run("search", "a cat", "--library", library, "--rerank-depth", "3")
    assert done.code == 2 and "--rerank-depth and --rerank-itm go with --rerank NAME" in " ".join(done.err.split())
    mini = tmp_path / "mini"
    assert run("index", sample_media / "pet.jpg", "--library", mini).code == 0
    done = run("search", "a cat", "--library", mini, "--rerank", "internvl-g")
    assert (
        done.code == 2
        and "re-ranker 'internvl-g' needs weights: give a folder or a hub id (--rerank-weights)" in done.err
    )
    done = run("search", "a cat", "--library", mini, "--rerank", "internvl-g", "--rerank-weights", "./nowhere")
    assert done.code == 4
    (tmp_path / "weights").rename(tmp_path / "moved")
    settings, where = Settings(weights=str(tmp_path / "moved")), r"say where they are now \(--rerank-weights DIR\)"
    with open_library(library, settings=settings) as opened, pytest.raises(WeightsError, match=where):
        opened.search("a cat", rerank=Reranking("internvl-c"))
