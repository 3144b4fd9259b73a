"""Vectors without a library: against the encoder fed with plainly decoded pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ivsearch.embed import (
    Embedded,
    check_output,
    embed_image_files,
    embed_texts,
    embed_video_files,
    files_in,
    write_npz,
)
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.suffixes import IMAGE, VIDEO


def test_texts_keep_their_order_over_batches(mini: Encoder) -> None:
    texts = ["a cat", "猫", "a red car", "un chat", "snow"]
    told: list[int] = []
    embedded = embed_texts(mini, texts, batch=2, told=told.append)
    assert embedded.inputs == tuple(texts) and told == [2, 4, 5]
    np.testing.assert_allclose(embedded.vectors, mini.encode_texts(texts).vectors, atol=1e-5)


def test_images_are_what_the_encoder_makes_of_their_pixels(mini: Encoder, sample_media: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    paths = [str(sample_media / "pet.jpg"), str(tmp_path / "broken.jpg"), str(sample_media / "sky.jpg")]
    embedded = embed_image_files(mini, [*paths, paths[0], str(tmp_path / "gone.jpg")], batch=2)
    assert embedded.inputs == (paths[0], paths[2], paths[0])
    assert [each.path.name for each in embedded.skipped] == ["broken.jpg", "gone.jpg"]
    assert embedded.skipped[1].reason == "no such file"
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in embedded.inputs]
    np.testing.assert_allclose(embedded.vectors, mini.encode_images(mini.preprocess(pixels)).vectors, atol=1e-4)


def test_frames_of_videos_have_their_times(mini: Encoder, sample_media: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    street, call = str(sample_media / "street.mp4"), str(sample_media / "call.mp4")
    embedded = embed_video_files(mini, [street, str(tmp_path / "broken.mp4"), call], batch=4)
    assert [each.path.name for each in embedded.skipped] == ["broken.mp4"]
    assert embedded.media is not None and embedded.pts_s is not None
    assert embedded.media.tolist() == [fingerprint(Path(name)) for name in embedded.inputs]
    assert set(embedded.inputs) == {street, call}
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-4)
    with av.open(street) as container:
        decoded = [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    times_s = embedded.pts_s[embedded.media == fingerprint(Path(street))]
    assert len(times_s) > 3 and (np.diff(times_s) > 0).all()
    shown = [
        next(pixels for at_s, pixels in decoded if abs(at_s - decoded[0][0] - time_s) < 1e-3) for time_s in times_s
    ]
    expected = np.concatenate([mini.encode_images(mini.preprocess([pixels])).vectors for pixels in shown])
    cosines = (embedded.vectors[embedded.media == fingerprint(Path(street))] * expected).sum(axis=1)
    assert cosines.min() > 0.98


def test_pooled_videos_are_the_mean_of_their_frames(mini: Encoder, sample_media: Path) -> None:
    paths = [str(sample_media / name) for name in ("call.mp4", "street.mp4")]
    frames = embed_video_files(mini, paths, batch=16, fps=2.0)
    pooled = embed_video_files(mini, paths, batch=5, fps=2.0, pooled=True)
    assert pooled.inputs == tuple(paths) and pooled.pts_s is None and pooled.media is not None
    for number, vector in enumerate(pooled.vectors):
        mean = frames.vectors[frames.media == pooled.media[number]].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)


def test_a_file_that_goes_after_it_was_decoded_loses_nothing(mini: Encoder, sample_media: Path, tmp_path: Path) -> None:
    paths = [Path(shutil.copy(sample_media / "call.mp4", tmp_path / name)) for name in ("a.mp4", "b.mp4")]
    wanted = fingerprint(paths[0])

    def lose(n: int) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    embedded = embed_video_files(mini, [str(path) for path in paths], batch=1, told=lose)
    assert embedded.media is not None and set(embedded.media) == {wanted}
    assert {Path(name).name for name in embedded.inputs} | {each.path.name for each in embedded.skipped} == {
        "a.mp4", "b.mp4",
    }  # fmt: skip
    assert "a.mp4" in {Path(name).name for name in embedded.inputs}


def test_inputs_too_long_for_an_array_are_refused_unencoded(mini: Encoder) -> None:
    message = r"2001 inputs, the longest of 200000 characters, would take 1\.6 GB .* shorten that one"
    with pytest.raises(UsageError, match=message):
        embed_texts(mini, ["a"] * 2000 + ["b" * 200_000], batch=8, told=pytest.fail)


def test_nothing_readable_is_no_rows(mini: Encoder, tmp_path: Path) -> None:
    for embedded in (
        embed_image_files(mini, [str(tmp_path / "gone.jpg")], batch=2),
        embed_video_files(mini, [str(tmp_path / "gone.mp4")], batch=2),
        embed_video_files(mini, [str(tmp_path / "gone.mp4")], batch=2, pooled=True),
    ):
        assert embedded.vectors.shape == (0, 256) and len(embedded.skipped) == 1
        write_npz(tmp_path / "out.npz", mini, embedded)
        assert np.load(tmp_path / "out.npz")["inputs"].shape == (0,)


def test_folders_give_files_of_one_kind_and_paths_stay_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.jpg", "in/a.PNG", "in/deep/c.mp4", "in/notes.txt", "x.dat"):
        (tmp_path / name).touch()
    assert [str(each) for each in files_in(["x.dat", "in", "in/b.jpg"], IMAGE)] == [
        "x.dat", "in/a.PNG", "in/b.jpg", "in/b.jpg",
    ]  # fmt: skip
    assert list(files_in([str(tmp_path / "in")], VIDEO)) == [tmp_path / "in" / "deep" / "c.mp4"]


def test_names_in_no_encoding_come_back(mini: Encoder, tmp_path: Path) -> None:
    names = ("caf\udce9.jpg", "猫.jpg")
    write_npz(tmp_path / "out.npz", mini, Embedded(np.zeros((2, 256), np.float32), names))
    loaded = np.load(tmp_path / "out.npz")
    assert loaded["inputs"].tolist() == list(names)
    assert (str(loaded["encoder"]), str(loaded["revision"])) == ("mini", mini.space.revision)


def test_a_write_that_fails_leaves_the_old_file(mini: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.npz"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_npz(path, mini, Embedded(np.zeros((1, 256), np.float32), ("a",)))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("-", "cannot be written to standard output: name a file"),
        (".", "is a folder: name a file in it"),
        ("none/out.npz", "there is no folder .*none: make it"),
        ("/proc/out.npz", r"/proc/out\.npz cannot be written \(.*\): write elsewhere \(-o\)"),
    ],
)
def test_places_that_cannot_be_written(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_output(Path(name))
