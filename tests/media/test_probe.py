from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ivsearch.domain import MediaKind
from ivsearch.errors import MediaError
from ivsearch.media.container import parse_moment
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.probe import probe
from tests.media.barcode import encode


def test_facts_of_a_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", range(60), metadata={"creation_time": "2020-02-03T04:05:06.000000Z"})
    media = probe(path)
    assert media.kind is MediaKind.VIDEO
    assert (media.width, media.height, media.codec) == (320, 180, "h264")
    assert media.duration_s == pytest.approx(2.0)
    assert media.fps == pytest.approx(30.0)
    assert media.recorded_at == datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert media.size_bytes == path.stat().st_size
    assert media.media_id == fingerprint(path)
    assert media.warnings == ()


def test_the_codec_is_named_not_its_decoder(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", range(3), codec="libsvtav1", options={"preset": "12"})
    assert probe(path).codec == "av1"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-07-04T18:30:05+0200", datetime(2021, 7, 4, 16, 30, 5, tzinfo=UTC)),
        ("2021-07-04 18:30:05", datetime(2021, 7, 4, 18, 30, 5, tzinfo=UTC)),
        ("1904-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("2021", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("nonsense here", None),
        ("", None),
    ],
)
def test_moments(text: str, moment: datetime | None) -> None:
    assert parse_moment(text) == moment


def test_gone(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="file is gone: it was moved or deleted after it was found; index again"):
        probe(tmp_path / "gone.mp4")


def test_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to("gone.mp4")
    with pytest.raises(MediaError, match=r"is a link to 'gone.mp4', which is not there"):
        probe(tmp_path / "a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "a.mp4").chmod(0)
    with pytest.raises(MediaError, match="no permission to read it"):
        probe(tmp_path / "a.mp4")


def test_header_only(plain_clip: Path, tmp_path: Path) -> None:
    content = plain_clip.read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: content.index(b"mdat") + 2000])
    with pytest.raises(MediaError, match=r"its index \(moov\) is missing or damaged"):
        probe(tmp_path / "a.mp4")
