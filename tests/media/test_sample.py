from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ivsearch.domain import MediaKind
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.decode import Video
from ivsearch.media.gops import PlanBroken, planned
from ivsearch.media.grid import Grid
from ivsearch.media.sample import Sample, Sampling
from ivsearch.media.straight import all_pictures, held
from tests.media.barcode import draw, encode, read

ID = "0" * 32
MS = Fraction(1, 1000)


def sample(path: Path, fps: float = 1.0, **options: int) -> list[Sample]:
    return list(Sampling(path, ID, fps=fps, **options))


def numbers(samples: list[Sample]) -> list[int]:
    return [read(sample.frame.pixels) for sample in samples]


def shown_at(pts: list[int], moment: Fraction) -> int:
    """The outside truth: which picture a player shows at ``moment`` (in the clip's ticks, from its first picture)."""
    return max(number for number, tick in enumerate(pts) if tick - pts[0] <= moment)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"preset": "fast", "bf": "3"}),
        ("gop1s.mp4", "libx264", {"preset": "fast", "g": "30", "bf": "2"}),
        ("open.mkv", "libx264", {"preset": "fast", "x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}),
        ("intra.mkv", "libx264", {"preset": "fast", "g": "1"}),
        ("hevc.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:keyint=20"}),
        ("a.avi", "mpeg4", {"g": "15"}),
        ("b.avi", "libx264", {"preset": "fast", "bf": "2"}),
        ("c.avi", "mpeg4", {"g": "15", "bf": "2"}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "25"}),
        ("b.webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "25", "auto-alt-ref": "1"}),
        ("a.ts", "mpeg2video", {"g": "12", "bf": "2"}),
        ("a.mpg", "mpeg2video", {"g": "12"}),
        ("a.flv", "flv1", {"g": "12"}),
        ("a.mjpeg.mkv", "mjpeg", {}),
    ],
)
def test_pictures_fit_their_times(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = encode(tmp_path / name, range(100), codec=codec, options=options, pix_fmt=pix_fmt)
    # Matroska and Flash store whole milliseconds.
    in_ms = name.endswith((".mkv", ".webm", ".flv"))
    times = [round(number * 1000 / 30) / 1000 if in_ms else number / 30 for number in range(100)]
    for fps in (0.5, 1.0, 3.0, 30.0):
        samples = sample(path, fps)
        grid = [index / fps for index in range(1000) if index / fps <= times[-1] + 1e-9]
        expected = [max(number for number in range(100) if times[number] <= moment + 1e-9) for moment in grid]
        assert numbers(samples) == expected
        assert [item.frame.pts_s for item in samples] == pytest.approx([times[number] for number in expected])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_and_gaps(tmp_path: Path, suffix: str) -> None:
    pts = [0, 33, 66, 400, 433, 1000, 1001, 1900, 7000, 7033, 9999]
    path = encode(tmp_path / f"vfr.{suffix}", pts, MS, options={"preset": "fast", "bf": "2"})
    samples = sample(path)
    assert numbers(samples) == [shown_at(pts, Fraction(1000 * index)) for index in range(10)]
    assert [item.frame.pts_s for item in samples][:3] == pytest.approx([0.0, 1.0, 1.9])
    assert samples[3].frame is samples[2].frame is samples[6].frame


def test_time_starts_at_the_first_picture(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.mkv", range(5000, 8000, 40), MS)
    samples = sample(path)
    assert numbers(samples) == [0, 25, 50]
    assert samples[0].frame.pts_s == 0.0


def test_ntsc_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "ntsc.mov", range(0, 1001 * 100, 1001), Fraction(1, 30000))
    samples = sample(path)
    assert numbers(samples) == [0, 29, 59, 89]
    assert samples[1].frame.pts_s == pytest.approx(29 * 1001 / 30000)


def test_edit_list_hides_the_start(tmp_path: Path) -> None:
    """The MP4 edit list says that presentation begins half a second into the track."""
    path = encode(tmp_path / "edit.mp4", range(90), options={"preset": "fast", "bf": "2", "g": "60"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4
    version, _flags, entries, _duration, start = struct.unpack(">B3sIIi", content[at : at + 16])
    assert (version, entries) == (0, 1)
    scale_at = content.index(b"mdhd") + 4 + 12
    scale = struct.unpack(">I", content[scale_at : scale_at + 4])[0]
    content[at + 12 : at + 16] = struct.pack(">i", start + scale // 2)
    path.write_bytes(content)
    assert numbers(sample(path)) == [15, 45, 75]


def test_one_picture(tmp_path: Path) -> None:
    sampling = Sampling(encode(tmp_path / "one.mp4", [0]), ID)
    assert numbers(list(sampling)) == [0]
    assert sampling.media.kind is MediaKind.VIDEO


def test_duration_ends_with_the_last_picture(plain_clip: Path) -> None:
    sampling = Sampling(plain_clip, ID)
    assert len(list(sampling)) == 4
    assert sampling.media.duration_s == pytest.approx(4.0, abs=1e-3)
    assert sampling.media.fps == pytest.approx(30)
    assert sampling.media.warnings == ()


def test_an_absurd_jump_of_the_clock_ends_the_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "jump.mkv", [0, 500, 1000, 1000 + 10**9], MS, codec="libvpx", options={"g": "2"})
    sampling = Sampling(path, ID)
    assert numbers(list(sampling)) == [0, 2]
    assert "its clock jumps by more than 24 h" in sampling.media.warnings[0]


def test_an_absurd_header_duration_is_not_believed(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", range(60))
    content = bytearray(path.read_bytes())
    for box, skip in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        at = content.index(box) + 4 + skip
        content[at : at + 4] = b"\xff\xff\xff\xf0"
    at = content.index(b"elst") + 4 + 8
    content[at : at + 4] = b"\xff\xff\xff\xf0"
    path.write_bytes(content)
    samples = sample(path)
    assert numbers(samples) == [0, 30]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 5000.0])
def test_a_rate_that_makes_no_sense(plain_clip: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="fps must be above 0"):
        sample(plain_clip, fps)


def test_damage_in_the_middle_costs_only_the_damaged_part(tmp_path: Path) -> None:
    path = encode(tmp_path / "hurt.mp4", range(240), options={"preset": "fast", "g": "30", "keyint_min": "30"})
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(3)
    start = content.index(b"mdat") + 4
    length = struct.unpack(">I", content[start - 8 : start - 4])[0] - 8
    for at in random.integers(start + length // 3, start + length // 2, 200):
        content[at] ^= 0xFF
    path.write_bytes(content)
    sampling = Sampling(path, ID)
    samples = list(sampling)
    assert len(samples) == 8
    assert [number for number in numbers(samples) if number % 30 == 0][:2] == [0, 30]
    assert numbers(samples)[-2:] == [180, 210]
    assert "cannot be decoded" in sampling.media.warnings[0]


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi"])
def test_cut_off_files_give_what_is_there(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"cut.{suffix}", range(240), codec="mpeg4", options={"g": "10"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    samples = sample(path)
    assert 3 <= len(samples) <= 6
    assert numbers(samples)[:3] == [0, 30, 60]


def test_a_picture_larger_than_the_limit(plain_clip: Path) -> None:
    with pytest.raises(MediaError, match=r"320 × 180 = 57,600 pixels, more than the limit of 1,000"):
        sample(plain_clip, max_pixels=1000)


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"^no video stream: holds sound only$"):
        sample(path)


def test_a_playlist_is_not_followed(tmp_path: Path, plain_clip: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError):
        sample(path)


def test_a_name_that_is_not_utf8(tmp_path: Path, plain_clip: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 1.mp4"))
    path.write_bytes(plain_clip.read_bytes())
    assert numbers(sample(path)) == [0, 30, 60, 90]


def test_rotation(tmp_path: Path) -> None:
    """A phone held upright: the track's matrix turns the picture a quarter to the right."""
    path = encode(tmp_path / "phone.mp4", range(30))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 180 << 16, 0, 1 << 30)
    path.write_bytes(content)
    sampling = Sampling(path, ID)
    (only,) = list(sampling)
    assert only.frame.pixels.shape == (320, 180, 3)
    assert (sampling.media.width, sampling.media.height) == (180, 320)
    difference = np.rot90(only.frame.pixels, 1).astype(int) - draw(0)
    assert np.abs(difference).mean() < 8


def test_anamorphic(tmp_path: Path) -> None:
    """PAL widescreen: 16:9 on 360 × 288 stored pixels."""
    path = encode(tmp_path / "wide.mp4", range(5), size=(360, 288), options={"preset": "ultrafast", "aspect": "64:45"})
    sampling = Sampling(path, ID)
    (only,) = list(sampling)
    assert (sampling.media.width, sampling.media.height) == (512, 288)
    assert only.frame.pixels.shape == (288, 512, 3)


def test_progress_is_told_once_a_packet(plain_clip: Path) -> None:
    """So a long scene of which nothing is kept does not look like a decoder that hangs."""
    calls: list[None] = []
    list(Sampling(plain_clip, ID, fps=0.01, on_progress=lambda: calls.append(None)))
    assert len(calls) >= 120


def test_the_plan_gives_what_decoding_everything_gives(tmp_path: Path) -> None:
    options = {"preset": "fast", "x264-params": "open-gop=1:keyint=17:min-keyint=5:bframes=3:b-pyramid=normal"}
    path = encode(tmp_path / "open.mp4", [n + n * n // 50 for n in range(150)], options=options)

    def taken(fps: float, plan: bool) -> list[tuple[int, int, bytes]]:
        with Video(path) as video:
            grid = Grid(fps, video.time_base)
            picked = planned(video, grid) if plan else held(all_pictures(video), grid)
            return [(index, picture.pts, video.pixels(picture.frame).tobytes()) for index, picture in picked]

    for fps in (0.7, 2.5, 11.0):
        assert taken(fps, plan=True) == taken(fps, plan=False)


def test_the_plan_gives_up_on_a_clock_that_jumps(tmp_path: Path) -> None:
    path = encode(tmp_path / "jump.mkv", [0, 500, 1000, 1000 + 10**9], MS, codec="libvpx", options={"g": "2"})
    with Video(path) as video, pytest.raises(PlanBroken):
        list(planned(video, Grid(1.0, video.time_base)))
