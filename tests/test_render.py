from __future__ import annotations

import pytest

from ivsearch.render import clock, length, printable, size


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
