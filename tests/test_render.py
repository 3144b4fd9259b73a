from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ivsearch.domain import Hit, Hits, MediaKind, Moment, Outcome, Query, Space
from ivsearch.plain_text import clock, printable, steady
from ivsearch.render import IndexSummary, hits_text, length, size, summary_text


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0, "0:00"), (7.5, "0:07.5"), (59.96, "1:00"), (75, "1:15"), (3723.4, "1:02:03.4"), (36000, "10:00:00")],
)
def test_clock(time_s: float, text: str) -> None:
    assert clock(time_s) == text


@pytest.mark.parametrize(("time_s", "text"), [(45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_length(time_s: float, text: str) -> None:
    assert length(time_s) == text


@pytest.mark.parametrize(("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2.5 TB")])
def test_size(n_bytes: float, text: str) -> None:
    assert size(int(n_bytes)) == text


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\n\x1b[31mb 世界 é") == "a\\n\\x1b[31mb 世界 é"


@pytest.mark.parametrize(
    ("video_s", "images", "text"),
    [
        (20.0, 0, "20 s of video (2.0× real time) in 10 s"),
        (0.0, 1, "1 image in 10 s"),
        (20.0, 3, "20 s of video (2.0× real time) and 3 images in 10 s"),
    ],
)
def test_a_summary_names_what_was_there(video_s: float, images: int, text: str) -> None:
    counts = Counter({Outcome.INDEXED: 2})
    summary = IndexSummary(Path("/library"), counts, (), 0, (), video_s, images, 10.0)
    assert summary_text(summary, quiet=False).splitlines()[1] == f"{text}, in /library"


def test_what_a_model_says_cannot_steer_the_terminal() -> None:
    assert steady("two\n\tlines \x1b[31mred\r\x07 猫 👩‍🚀") == "two\n\tlines \\x1b[31mred\\r\\x07 猫 👩‍🚀"


def test_negative_scores_keep_the_columns() -> None:
    def hit(rank: int, score: float) -> Hit:
        moment = Moment(0.0, 0.0, score)
        return Hit(rank, score, Path("a.jpg"), "0" * 32, MediaKind.IMAGE, 7, 0.0, 0.0, moment)

    hits = (hit(1, 0.25), hit(2, -0.25))
    lines = hits_text(Hits(Query("x"), Space("mini", "0" * 12, 2), hits, matched=True)).splitlines()
    assert lines == [" 1   0.250  image  a.jpg  (clip 7)", " 2  -0.250  image  a.jpg  (clip 7)"]
