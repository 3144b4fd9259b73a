"""The verbs over one library of real media."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import ivsearch
from ivsearch.errors import UsageError
from ivsearch.library import Library

from .conftest import Run


@pytest.fixture
def folder(sample_library: Library) -> Path:
    return sample_library.folder


def test_index_tells_what_it_did(run: Run, sample_media: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    shutil.copy(sample_media / "pet.jpg", media)
    shutil.copy(sample_media / "call.mp4", media)
    (media / "broken\nname.mp4").write_text("no video " * 100)
    done = run("index", media, "--library", tmp_path / "library", "--json")
    assert done.code == 3
    document = json.loads(done.out)
    assert document["indexed"] == 2 and document["space"]["encoder"] == "mini"
    assert [file["status"] for file in document["files"]] == ["indexed", "indexed"]
    assert [Path(file["path"]).name for file in document["skipped"]] == ["broken\nname.mp4"]
    done = run("index", media, "--library", tmp_path / "library")
    assert done.code == 3
    assert "0 indexed, 2 unchanged, 0 linked, 0 removed, 1 skipped" in done.out
    assert "skipped: " in done.out and "broken\\nname.mp4: is not a video or image" in done.out
    quiet = run("index", media, "--library", tmp_path / "library", "-q")
    assert quiet.out.startswith("skipped: ") and quiet.out.count("\n") == 1
    lines = run("index", media, "--library", tmp_path / "library", "--jsonl").out.splitlines()
    assert sorted(json.loads(line)["status"] for line in lines) == ["skipped", "unchanged", "unchanged"]


def test_index_of_a_folder_without_media(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("index", tmp_path / "empty", "--library", tmp_path / "library")
    assert (done.code, done.out) == (0, "no videos or images there\n")
    done = run("index", "--library", tmp_path / "library2")
    assert done.code == 2 and not (tmp_path / "library2").exists()


def test_search_prints_hits_and_json_of_the_agreed_shape(run: Run, folder: Path) -> None:
    done = run("search", "a", "cat", "--library", folder, "-k", "3")
    assert done.code == 0 and "compilation.mp4" in done.out and "pet.jpg" in done.out
    assert "0:17–0:24" in done.out
    document = json.loads(run("search", "一只猫", "--library", folder, "--json").out)
    assert document["query"] == "一只猫" and document["matched"] is True
    assert set(document["space"]) == {"encoder", "revision", "dim"}
    for rank, hit in enumerate(document["hits"], 1):
        assert hit["rank"] == rank
        assert {"score", "path", "media_id", "kind", "clip_id", "start_s", "end_s", "moment"} <= set(hit)
        assert hit["start_s"] <= hit["moment"]["start_s"] <= hit["moment"]["end_s"] <= hit["end_s"]
    lines = run("search", "a cat", "--library", folder, "--jsonl", "-k", "2").out.splitlines()
    assert [json.loads(line)["rank"] for line in lines] == [1, 2]


def test_search_with_nothing_to_find_ends_with_1(run: Run, folder: Path) -> None:
    done = run("search", "a cat", "--library", folder, "--path", "none*")
    assert (done.code, done.out) == (1, "nothing found\n")
    document = json.loads(run("search", "a cat", "--library", folder, "--path", "none*", "--json").out)
    assert document["matched"] is False and document["filters"] == {"path": ["none*"]}


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["--kind", "image"], {"image"}),
        (["--min-duration", "1s"], {"video"}),
        (["--max-duration", "0:00"], {"image"}),
        (["--after", "2000-01-01"], {"image", "video"}),
        (["--before", "2000-01-01"], set()),
        (["--path", "*/street.mp4"], {"video"}),
    ],
)
def test_filters(run: Run, folder: Path, arguments: list[str], kinds: set[str]) -> None:
    done = run("search", "a thing", "--library", folder, "--json", "-k", "50", *arguments)
    assert {hit["kind"] for hit in json.loads(done.out)["hits"]} == kinds


def test_search_by_image_and_by_clip(run: Run, folder: Path, sample_media: Path) -> None:
    done = run("search", "--image", sample_media / "pet.jpg", "--library", folder, "--json")
    document = json.loads(done.out)
    assert document["query"] == {"image": str(sample_media / "pet.jpg")}
    assert Path(document["hits"][0]["path"]).name == "pet.jpg"
    clip_id = document["hits"][0]["clip_id"]
    done = run("search", "--clip", clip_id, "--library", folder, "-k", "1")
    assert "compilation.mp4" in done.out
    done = run("search", "--clip", "999999", "--library", folder)
    assert done.code == 2 and "there is no clip 999999" in done.err


def test_ask_answers_with_citations(run: Run, folder: Path) -> None:
    done = run("ask", "Where is the cat?", "--library", folder, "--json")
    assert done.code == 0
    document = json.loads(done.out)
    assert {"question", "answer", "citations", "grounded", "chat"} <= set(document)
    assert document["composed"] is True and document["grounded"] is True
    assert Path(document["citations"][0]["path"]).name in ("pet.jpg", "compilation.mp4")
    for citation in document["citations"]:
        assert {"label", "path", "start_s", "end_s", "verified", "support"} <= set(citation)
        assert f"[{citation['label']}]" in document["answer"]
    done = run("ask", "Where is the cat?", "--library", folder)
    assert done.code == 0 and "[1] " in done.out


def test_ask_says_when_there_is_nothing(run: Run, folder: Path) -> None:
    done = run("ask", "Where is the cat?", "--library", folder, "--path", "none*", "--json")
    assert done.code == 1
    document = json.loads(done.out)
    assert document["citations"] == [] and document["grounded"] is False and document["answer"]


def test_ask_ends_with_1_when_nothing_fits_clearly(run: Run, folder: Path) -> None:
    question = "Where does the giraffe play the violin on the moon?"
    done = run("ask", question, "--library", folder, "--json")
    document = json.loads(done.out)
    assert document["matched"] is False and done.code == 1


def test_texts_that_are_not_utf8(run: Run, folder: Path) -> None:
    for verb in ("search", "ask"):
        done = run(verb, "caf\udce9", "--library", folder)
        assert done.code == 2 and "not valid UTF-8" in done.err


def test_chat_goes_on(run: Run, folder: Path) -> None:
    done = run("chat", "-q", "Is there a cat?", "-q", "Where is it?", "--library", folder, "--jsonl")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["question"] for answer in answers] == ["Is there a cat?", "Where is it?"]
    assert Path(answers[1]["citations"][0]["path"]).name in ("pet.jpg", "compilation.mp4")


def test_chat_with_json_prints_one_document(run: Run, folder: Path) -> None:
    one = json.loads(run("chat", "-q", "Is there a cat?", "--library", folder, "--json").out)
    assert one["question"] == "Is there a cat?"
    two = json.loads(run("chat", "-q", "Is there a cat?", "-q", "Where is it?", "--library", folder, "--json").out)
    assert [answer["question"] for answer in two["answers"]] == ["Is there a cat?", "Where is it?"]


def test_stats_verify_doctor(run: Run, folder: Path) -> None:
    stats = json.loads(run("stats", "--library", folder, "--json").out)
    assert (stats["videos"], stats["images"], stats["skipped"]) == (4, 7, [])
    assert "4 videos" in run("stats", "--library", folder).out
    assert run("verify", "--library", folder).out == "sound\n"
    assert json.loads(run("verify", "--library", folder, "--json").out) == {"sound": True, "problems": []}
    done = run("doctor", "--library", folder)
    assert done.code == 0 and "h264" in done.out and "sound" in done.out
    checks = {check["name"]: check for check in json.loads(run("doctor", "--library", folder, "--json").out)["checks"]}
    assert checks["library"]["state"] == "ok"


def test_rm_verify_and_repair(run: Run, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    listed = json.loads(run("search", "a cat", "--library", copy, "--json").out)["hits"]
    pet = next(hit["path"] for hit in listed if hit["path"].endswith("pet.jpg"))
    done = run("rm", pet, "--library", copy)
    assert done.code == 0 and "forgot" in done.out
    assert "pet.jpg" not in run("search", "a cat", "--library", copy).out
    done = run("rm", pet, "--library", copy)
    assert done.code == 1 and "nothing of that is in the library" in done.err
    assert "`ivsearch compact` frees them" not in run("stats", "--library", copy).out
    index = next((copy / "index").rglob("*.rows"))
    index.write_bytes(index.read_bytes()[:-5])
    done = run("verify", "--library", copy)
    assert done.code == 1 and "holds fewer than" in done.out
    assert "anew" in run("repair", "--library", copy).out
    assert run("verify", "--library", copy).code == 0
    run("rm", Path(pet).parent, "--library", copy)
    dead = json.loads(run("stats", "--library", copy, "--json").out)["dead_bytes"]
    assert dead == sum(path.stat().st_size for path in (copy / "vectors").rglob("*.seg")) > 0
    assert "of the vectors are of no use any more: `ivsearch compact` frees them" in run("stats", "--library", copy).out
    (compacted,) = json.loads(run("compact", "--library", copy, "--json").out)["spaces"]
    assert (compacted["before_bytes"], compacted["after_bytes"]) == (dead, 0)
    assert ": freed 0 B, 0 B are left" in run("compact", "--library", copy).out
    assert run("repair", "--library", copy).out == "nothing to mend\n"


def test_the_library_is_found_where_the_help_says(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    assert f"there is no library at {tmp_path / 'data' / 'default'}" in run("stats").err
    (here / "indexes").mkdir()
    assert "there is no library at indexes/default" in run("stats").err
    monkeypatch.setenv("IVSEARCH_LIBRARY", str(folder))
    assert run("stats").code == 0
    assert "there is no library at other" in run("stats", "--library", "other").err


def test_nothing_touches_the_network(
    run: Run, folder: Path, sample_media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("looks up a host"))
    assert run("index", sample_media / "pet.jpg", "--library", tmp_path / "library").code == 0
    assert run("search", "a cat", "--library", folder).code == 0
    assert run("ask", "Where is the cat?", "--library", folder).code == 0
    assert run("doctor", "--library", folder).code == 0


# Commits after every file, and not only after two seconds, in which a fast machine may be through with all of them.
AT_ONCE = """
from ivsearch import ingest
from ivsearch.commands.main import main
ingest.COMMIT_MEDIA = 1
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_keep_what_is_done(run: Run, sample_media: Path, tmp_path: Path, number: int) -> None:
    library = tmp_path / "library"
    short, long = sample_media / "pet.jpg", sample_media / "compilation.mp4"
    # Whoever started the tests may ignore SIGINT, and ivsearch would inherit that; SIGTERM must work also then.
    before = signal.signal(signal.SIGINT, signal.default_int_handler if number == signal.SIGINT else signal.SIG_IGN)
    with subprocess.Popen(
        [sys.executable, "-c", AT_ONCE, "index", short, long, "--library", library, "--jsonl", "--fps", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "IVSEARCH_BATCH": "1"},
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert err.strip() == "ivsearch: interrupted; finished files are kept"
    assert (first["path"], first["status"]) == (str(short), "indexed")
    assert run("verify", "--library", library).code == 0
    assert run("search", "a thing", "--library", library, "--min-likely", "0").code == 0
    # At a tenth of the rate: that runs go on where they stopped is what the kills show.
    done = run("index", "--fps", "1", "--library", library, "--json")
    assert done.code == 0 and str(long) in {each["path"] for each in json.loads(done.out)["files"]}


def test_a_video_is_no_image_to_search_by(run: Run, folder: Path, sample_media: Path) -> None:
    done = run("search", "--image", sample_media / "call.mp4", "--library", folder)
    assert done.code == 2 and "call.mp4 is a video: search by one of its clips (--clip ID), or by an image" in done.err


def test_reindex_and_the_kinds_of_index(run: Run, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = json.loads(run("search", "a cat", "--library", copy, "--json").out)["hits"]
    for kind in ("ivf-sq8", "ivf-rabitq", "flat"):
        done = run("reindex", "--kind", kind, "--library", copy, "--json")
        (index,) = json.loads(done.out)["indexes"]
        assert (done.code, index["kind"], index["clips"] > 3) == (0, kind, True)
        assert ("training" in done.err) == (kind != "flat")
        # A page of a library is found whole, whatever finds it.
        assert json.loads(run("search", "a cat", "--library", copy, "--json").out)["hits"] == before
        assert run("verify", "--library", copy).code == 0
    done = run("reindex", "--library", copy, "--memory-budget", "1MB")
    assert done.code == 0 and ": flat, " in done.out and "on disk" in done.out
    done = run("reindex", "--library", copy, "--memory-budget", "lots")
    assert done.code == 2 and "memory_budget must be a number of bytes as 6GB, 512MiB or 1000, not 'lots'" in done.err
    with ivsearch.open_library(copy) as library, pytest.raises(UsageError, match="unknown kind of index 'hnsw'; known"):
        library.reindex("hnsw")
