"""Frames by their number, told by the numbers painted into them and by decoding everything."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ivsearch.errors import MediaError, UsageError
from ivsearch.media.decode import Video
from ivsearch.media.official_frames import official_count, official_frames, official_indices
from tests.media.barcode import encode, read

# How many presented frames there are where it is not the number of pictures that ffprobe decodes: of the 360 packets
# three cannot be decoded, and the official reader counts packets; two of 180 pictures repeat the times before the seam
# of two recordings; and behind a jump back to the beginning nothing is presented.
COUNTED = {"bad/corrupt_middle_third.mp4": 360, "geometry/resolution_change.ts": 178, "timing/ts_pts_reset.ts": 120}


def painted_on(path: Path) -> list[int]:
    """The slow reference: the numbers of all pictures that can be decoded, in order of presentation."""
    found: list[int] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.error.InvalidDataError):
                found += [
                    read(np.asarray(frame.to_image())) for frame in packet.decode() if isinstance(frame, av.VideoFrame)
                ]
    return found


@pytest.mark.parametrize("name", ["iv25_168", "iv25_448"])
def test_indices_and_counts_are_those_of_the_description(shared: Path, name: str) -> None:
    tables = json.loads((shared / "parity" / name / "frame_sampling.json").read_text())
    assert len(tables["get_index"]) == 24
    for case in tables["get_index"]:
        assert official_indices(case["num_frames_in_file"], case["num_segments"]) == case["indices"]
    for duration_s, count in tables["num_frames_by_duration"]:
        assert official_count(duration_s) == count


def test_indices_of_odd_numbers() -> None:
    assert official_indices(1, 4) == [0, 0, 0, 0]
    # As numpy rounds, in the words of the published code.
    for n_frames in range(1, 60):
        for k in range(1, 20):
            segment = float(n_frames - 1) / k
            wanted = [int(0 + (segment / 2) + np.round(segment * index)) for index in range(k)]
            assert official_indices(n_frames, k) == wanted
            assert max(wanted) < n_frames


@pytest.mark.parametrize(("n_frames", "k"), [(0, 4), (10, 0)])
def test_indices_of_nothing(n_frames: int, k: int) -> None:
    with pytest.raises(UsageError, match="both must be at least 1"):
        official_indices(n_frames, k)


VFR = [0, 1, 2, 30, 31, 90, 91, 92, 200, 201, 202, 203, 400, 401, 402, 460]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"preset": "fast", "bf": "3"}),
        ("gop1s.mp4", "libx264", {"preset": "fast", "g": "10", "bf": "2"}),
        ("open.mkv", "libx264", {"preset": "fast", "x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}),
        ("hevc.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:keyint=20"}),
        ("a.avi", "mpeg4", {"g": "15"}),
        ("b.avi", "libx264", {"preset": "fast", "bf": "2"}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "25"}),
        (
            "b.webm",
            "libvpx",
            {"deadline": "good", "cpu-used": "5", "g": "25", "auto-alt-ref": "1", "lag-in-frames": "16"},
        ),
        ("a.ts", "mpeg2video", {"g": "12", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("k", [3, 130])
def test_pictures_have_the_numbers(tmp_path: Path, name: str, codec: str, options: dict[str, str], k: int) -> None:
    path = encode(tmp_path / name, range(100), codec=codec, options=options)
    found = official_frames(path, k)
    assert found.n_frames == 100 and len(found) == k
    frames = list(found)
    assert [read(frame.pixels) for frame in frames] == official_indices(100, k) == found.indices
    np.testing.assert_allclose([frame.pts_s for frame in frames], np.array(found.indices) / 30, atol=0.001)
    assert found.duration_s == pytest.approx(100 / 30, abs=0.04)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("options", [{"g": "4", "bf": "2"}, {"g": "250", "bf": "3"}])
def test_variable_frame_rate(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    path = encode(tmp_path / f"a.{suffix}", VFR, options={"preset": "fast", **options})
    for k in (1, 2, 5, 16, 50):
        found = official_frames(path, k)
        frames = list(found)
        indices = official_indices(len(VFR), k)
        assert [read(frame.pixels) for frame in frames] == indices
        np.testing.assert_allclose(
            [frame.pts_s for frame in frames], [VFR[index] / 30 for index in indices], atol=0.001
        )


def test_the_same_frame_several_times_is_one_picture(tmp_path: Path) -> None:
    frames = list(official_frames(encode(tmp_path / "a.mp4", range(3)), 128))
    assert len(frames) == 128 and len({id(frame.pixels) for frame in frames}) == 3


def test_many_times_the_same_frame_are_quickly_counted(tmp_path: Path) -> None:
    frames = official_frames(encode(tmp_path / "a.mp4", range(3)), 30_000)
    started = time.process_time()
    assert sum(1 for _ in frames) == 30_000
    assert time.process_time() - started < 2.0


def test_as_many_as_the_duration_asks_for(tmp_path: Path) -> None:
    short = encode(tmp_path / "short.mp4", range(90), options={"preset": "ultrafast"})
    assert len(official_frames(short)) == 128
    slow = encode(tmp_path / "slow.mp4", range(0, 30 * 140, 30), options={"preset": "ultrafast"}, rate=1)
    assert len(official_frames(slow)) == official_count(139) == 136


def test_every_odd_file_is_counted_and_cut_as_it_is_presented(shared_media: Path) -> None:
    folder = shared_media / "odd"
    truth = json.loads((folder / "truth.json").read_text())
    checked = 0
    for name, facts in truth.items():
        path = folder / name
        if not facts["n_frames"] or name.startswith(("streams/audio", "ok/animated")):
            continue
        counted = COUNTED.get(name, facts["n_frames"])
        found = official_frames(path, 12)
        frames = list(found)
        assert (name, found.n_frames, len(frames)) == (name, counted, 12)
        assert found.indices == official_indices(counted, 12)
        pts = [each for each in facts["pts"] if each is not None]
        if len(pts) == counted:
            wanted = [pts[index] - pts[0] for index in found.indices]
            np.testing.assert_allclose([frame.pts_s for frame in frames], wanted, atol=0.002, err_msg=name)
        checked += 1
    assert checked >= 30


@pytest.mark.parametrize(
    "name",
    [
        "ok/h264_1080p30.mp4",
        "ok/mpeg4_xvid.avi",
        "timing/vfr.mp4",
        "timing/vfr_1ms_timebase.mkv",
        "timing/gap_9s.mp4",
        "timing/longgop_bframes.mp4",
        "timing/fragmented_noindex.mp4",
        "timing/ts_starts_mid_gop.ts",
        "timing/raw_annexb.h264",
        "bad/truncated_faststart_60pct.mp4",
    ],
)
def test_the_pictures_themselves(shared_media: Path, name: str) -> None:
    path = shared_media / "odd" / name
    found = official_frames(path, 9)
    painted = [read(frame.pixels) for frame in found]
    reference = painted_on(path)
    if name.endswith("ts_starts_mid_gop.ts"):
        reference = reference[-found.n_frames :]  # pictures that lean on what was cut off come first, and are grey
    assert len(reference) == found.n_frames
    assert painted == [reference[index] for index in found.indices]


def test_damage_in_the_middle_moves_no_number(shared_media: Path) -> None:
    path = shared_media / "odd" / "bad" / "corrupt_middle_third.mp4"
    found = official_frames(path, 36)
    painted = [read(frame.pixels) for frame in found]
    # Of what cannot be decoded the picture before is shown; bits of a damaged one may be wrong.
    right = [number == index for number, index in zip(painted, found.indices, strict=True)]
    assert found.n_frames == 360 and sum(right) >= 24 and all(right[:12]) and right[-1]


@pytest.mark.parametrize("name", ["c02.mp4", "v118.mp4", "v105.mp4", "v020.mp4"])
def test_real_videos(shared_media: Path, name: str) -> None:
    path = shared_media / "dev" / name
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        times = [frame.time for frame in container.decode(video=0)]
    assert times == sorted(times)
    found = official_frames(path, 16)
    assert found.n_frames == len(times)
    pts_s = [frame.pts_s for frame in found]
    np.testing.assert_allclose(
        pts_s, [times[index] - times[0] for index in official_indices(len(times), 16)], atol=1e-4
    )


def test_only_the_gops_with_wanted_pictures_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", range(600), options={"preset": "ultrafast", "g": "10"})
    fed = 0
    make = Video.decoder

    def counting(video: Video):  # type: ignore[no-untyped-def]
        decoder = make(video)
        feed = decoder.feed

        def count(packet):  # type: ignore[no-untyped-def]
            nonlocal fed
            fed += 1
            return feed(packet)

        decoder.feed = count  # type: ignore[method-assign]
        return decoder

    monkeypatch.setattr(Video, "decoder", counting)
    frames = list(official_frames(path, 4))
    assert [read(frame.pixels) for frame in frames] == official_indices(600, 4)
    assert fed <= 5 * 10


def test_photos_and_animations(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (9, 8, 7, 0)).save(tmp_path / "a.png")
    found = official_frames(tmp_path / "a.png", 4)
    assert (found.n_frames, found.duration_s, found.indices) == (1, 0.0, [0, 0, 0, 0])
    assert [frame.pixels[0, 0].tolist() for frame in found] == [[9, 8, 7]] * 4
    pictures = [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in (0, 50, 100, 150, 200)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[500, 100, 100, 100, 100])
    found = official_frames(tmp_path / "a.gif", 3)
    assert (found.n_frames, found.duration_s, found.indices) == (5, 0.9, [0, 1, 3])
    assert [int(frame.pixels[0, 0, 0]) for frame in found] == [0, 50, 150]
    assert [frame.pts_s for frame in found] == [0.0, 0.5, 0.7]


@pytest.mark.parametrize(("content", "reason"), [(None, "gone"), (b"\0\1\2\3" * 500, "not a video or image")])
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=reason):
        official_frames(tmp_path / "a.mp4", 4)
