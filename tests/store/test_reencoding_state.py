"""Who only looks how far a re-encoding is, and whether it runs."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from ivsearch.store.reencoding_state import (
    LOCK,
    ReencodingState,
    Stage,
    read_state,
    reencoding_lock,
    wait_until_ended,
    write_state,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library whose re-encoding was killed."""
    (tmp_path / LOCK).touch()
    write_state(tmp_path, ReencodingState(1, "mini", stage=Stage.ENCODING))
    return tmp_path


def stage(folder: Path) -> Stage | None:
    state = read_state(folder)
    return state and state.stage


def test_one_that_stops_in_the_middle_of_a_look_makes_no_killed_one_seem_to_run(folder: Path) -> None:
    with (folder / LOCK).open("rb") as looking:
        # As a look takes it, however long the system then leaves that process without the processor.
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert stage(folder) is Stage.KILLED
        assert wait_until_ended(folder, 0)
    with reencoding_lock(folder):
        assert stage(folder) is Stage.ENCODING
        assert not wait_until_ended(folder, 0)
    assert stage(folder) is Stage.KILLED


def test_nothing_needs_to_be_writable_to_look(folder: Path) -> None:
    (folder / LOCK).chmod(0o444)
    folder.chmod(0o555)
    try:
        assert stage(folder) is Stage.KILLED
    finally:
        folder.chmod(0o755)


def test_where_none_has_ever_begun(tmp_path: Path) -> None:
    assert stage(tmp_path) is None and wait_until_ended(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
