"""``ivsearch ask``: what is shown as it comes, and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ivsearch.library import Library
from tests.commands.conftest import Run
from tests.wire import Wire


@pytest.fixture
def folder(sample_library: Library) -> Path:
    return sample_library.folder


def test_the_text_then_its_sources(run: Run, folder: Path) -> None:
    document = json.loads(run("ask", "Where is the cat?", "--library", folder, "--json").out)
    text, _, sources = run("ask", "Where is the cat?", "--library", folder).out.partition("\n\n")
    assert text == document["answer"]
    assert [line.split()[0] for line in sources.splitlines()] == [f"[{c['label']}]" for c in document["citations"]]
    assert (document["chat"], document["sentences"], document["searched"]) == ("mini", [], "Where is the cat?")


def test_what_is_not_shown_ends_with_1_and_says_so(run: Run, folder: Path) -> None:
    done = run("ask", "a certificate of vaccination", "--library", folder)
    assert (done.code, done.err) == (1, "")
    assert done.out == "The footage does not show it: nothing found for “a certificate of vaccination”.\n"
    done = run("ask", "a certificate of vaccination", "--library", folder, "--path", "pet.jpg", "--json")
    (citation,) = json.loads(done.out)["citations"]
    assert (citation["verified"], citation["reason"]) == (False, "the cited clip does not support it")


@pytest.mark.parametrize("name", ["mini", "composed"])
def test_the_default_has_a_name(run: Run, folder: Path, name: str) -> None:
    document = json.loads(run("ask", "Where is the cat?", "--chat", name, "--library", folder, "--json").out)
    assert (document["chat"], document["composed"]) == ("mini", True)


def test_strict_needs_a_model_that_looks(run: Run, folder: Path) -> None:
    done = run("ask", "Where is the cat?", "--verify", "strict", "--library", folder)
    assert (done.code, done.out) == (2, "")
    assert "--verify strict asks the chat model to look again, and 'mini' does not look" in done.err


def test_a_model_that_watches(run: Run, folder: Path, shared: Path) -> None:
    # Its weights are random: all it says is withheld, or marked.
    weights = shared / "parity" / "iv25_168"
    arguments = ["Where is the cat?", "--path", "pet.jpg", "--chat", "internvideo2.5", "--chat-weights", weights]
    done = run("ask", *arguments, "--library", folder)
    assert done.code == 0
    assert done.out.startswith("The best match for “Where is the cat?” is pet.jpg [1].")
    assert "of the chat model withheld: not supported by the footage" in done.out
    document = json.loads(run("ask", *arguments, "--unsupported", "mark", "--library", folder, "--json").out)
    assert document["sentences"]
    assert all(each["verdict"] != "supported" and each["reason"] for each in document["sentences"])
    assert all(f"{each['text']} (not verified)" in document["answer"] for each in document["sentences"])


def test_a_warning_steers_no_terminal(sample_media: Path, tmp_path: Path, wire: Wire) -> None:
    # In a process of its own: pytest has logging handlers, and then the last resort is not asked.
    name = tmp_path / "cat\x1b[2J\u202egpj.jpg"
    name.write_bytes((sample_media / "pet.jpg").read_bytes())
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def ivsearch(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ivsearch", *map(str, words), "--library", tmp_path / "library"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert ivsearch("index", name).returncode == 0
    name.unlink()
    done = ivsearch("ask", "Where is the cat?", "--chat", "openai:m", "--endpoint", wire.url)
    assert "cat\\x1b[2J" in done.stderr and "is not shown to the chat model" in done.stderr
    assert not {"\x1b", "\u202e"} & {*done.stdout, *done.stderr}
    # There is nothing to show: the server is not asked, and what the encoder saw is said.
    assert wire.came == [] and done.returncode == 0 and "[1]" in done.stdout


@pytest.mark.parametrize("chat", [(), ("--chat", "smollm2"), ("--chat", "openai:m", "--no-pictures")])
def test_frames_are_for_models_that_watch(run: Run, folder: Path, wire: Wire, chat: tuple[str, ...]) -> None:
    done = run("ask", "Where is the cat?", "--frames", 4, *chat, "--endpoint", wire.url, "--library", folder)
    assert (done.code, done.out) == (2, "") and "--frames is for chat models that watch" in done.err


def test_weights_are_read_when_there_is_something_to_say(run: Run, folder: Path, tmp_path: Path) -> None:
    # There are none, which is told where they are needed only.
    chat = ("--chat", "internvideo2.5", "--chat-weights", tmp_path / "nowhere")
    done = run("ask", "a certificate of vaccination", *chat, "--library", folder)
    assert (done.code, done.err) == (1, "") and done.out.startswith("The footage does not show it")
    done = run("ask", "Where is the cat?", *chat, "--library", folder)
    assert done.code == 4 and "nowhere" in done.err
