"""Cutting spans out of files, judged by the frame numbers that are drawn into the pictures."""

from __future__ import annotations

import errno
import resource
import shutil
import signal
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ivsearch.errors import MediaError, UsageError
from ivsearch.media.decode import Video
from ivsearch.media.extract import Cutout, Writer, copied, extract
from ivsearch.media.reencode import encoded
from ivsearch.media.straight import all_pictures
from tests.media import barcode


def numbers(path: Path) -> list[tuple[int, float]]:
    """Every picture a player shows: its drawn number, and its time."""
    with Video(path) as video:
        shown = [(barcode.read(video.pixels(each.frame)), each.pts * video.time_base) for each in all_pictures(video)]
    return [(number, round(float(pts - shown[0][1]), 3)) for number, pts in shown]


def same(shown: Sequence[tuple[int, float]], expected: Sequence[tuple[int, float]]) -> bool:
    """The same pictures at the same times, to two milliseconds."""
    assert [number for number, _ in shown] == [number for number, _ in expected]
    assert [time_s for _, time_s in shown] == pytest.approx([time_s for _, time_s in expected], abs=2e-3)
    return True


def of_frames(first: int, stop: int) -> list[tuple[int, float]]:
    return [(number, round((number - first) / 30, 3)) for number in range(first, stop)]


@pytest.mark.parametrize("write", [copied, encoded])
@pytest.mark.parametrize(
    "name",
    [
        "timing/longgop_bframes.mp4",
        "timing/fragmented_noindex.mp4",
        "timing/ts_pts_wraps_33bit.ts",
        "streams/with_subtitles.mp4",
        "geometry/odd_321x181_yuv444.mp4",
        "ok/mpeg4_xvid.avi",
    ],
)
def test_the_right_pictures_are_in_it(shared_media: Path, tmp_path: Path, name: str, write: Writer) -> None:
    made = extract(Cutout(shared_media / "odd" / name, 2.0, 3.0), tmp_path / "out.mp4", write)
    assert same(numbers(made.path), of_frames(60, 90))
    assert (made.path.name, made.early_s, made.late_s) == ("out.mp4", 0.0, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    with av.open(str(made.path)) as container:
        assert container.duration == pytest.approx(1_000_000, abs=40_000)


@pytest.mark.parametrize(("name", "suffix"), [("timing/longgop_bframes.mp4", "mkv"), ("ok/av1_360p.mp4", "webm")])
def test_where_the_start_cannot_be_hidden_it_is_told_how_early_it_is(
    shared_media: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    made = extract(Cutout(shared_media / "odd" / name, 2.0, 3.0), tmp_path / f"out.{suffix}", copied)
    assert numbers(made.path)[0][0] == round((2.0 - made.early_s) * 30) == 0
    assert numbers(made.path)[-1][0] == 89


@pytest.mark.parametrize(("name", "suffix"), [("timing/longgop_bframes.mp4", "mkv"), ("ok/vp9_360p.webm", "webm")])
def test_exactly_it_begins_there_in_every_format(shared_media: Path, tmp_path: Path, name: str, suffix: str) -> None:
    made = extract(Cutout(shared_media / "odd" / name, 2.0, 2.5), tmp_path / f"out.{suffix}", encoded)
    assert same(numbers(made.path), of_frames(60, 75)) and made.early_s == 0.0


@pytest.mark.parametrize("source", ["vfr.mp4", "vfr_1ms_timebase.mkv"])
def test_a_varying_rate_is_kept(shared_media: Path, tmp_path: Path, source: str) -> None:
    path = shared_media / "odd" / "timing" / source
    every = numbers(path)
    # From the picture shown at 2.0 s on, the last one before 3.0 s.
    shown = [each for each in every if each[1] < 3.0]
    shown = shown[max(place for place, each in enumerate(shown) if each[1] <= 2.0) :]
    made = numbers(extract(Cutout(path, 2.0, 3.0), tmp_path / "exact.mp4", encoded).path)
    assert same(made, [(number, max(0.0, time_s - 2.0)) for number, time_s in shown])
    with av.open(str(tmp_path / "exact.mp4")) as container:
        assert container.duration == pytest.approx(1_000_000, abs=5_000)
    rough = extract(Cutout(path, 2.0, 3.0), tmp_path / "copy.mp4", copied)
    assert rough.early_s == pytest.approx(2.0 - shown[0][1], abs=2e-3)
    assert same(numbers(rough.path)[: len(shown)], [(number, time_s - shown[0][1]) for number, time_s in shown])
    assert every[-1] != numbers(rough.path)[-1]


def test_a_raw_stream_has_no_times_to_copy_but_can_be_cut_exactly(shared_media: Path, tmp_path: Path) -> None:
    cutout = Cutout(shared_media / "odd/timing/raw_annexb.h264", 2.0, 3.0)
    with pytest.raises(MediaError, match=r"raw_annexb\.h264: its packets have no times: cut it exactly \(--exact\)"):
        extract(cutout, tmp_path / "out.mp4", copied)
    assert list(tmp_path.iterdir()) == []
    assert [number for number, _ in numbers(extract(cutout, tmp_path / "out.mp4", encoded).path)] == list(range(50, 75))


def first_picture(path: Path) -> np.ndarray:
    with Video(path) as video:
        return video.pixels(next(all_pictures(video)).frame)


@pytest.mark.parametrize("write", [copied, encoded])
@pytest.mark.parametrize("name", ["rotate90_phone.mp4", "rotate180.mp4", "anamorphic_sar64_45.mp4"])
def test_it_is_shown_as_the_source_is(shared_media: Path, tmp_path: Path, name: str, write: Writer) -> None:
    path = shared_media / "odd/geometry" / name
    made = extract(Cutout(path, 2.0, 3.0), tmp_path / "out.mp4", write)
    with Video(path) as video:
        truth = [video.pixels(each.frame) for each in all_pictures(video)][60]
    picture = first_picture(made.path)
    assert picture.shape == truth.shape
    assert np.abs(picture.astype(int) - truth).mean() < (0.1 if write is copied else 4)


@pytest.mark.parametrize("write", [copied, encoded])
def test_sound_comes_along_and_stays_in_step(shared_media: Path, tmp_path: Path, write: Writer) -> None:
    source = shared_media / "odd/ok/h264_720p30_moov_at_end.mp4"
    made = extract(Cutout(source, 2.0, 3.0), tmp_path / "out.mp4", write)

    def sound(path: Path, from_s: float) -> np.ndarray:
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
            rows: list[np.ndarray] = []
            start_s = None
            for frame in container.decode(audio=0):
                start_s = float(frame.time) if start_s is None else start_s
                rows.append(frame.to_ndarray()[0])
        return np.concatenate(rows)[round((from_s - (start_s or 0.0)) * rate) :][: rate // 2]

    expected, heard = sound(source, 2.2), sound(made.path, 0.2)
    assert np.abs(expected).max() > 0.01
    # Two tenths into it AAC has forgotten what went before. Edit lists are written in milliseconds: 44 samples.
    off = min(np.abs(heard[50:20_000] - expected[50 + shift : 20_000 + shift]).max() for shift in range(-50, 51))
    assert off < 1e-3


def test_subtitles_come_along_and_what_does_not_fit_is_named(shared_media: Path, tmp_path: Path) -> None:
    source = shared_media / "odd/streams/with_subtitles.mp4"

    def cues(path: Path) -> list[tuple[float, bytes]]:
        with av.open(str(path)) as container:
            packets = [each for each in container.demux(subtitles=0) if each.size > 2]
        return [(float(each.pts * each.time_base), bytes(each)) for each in packets]

    (start_s, text), *_ = cues(source)
    made = extract(Cutout(source, start_s + 0.5, start_s + 1.5), tmp_path / "out.mp4", copied)
    assert cues(made.path)[0] == (pytest.approx(0.0, abs=0.01), text) and made.left_out == []
    made = extract(Cutout(source, 2.0, 3.0), tmp_path / "out.mkv", copied)
    assert made.left_out == ["subtitle (mov_text)"]


def test_a_codec_the_format_does_not_take(shared_media: Path, tmp_path: Path) -> None:
    cutout = Cutout(shared_media / "odd/timing/longgop_bframes.mp4", 2.0, 3.0)
    with pytest.raises(
        MediaError, match=r"h264 does not go into a webm file: name it \*\.mp4 or \*\.mkv, or cut it exac"
    ):
        extract(cutout, tmp_path / "out.webm", copied)
    with pytest.raises(UsageError, match=r"AVI keeps no times of pictures: name the output \*\.mp4 or \*\.mkv"):
        extract(cutout, tmp_path / "out.avi", encoded)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_copied(shared_media: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(source)
    made = extract(Cutout(source, 0.0, 0.0), tmp_path / "b.png", copied)
    assert made.path.read_bytes() == source.read_bytes()
    with pytest.raises(UsageError, match=r"a\.png is a picture and is copied as it is: name it \*\.png"):
        extract(Cutout(source, 0.0, 0.0), tmp_path / "b.mp4", copied)


def test_what_is_there_is_not_written_over_unasked(plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("mine")
    with pytest.raises(UsageError, match=r"out\.mp4 is there already: name another file, or add --force"):
        extract(Cutout(plain_clip, 1.0, 2.0), target, copied)
    assert target.read_text() == "mine"
    assert numbers(extract(Cutout(plain_clip, 1.0, 2.0), target, copied, force=True).path)[0][0] == 30
    own = tmp_path / "own.mp4"
    shutil.copy(plain_clip, own)
    with pytest.raises(UsageError, match="is the file that is cut from: name another one"):
        extract(Cutout(own, 1.0, 2.0), own, copied, force=True)


def test_targets_that_make_no_sense(plain_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.xyz: no video format has that ending; known are \.mp4"):
        extract(Cutout(plain_clip, 1.0, 2.0), tmp_path / "out.xyz", copied)
    with pytest.raises(UsageError, match=r"there is no folder .*: make it first, or name another place"):
        extract(Cutout(plain_clip, 1.0, 2.0), tmp_path / "none" / "out.mp4", copied)
    with pytest.raises(MediaError, match="file is gone"):
        extract(Cutout(tmp_path / "none.mp4", 1.0, 2.0), tmp_path / "out.mp4", copied)
    with pytest.raises(MediaError, match="no picture is shown between these times: is it that long"):
        extract(Cutout(plain_clip, 100.0, 101.0), tmp_path / "out.mp4", encoded)
    with pytest.raises(MediaError, match="no picture is shown between these times: is it that long"):
        extract(Cutout(plain_clip, 100.0, 101.0), tmp_path / "out.mp4", copied)
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(MediaError, match="is not a video or image"):
        extract(Cutout(tmp_path / "broken.mp4", 1.0, 2.0), tmp_path / "out.mp4", copied)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


@pytest.mark.parametrize("write", [copied, encoded])
def test_a_full_disk_leaves_nothing(plain_clip: Path, tmp_path: Path, write: Writer) -> None:
    """A limit on the size of files makes the system refuse to write on, as a full disk does."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError) as raised:
            extract(Cutout(plain_clip, 1.0, 3.0), tmp_path / "out.mp4", write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert raised.value.errno == errno.EFBIG and str(tmp_path / "out.mp4") in str(raised.value.filename)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_and_the_old_file(plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("mine")

    def interrupted(cutout: Cutout, path: Path, format: str) -> None:
        copied(cutout, path, format)
        assert path.stat().st_size > 1000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(Cutout(plain_clip, 1.0, 2.0), target, interrupted, force=True)  # type: ignore[arg-type]
    assert (list(tmp_path.iterdir()), target.read_text()) == ([target], "mine")


def test_times_are_counted_from_the_first_picture_shown(tmp_path: Path) -> None:
    path = barcode.encode(tmp_path / "late.mkv", [90 + n for n in range(90)], Fraction(1, 30), options={"g": "30"})
    made = extract(Cutout(path, 1.0, 2.0), tmp_path / "out.mkv", copied)
    assert same(numbers(made.path), of_frames(30, 60)) and made.early_s == 0.0


@pytest.mark.parametrize("write", [copied, encoded])
def test_it_ends_with_its_source_and_says_so(plain_clip: Path, tmp_path: Path, write: Writer) -> None:
    with av.open(str(plain_clip)) as container:
        length_s = container.duration / av.time_base
    made = extract(Cutout(plain_clip, 1.0, 1000.0), tmp_path / "out.mp4", write)
    assert 1000.0 - made.short_s == pytest.approx(length_s, abs=0.05)
    with av.open(str(made.path)) as container:
        assert container.duration / av.time_base == pytest.approx(length_s - 1.0, abs=0.05)
    made = extract(Cutout(plain_clip, 1.0, 2.0), tmp_path / "within.mp4", write)
    assert made.short_s == 0.0


@pytest.mark.parametrize("write", [copied, encoded])
def test_a_name_with_a_colon_is_no_protocol(
    plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    monkeypatch.chdir(tmp_path)
    assert extract(Cutout(plain_clip, 1.0, 2.0), Path("12:30 100%23.mp4"), write).path.stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["12:30 100%23.mp4"]


def test_a_fault_of_the_output_is_not_explained_by_the_source(plain_clip: Path, tmp_path: Path) -> None:
    def fails(cutout: Cutout, target: Path, format: str) -> None:
        target.mkdir()
        try:
            copied(cutout, target, format)
        finally:
            target.rmdir()

    with pytest.raises(
        MediaError,
        match=r"out\.mp4 cannot be written from .* \(Is a directory\): name another place, or \*\.mkv, or cut it",
    ):
        extract(Cutout(plain_clip, 1.0, 2.0), tmp_path / "out.mp4", fails)  # type: ignore[arg-type]


@pytest.mark.parametrize("write", [copied, encoded])
def test_what_else_the_source_holds_is_named(plain_clip: Path, tmp_path: Path, write: Writer) -> None:
    source = tmp_path / "source.mkv"
    with av.open(str(plain_clip)) as given, av.open(str(source), "w") as output:
        first, second = (output.add_stream_from_template(given.streams.video[0]) for _ in range(2))
        output.add_attachment("notes.txt", "text/plain", b"notes")
        first.disposition, second.disposition = av.stream.Disposition.default, av.stream.Disposition(0)
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = first
                output.mux(packet)
    made = extract(Cutout(source, 0.0, 1.0), tmp_path / "out.mkv", write)
    assert sorted(made.left_out) == ["attachment", "video (h264)"]
