"""Every file that breaks decoders ends as the table beside it says."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from .conftest import Run

ROW = re.compile(r"\| `(?P<name>[^`]+)` \| .* \| (?P<samples>[\d-]+) \| (?P<expected>ok|error)[^|]*\|$")


def table(odd: Path) -> dict[str, tuple[str, str]]:
    rows = [ROW.match(line) for line in (odd / "README.md").read_text("utf-8").splitlines()]
    return {row["name"]: (row["expected"], row["samples"]) for row in rows if row}


@pytest.mark.shared
def test_every_odd_file_ends_as_its_table_says(run: Run, shared_media: Path, tmp_path: Path) -> None:
    odd = shared_media / "odd"
    expected = table(odd)
    assert len(expected) > 40
    started = time.monotonic()
    done = run("index", odd, "--library", tmp_path / "library", "--json")
    assert time.monotonic() - started < 180
    assert done.code == 3
    document = json.loads(done.out)
    ended = {str(Path(each["path"]).relative_to(odd)): ("ok", str(each["samples"])) for each in document["files"]} | {
        str(Path(each["path"]).relative_to(odd)): ("error", "-") for each in document["skipped"]
    }
    assert {name: ended.get(name) for name in expected} == expected
    assert all(each["reason"].strip() for each in document["skipped"])
    warned = {Path(each["path"]).name for each in document["files"] if each["warnings"]}
    assert {"corrupt_middle_third.mp4", "truncated_faststart_60pct.mp4"} <= warned
    assert run("verify", "--library", tmp_path / "library").code == 0
