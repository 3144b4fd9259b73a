from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ivsearch.errors import UsageError
from ivsearch.settings import Settings, bytes_in, library_folder, load_settings


def test_later_sources_win(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project"
    for folder, text in ((user, "fps = 2\nworkers = 3\nbatch = 4\n"), (project, "workers = 5\nbatch = 6\n")):
        folder.mkdir()
        (folder / "ivsearch.toml").write_text(text)
    settings = load_settings(
        {"library": "flag", "encoder": None}, environ={"IVSEARCH_BATCH": "7"}, folders=[user, project]
    )
    assert (settings.fps, settings.workers, settings.batch, settings.library) == (2.0, 5, 7, "flag")
    assert settings.encoder == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fpz = 2", r"ivsearch\.toml: unknown setting 'fpz'; known are: library, "),
        ("fps = 'many'", r"ivsearch\.toml: setting 'fps' must be a number, not 'many'"),
        ("fps = [1]", "setting 'fps' must be a number"),
        ("workers = true", "setting 'workers' must be a whole number, not True"),
        ("strict_hash = 'maybe'", "setting 'strict_hash' must be true or false, not 'maybe'"),
        ("batch = -1", "setting 'batch' must be at least 0, not -1"),
        ("workers = -3", "setting 'workers' must be at least 0, not -3"),
        ("fps = nan", "setting 'fps' must be at least 0.001, not nan"),
        ("chat_timeout_s = inf", "setting 'chat_timeout_s' must be at most 86400, not inf"),
        ("chat_timeout_s = 1e12", "setting 'chat_timeout_s' must be at most 86400, not 1000000000000.0"),
        ("stall_s = inf", "setting 'stall_s' must be at most 86400, not inf"),
        ("batch = inf", "setting 'batch' must be a whole number, not inf"),
        ("fps = ", r"cannot read .*ivsearch\.toml: "),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ivsearch.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings(environ={}, folders=[tmp_path])


def test_mistakes_in_variables_are_named() -> None:
    with pytest.raises(UsageError, match="environment variable IVSEARCH_FPZ: unknown setting 'fpz'"):
        load_settings(environ={"IVSEARCH_FPZ": "1"}, folders=[])
    with pytest.raises(UsageError, match="environment variable IVSEARCH_FPS: setting 'fps' must be a number"):
        load_settings(environ={"IVSEARCH_FPS": "x"}, folders=[])


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("off", False), ("", False)])
def test_booleans_of_variables(text: str, value: bool) -> None:
    assert load_settings(environ={"IVSEARCH_STRICT_HASH": text}, folders=[]).strict_hash is value


def test_every_setting_has_a_help_line() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(Settings))


def test_home_is_understood() -> None:
    assert library_folder(Settings(library="~/films")) == Path.home() / "films"


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1000", 1000),
        ("6GB", 6 * 10**9),
        ("1.5 g", 1_500_000_000),
        ("512MiB", 512 << 20),
        ("2kb", 2000),
        ("7b", 7),
    ],
)
def test_sizes_in_words(text: str, size_bytes: int) -> None:
    assert bytes_in(text) == size_bytes
    assert load_settings(environ={"IVSEARCH_MEMORY_BUDGET": text}, folders=[]).memory_budget == text


@pytest.mark.parametrize("text", ["", "much", "-1GB", "6 GBs", "1e9", "GB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"'memory_budget' must be a number of bytes as 6GB, 512MiB or 1000, not "):
        load_settings(environ={"IVSEARCH_MEMORY_BUDGET": text}, folders=[])
