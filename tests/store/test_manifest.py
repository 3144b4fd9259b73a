"""What a library remembers of its encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.manifest import COPY, NAME, EncoderSource, Manifest, check_manifest, read_manifest, write_manifest

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


MANIFEST = Manifest(BIG, 2.0, ("/media/a", "/media/b"), {BIG.key: EncoderSource("big:org/x", "/w", "clip")})


def test_a_flipped_bit_anywhere_is_noticed_and_the_copy_read(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / NAME
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        assert read_manifest(tmp_path) == MANIFEST
        # What is neither a letter of a name nor of a value (a space between two) may be flipped into another.
        if json.loads(good) != _loaded(path):
            assert "manifest.json" in next(check_manifest(tmp_path), "") or b'"checksum"' not in path.read_bytes()


def _loaded(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_what_is_damaged_is_set_aside_when_it_is_written_anew(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    (tmp_path / NAME).write_text("{")
    (tmp_path / COPY).write_text("[]")
    with pytest.raises(LibraryDamaged, match=r"manifest\.json is damaged.*`ivsearch repair` writes it anew"):
        read_manifest(tmp_path)
    assert [path.name for path in write_manifest(tmp_path, MANIFEST)] == [f"{COPY}.damaged", f"{NAME}.damaged"]
    assert list(check_manifest(tmp_path)) == [] and (tmp_path / f"{NAME}.damaged").read_text() == "{"


@pytest.mark.parametrize("name", [NAME, COPY])
def test_one_of_the_two_is_missing(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path, MANIFEST)
    (tmp_path / name).unlink()
    assert read_manifest(tmp_path) == MANIFEST
    assert [f"{name} is missing; `ivsearch repair` writes it anew" in each for each in check_manifest(tmp_path)] == [
        True
    ]


def test_a_manifest_without_a_checksum_is_of_an_older_version(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({"active": None, "fps": 1.0, "roots": [], "format": 1}))
    assert list(check_manifest(tmp_path)) == [] and read_manifest(tmp_path) == Manifest(fps=1.0)
