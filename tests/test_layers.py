"""The contracts of imports name every module: one that is forgotten may import what it likes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import ivsearch

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
HOMES = {
    "torch and what reads weights stay in models and encode": {"models", "encode"},
    "av and what reads text stay in media": {"media"},
    "faiss and sqlalchemy stay in store": {"store"},
}


def modules() -> set[str]:
    """Those right below the package, but for its front doors; ``migrations`` lies in wheels only."""
    found = {path.stem for path in Path(ivsearch.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {f"ivsearch.{name}" for name in found if not name.startswith("__") and name != "migrations"}


def test_every_module_has_a_layer() -> None:
    (layers,) = (contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    named = [name.strip() for layer in layers for name in layer.replace(":", "|").split("|")]
    assert sorted(named) == sorted(modules())


@pytest.mark.parametrize("name", HOMES)
def test_every_module_but_their_home_does_without_heavy_packages(name: str) -> None:
    (contract,) = (contract for contract in CONTRACTS if contract["name"] == name)
    assert {*contract["source_modules"]} == modules() - {f"ivsearch.{home}" for home in HOMES[name]}
