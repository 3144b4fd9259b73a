"""Running the command line as a user does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ivsearch.commands.main import main
from ivsearch.encode.encoder import Encoder


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(mini: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("search", "a cat")``, in an empty folder and with no settings around. The real encoder, loaded once."""

    def cached(name: str, **wishes: object) -> Encoder:
        if name != "mini" or wishes.get("weights"):
            return original(name, **wishes)
        return mini

    import ivsearch.encode

    original = ivsearch.encode.load_encoder
    monkeypatch.setattr("ivsearch.encode.load_encoder", cached)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / "config")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def once(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ivsearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return once
