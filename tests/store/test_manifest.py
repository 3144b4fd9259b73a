"""What a library remembers of its encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.manifest import NAME, EncoderSource, Manifest, read_manifest, write_manifest

MINI, BIG = Space("mini", "a" * 16, 4), Space("big:org/x", "b" * 16, 8)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sources = {BIG.key: EncoderSource("big:org/x", "/w", "clip"), MINI.key: EncoderSource("mini")}
    manifest = Manifest(BIG, 2.0, ("/media",), sources)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert json.loads((tmp_path / NAME).read_text())["encoders"] == {
        "big-org-x-bbbbbbbbbbbb": {"name": "big:org/x", "weights": "/w", "preprocess": "clip"},
        "mini-aaaaaaaaaaaa": {"name": "mini", "weights": "", "preprocess": ""},
    }


def test_manifests_written_before_encoders_were_remembered(tmp_path: Path) -> None:
    active = {"encoder": "mini", "revision": "a" * 16, "dim": 4}
    (tmp_path / NAME).write_text(json.dumps({"active": active, "fps": 1.0, "roots": [], "format": 1}))
    manifest = read_manifest(tmp_path)
    assert manifest is not None and manifest.active == MINI and manifest.encoders == {}
    assert manifest.source_of("mini") is None


@pytest.mark.parametrize("encoders", [[1], {"key": {"weights": "/w"}}, {"key": "mini"}])
def test_encoders_that_make_no_sense(tmp_path: Path, encoders: object) -> None:
    table = {"active": None, "fps": None, "roots": [], "format": 1, "encoders": encoders}
    (tmp_path / NAME).write_text(json.dumps(table))
    with pytest.raises(LibraryDamaged, match="is damaged"):
        read_manifest(tmp_path)


def test_the_active_space_decides_between_two_weights_of_one_name() -> None:
    old, new, other = Space("big", "1" * 16, 8), Space("big", "2" * 16, 8), Space("other", "3" * 16, 8)
    sources = {old.key: EncoderSource("big", "/old"), new.key: EncoderSource("big", "/new")}
    assert Manifest(old, encoders=sources).source_of("big") == EncoderSource("big", "/old")
    assert Manifest(other, encoders=sources).source_of("big") == EncoderSource("big", "/new")
    assert Manifest(other, encoders=sources).source_of("mini") is None
