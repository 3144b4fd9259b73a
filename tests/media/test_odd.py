"""Every file of the shared odd set ends as its README says; times are compared with ffprobe's, pictures by barcode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ivsearch.errors import MediaError
from ivsearch.media.sample import Sample, Sampling
from tests.media.barcode import read

pytestmark = pytest.mark.shared

NO_BARCODE = ("carphone", "vtest", "raw_annexb")
DAMAGED_PICTURES = {"bad/corrupt_middle_third.mp4": range(6, 10)}
OFFSET = {
    # The source does not start at picture 0, or a second recording overlaps the first by two pictures.
    "timing/ts_starts_mid_gop.ts": 60,
    "ok/animated.gif": None,
    "geometry/resolution_change.ts": None,
}
ERRORS = {
    "bad/broken_symlink.mp4": "is not a video or image: it holds text",  # a copy made a text file of the link
    "bad/corrupt_moov.mp4": "its header is damaged",
    "bad/directory.mp4": "is a directory, not a media file",
    "bad/header_only_5kB.mp4": "file ends inside its header",
    "bad/random_bytes.mp4": "is not a video or image that can be read",
    "bad/text_named.mp4": "is not a video or image: it holds text",
    "bad/truncated_no_moov.mp4": "its index \\(moov\\) is missing",
    "bad/zero_bytes.mp4": "file is empty \\(0 bytes\\)",
    "streams/audio_only.m4a": "no video stream: holds sound only",
    "streams/audio_only_named.mp4": "no video stream: holds sound only",
    "streams/audio_with_coverart.mp3": "no video stream: holds sound and cover art only",
}
WARNINGS = {
    "bad/corrupt_middle_third.mp4": "damaged: 3 of its pictures cannot be decoded",
    "bad/truncated_faststart_60pct.mp4": "truncated: pictures end at 7.4 s, but its header says 12.0 s",
    "timing/ts_pts_reset.ts": "its clock jumps back",
}


def expected_samples(readme: str) -> dict[str, int]:
    rows = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    return {row[1].strip(" `"): int(row[4]) for row in rows if row[4].strip().isdigit()}


@pytest.fixture(scope="module")
def odd(shared_media: Path) -> Path:
    return shared_media / "odd"


@pytest.fixture(scope="module")
def truth(odd: Path) -> dict[str, dict[str, list[float | None]]]:
    found: dict[str, dict[str, list[float | None]]] = json.loads((odd / "truth.json").read_text())
    return found


def test_the_readme_is_covered(odd: Path) -> None:
    assert len(expected_samples((odd / "README.md").read_text())) + len(ERRORS) >= 45


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_unreadable(odd: Path, name: str) -> None:
    with pytest.raises(MediaError, match=ERRORS[name]):
        list(Sampling(odd / name, "0" * 32))


def test_readable(odd: Path, truth: dict[str, dict[str, list[float | None]]]) -> None:
    for name, count in expected_samples((odd / "README.md").read_text()).items():
        sampling = Sampling(odd / name, "0" * 32)
        samples = list(sampling)
        assert [sample.index for sample in samples] == list(range(count)), name
        check_times(name, samples, [pts for pts in truth[name]["pts"] if pts is not None])
        check_barcodes(name, samples)
        assert (WARNINGS.get(name, "") in " ".join(sampling.media.warnings)) is True, name
        assert bool(sampling.media.warnings) == (name in WARNINGS), name


def check_times(name: str, samples: list[Sample], pts: list[float]) -> None:
    if not pts:
        return
    first = pts[0]
    for sample in samples:
        shown = max(moment for moment in pts if moment <= first + sample.index + 1e-5) - first
        assert sample.frame.pts_s == pytest.approx(shown, abs=2e-4), (name, sample.index)


def check_barcodes(name: str, samples: list[Sample]) -> None:
    if any(word in name for word in NO_BARCODE) or OFFSET.get(name, 0) is None:
        return
    offset = OFFSET.get(name, 0) or 0
    for sample in samples:
        pixels = sample.frame.pixels
        if "rotate180" in name:
            pixels = np.rot90(pixels, 2)
        if "rotate90" in name:
            assert pixels.shape == (480, 270, 3)
            pixels = np.rot90(pixels, -1)  # shown a quarter turn to the left; turn it back
        if sample.index not in DAMAGED_PICTURES.get(name, ()):
            assert read(pixels) == round(sample.frame.pts_s * 30) + offset, (name, sample.index)
