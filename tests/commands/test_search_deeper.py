"""Composed queries, sequences, saved queries and --open from the command line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library
from tests.conftest import library_with
from tests.media import barcode

from .conftest import Ended, Run


@pytest.fixture
def folder(sample_library: Library) -> Path:
    return sample_library.folder


@pytest.fixture(scope="module")
def own(sample_library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the library that may be written to."""
    return Path(shutil.copytree(sample_library.folder, tmp_path_factory.mktemp("own") / "library"))


def names(done: Ended) -> list[str]:
    return [Path(hit["path"]).name for hit in json.loads(done.out)["hits"]]


def test_terms_are_composed_and_shown_in_json(run: Run, folder: Path, sample_media: Path) -> None:
    arguments = ["a", "cat", "+", f"0.1:{sample_media / 'table.jpg'}", "-", "2:coffee"]
    done = run("search", *arguments, "-k", 2, "--json", "--library", folder)
    assert json.loads(done.out)["query"] == {
        "terms": [
            {"text": "a cat", "weight": 1.0},
            {"image": str(sample_media / "table.jpg"), "weight": 0.1},
            {"text": "coffee", "weight": -2.0},
        ]
    }
    assert set(names(done)) <= {"pet.jpg", "compilation.mp4"} and done.code == 0


def test_one_quoted_text_with_signs_is_a_text(run: Run, folder: Path) -> None:
    for text in ("a cat + a dog", "well-known", "C++"):
        done = run("search", text, "--json", "--library", folder)
        assert json.loads(done.out)["query"] == text


def test_a_region_of_an_image(run: Run, folder: Path, sample_media: Path) -> None:
    image = sample_media / "table.jpg"
    one = run("search", "--image", image, "--region", "50%,50%,50%,50%", "--json", "--library", folder)
    assert json.loads(one.out)["query"]["region"] == {"x": 0.5, "y": 0.5, "width": 0.5, "height": 0.5, "unit": "shares"}
    other = run("search", f"{image}#0.5,0.5,0.5,0.5", "--json", "--library", folder)
    assert json.loads(one.out)["hits"] == json.loads(other.out)["hits"]


def test_what_follows_what(run: Run, folder: Path) -> None:
    done = run("search", "a cat", "--then", "a cup of coffee", "--within", "20s", "--json", "--library", folder)
    document = json.loads(done.out)
    assert document["query"] == {
        "text": "a cat",
        "then": [{"terms": [{"text": "a cup of coffee", "weight": 1.0}], "within_s": 20.0}],
    }
    (cat, coffee) = document["hits"][0]["steps"]
    assert names(done)[0] == "compilation.mp4" and cat["end_s"] <= coffee["start_s"] <= cat["end_s"] + 20
    assert "→" in run("search", "a cat", "--then", "a cup of coffee", "--library", folder).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to look for: a text, or --image FILE, or --clip ID (one of them); to look for several at once"),
        (["a cat", "--clip", "1"], "join them: `ivsearch search a dog + beach.jpg + clip:12`"),
        (["dog", "-snow"], "no such option: -s. To leave something out, put the minus on its own"),
        (["dog", "-5:snow"], "no such option: -5. To leave something out, put the minus on its own"),
        (["dog", "+"], "nothing stands after '+'"),
        (["--", "-", "snow"], "say also what to look for"),
        (["dog", "--bogus"], "No such option"),
        (["dog", "--region", "0,0,1,1"], "--region goes with --image FILE; elsewhere write FILE#x,y,w,h"),
        (["dog", "--within", "3"], "--within goes with --then"),
        (["a", "--then", "b", "--then", "c", "--then", "d", "--within", "1", "--within", "2"], "3 times, not 2"),
        (["a", "--then", " "], "--then needs something to look for"),
        (["a", "--then", "b", "--within", "soon"], "'soon' is not a length of time"),
        (["--clip", "9" * 20], f"there is no clip {'9' * 20}"),
        ([f"clip:{'9' * 20}"], f"there is no clip {'9' * 20}"),
        (["a", "--then", "b", "--diverse", "0"], "--then does not go with --diverse: leave one of them out"),
        (["a", "--then", "b", "--min-likely", "0.3"], "--then does not go with --min-likely"),
        (["a", "--only", "text", "--rerank", "mini"], "--only text does not go with --rerank"),
        (["a", "--only", "text", "--diverse", "0.3"], "--only text does not go with --diverse"),
        (["a", "--only", "text", "--min-likely", "0.3"], "--only text does not go with --min-likely"),
        (["a", "--only", "picture", "--save", "b"], "--save does not go with --only"),
        (["a", "--save", "b", "--rerank", "mini"], "--save does not go with --rerank"),
        (["a", "--why-not", "b.mp4", "--rerank", "mini"], "--why-not does not go with --rerank"),
        (["a", "--then", "b", "--why-not", "pet.jpg"], "--then does not go with --why-not: leave one of them out"),
        (["a", "--then", "b", "--rerank", "mini"], "--then does not go with --rerank: leave one of them out"),
        (["a", "+", "clip:1", "--min-likely", "0.3"], "a text composed with pictures does not go with --min-likely"),
        (["a", "--new"], "--new goes with a saved query: `ivsearch search @NAME --new`"),
        (["@mine", "--kind", "video"], "@mine is run as it was saved: leave the other options of the query out"),
        (["@mine", "--clip", "0"], "@mine is run as it was saved: leave the other options of the query out"),
        (["@mine", "--save", ""], "@mine is run as it was saved: leave the other options of the query out"),
        (["@mine"], "none is saved yet (search … --save NAME). To search for the words, write text:@mine"),
        (["a cat", "--save", "a/b"], "'a/b' cannot be the name of a query"),
        (["--open", "a cat"], "--open takes the rank of a hit, not 'a cat': write --open=1, or --open after the text"),
        (["a cat", "--open", "0"], "--open takes the rank of a hit, not '0'"),
    ],
)
def test_usage_errors_say_what_to_write(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    done = run("search", *arguments, "--library", folder)
    assert done.code == 2 and message in " ".join(done.err.split()), done.err


def test_queries_are_saved_listed_run_and_forgotten(run: Run, own: Path) -> None:
    assert run("queries", "--library", own).err == "no query is saved yet: `ivsearch search … --save NAME`\n"
    options = ["--kind", "video", "-k", 2, "--library", own, "--json"]
    asked = run("search", "a cat", "-", "2:snow", *options, "--save", "cats")
    again = run("search", "@cats", "--library", own, "--json")
    assert json.loads(again.out) == json.loads(asked.out) and len(names(again)) == 2
    assert len(names(run("search", "@cats", "-k", 1, "--library", own, "--json"))) == 1
    taken = run("search", "a dog", "--library", own, "--save", "cats")
    assert taken.code == 2 and "a query 'cats' is saved already" in taken.err and not taken.out
    assert run("queries", "--library", own).out == '@cats  "a cat" - 2:"snow" --kind video\n'
    assert run("queries", "show", "@cats", "--library", own).out == '"a cat" - 2:"snow" --kind video\n'
    shown = json.loads(run("queries", "show", "cats", "--json", "--library", own).out)
    assert shown["filters"] == {"kind": "video"} and (shown["k"], shown["per_media"]) == (2, None)
    assert json.loads(run("queries", "--json", "--library", own).out) == {"queries": {"cats": shown}}
    assert run("queries", "rm", "cats", "--library", own).out == "forgot @cats\n"
    gone = run("search", "@cats", "--library", own)
    assert gone.code == 2 and "there is no saved query 'cats'; none is saved yet" in gone.err
    assert run("queries", "rm", "cats", "--library", own).code == 2


@pytest.mark.parametrize(
    ("saved", "option", "message"),
    [
        (["a cat", "--then", "a cup of coffee"], ["--diverse", "0.3"], "@kept has --then, which does not go with"),
        (["a cat", "--then", "a cup of coffee"], ["--min-likely", "0.9"], "--min-likely: leave --min-likely out"),
        (["a cat", "--then", "a cup of coffee"], ["--rerank", "mini"], "--rerank: leave --rerank out"),
        (["a cat", "--then", "a cup of coffee"], ["--why-not", "pet.jpg"], "--why-not: leave --why-not out"),
        (["a cat", "+", "clip:1"], ["--min-likely", "0.9"], "@kept has a text composed with pictures, which does not"),
    ],
)
def test_nothing_is_passed_over_when_a_saved_query_is_run(
    run: Run, own: Path, saved: list[str], option: list[str], message: str
) -> None:
    assert run("search", *saved, "--save", "kept", "--library", own).code in (0, 1)
    marks = json.loads((own / "queries.json").read_text())
    refused = run("search", "@kept", *option, "--library", own)
    assert refused.code == 2 and message in " ".join(refused.err.split()), refused.err
    assert json.loads((own / "queries.json").read_text()) == marks, "it has not been run"
    assert run("queries", "rm", "kept", "--library", own).code == 0


def test_only_what_was_indexed_since(run: Run, mini: Encoder, sample_media: Path, tmp_path: Path) -> None:
    media, folder = tmp_path / "media", tmp_path / "library"
    media.mkdir()
    shutil.copy(sample_media / "table.jpg", media / "old.jpg")
    with library_with(mini, folder) as library:
        list(library.index([media]))
    assert names(run("search", "a cat", "--save", "cats", "--library", folder, "--json")) == ["old.jpg"]
    nothing = run("search", "@cats", "--new", "--library", folder)
    assert (nothing.code, nothing.out) == (1, "nothing found\n")
    shutil.copy(sample_media / "pet.jpg", media / "new.jpg")
    with library_with(mini, folder) as library:
        list(library.index([media]))
    assert names(run("search", "@cats", "--new", "--library", folder, "--json")) == ["new.jpg"]
    assert run("search", "@cats", "--new", "--library", folder).code == 1  # it was shown already
    assert set(names(run("search", "@cats", "--library", folder, "--json"))) == {"new.jpg", "old.jpg"}
    refused = run("search", "@cats", "--new", "--why-not", media / "old.jpg", "--library", folder)
    assert refused.code == 2 and "--why-not does not go with --new: leave one of them out" in refused.err
    document = json.loads((folder / "queries.json").read_text())
    document["queries"]["cats"]["seen"] = {}  # as before another encoder is used
    (folder / "queries.json").write_text(json.dumps(document))
    first = run("search", "@cats", "--new", "--library", folder, "--json")
    assert "@cats was not run with mini yet: all counts as new this once" in first.err and len(names(first)) == 2


@pytest.fixture
def players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def stand_in(folder: Path, name: str, code: int = 0) -> None:
    """A program that writes down its arguments, and ends with ``code``."""
    script = folder / name
    script.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(folder / (name + '.json'))!r}, 'w').write(json.dumps(sys.argv[1:]))\nsys.exit({code})\n"
    )
    script.chmod(0o755)


def arguments_of(folder: Path, name: str) -> list[str]:
    return json.loads((folder / f"{name}.json").read_text())


def test_a_hit_is_opened_at_its_second(run: Run, folder: Path, players: Path) -> None:
    stand_in(players, "vlc")
    done = run("search", "a cat", "--kind", "video", "--library", folder, "--json", "--open")
    best = json.loads(done.out)["hits"][0]
    assert done.code == 0 and best["moment"]["start_s"] > 10
    start, path = arguments_of(players, "vlc")
    assert float(start.removeprefix("--start-time=")) == pytest.approx(best["moment"]["start_s"], abs=1e-3)
    assert path == best["path"]
    stand_in(players, "mpv")  # begins at any frame: comes first
    done = run("search", "a cat", "--kind", "video", "--library", folder, "--json", "--open", 2)
    assert arguments_of(players, "mpv")[1] == json.loads(done.out)["hits"][1]["path"]


def test_a_player_of_ones_own_and_no_shell(
    run: Run, mini: Encoder, sample_media: Path, players: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    odd = media / "a $(touch bad) 'q' {end_s};.mp4"
    shutil.copy(sample_media / "call.mp4", odd)
    with library_with(mini, tmp_path / "library") as library:
        list(library.index([media]))
    stand_in(players, "mine")
    monkeypatch.setenv("IVSEARCH_PLAYER", "mine --from {start_s} --until={end_s} '{path}' -x")
    done = run("search", "a person", "--library", tmp_path / "library", "--open", "--json")
    moment = json.loads(done.out)["hits"][0]["moment"]
    expected = ["--from", f"{moment['start_s']:.3f}", f"--until={moment['end_s']:.3f}", str(odd), "-x"]
    assert arguments_of(players, "mine") == expected and not list(tmp_path.rglob("bad"))
    monkeypatch.setenv("IVSEARCH_PLAYER", "mine --from {start_s}")
    done = run("search", "a person", "--library", tmp_path / "library", "--open")
    assert done.code == 2 and "the setting player must hold {path}" in done.err and not done.out
    for player, message in (
        ("mine --at {start} {path}", "the setting player holds {start}; known are {path}, {start_s}, {end_s}"),
        ("mine '{path}", "the setting player cannot be read (No closing quotation): close its quotes"),
    ):
        monkeypatch.setenv("IVSEARCH_PLAYER", player)
        done = run("search", "a person", "--library", tmp_path / "library", "--open")
        assert done.code == 2 and message in done.err and not done.out
    monkeypatch.setenv("IVSEARCH_PLAYER", "nowhere {path}")
    done = run("search", "a person", "--library", tmp_path / "library", "--open")
    assert done.code == 1 and "cannot start nowhere (No such file or directory): check the setting" in done.err
    stand_in(players, "broken", 3)
    monkeypatch.setenv("IVSEARCH_PLAYER", "broken {path}")
    done = run("search", "a person", "--library", tmp_path / "library", "--open")
    assert done.code == 1 and "broken ended at once with code 3: run `broken" in done.err
    odd.unlink()
    done = run("search", "a person", "--library", tmp_path / "library", "--open")
    assert done.code == 1 and "is not there any more: run `ivsearch index`, or bring its disk back" in done.err


def test_without_a_player_the_desktop_opens_it(run: Run, folder: Path, players: Path) -> None:
    none = run("search", "a cat", "--kind", "video", "--library", folder, "--open")
    assert none.code == 1 and "install mpv or vlc, or set `player` in ivsearch.toml" in none.err
    viewer = "open" if sys.platform == "darwin" else "xdg-open"
    photo = ("search", "a cat", "--kind", "image", "--library", folder, "--open", "--json")
    none = run(*photo)
    assert none.code == 1 and f"photos are opened by {viewer}, as the desktop would, or by mpv: install" in none.err
    stand_in(players, "mpv")
    shown = json.loads(run(*photo).out)["hits"][0]["path"]
    assert arguments_of(players, "mpv") == ["--image-display-duration=inf", shown]
    (players / "mpv").unlink()
    stand_in(players, viewer)
    done = run("search", "a cat", "--kind", "video", "--library", folder, "--open")
    assert f"{viewer} opens it at the beginning: go to 0:" in done.err and done.code == 0
    assert len(arguments_of(players, viewer)) == 1
    done = run("search", "a cat", "--kind", "image", "--library", folder, "--open", "--json")
    assert arguments_of(players, viewer) == [json.loads(done.out)["hits"][0]["path"]] and done.err == ""
    beyond = run("search", "a cat", "--library", folder, "-k", 1, "--open", 5)
    assert beyond.code == 2 and "there is no hit 5 to open: only 1 was found" in beyond.err


def test_cut_by_clip_by_time_and_by_query(run: Run, folder: Path, sample_media: Path, tmp_path: Path) -> None:
    hit = json.loads(run("search", "a cat", "--kind", "video", "-k", 1, "--json", "--library", folder).out)["hits"][0]
    done = run("cut", hit["clip_id"], "-o", tmp_path / "clip.mp4", "--library", folder)
    assert done.code == 0 and "clip.mp4" in done.out and (tmp_path / "clip.mp4").stat().st_size > 1000
    done = run(
        "cut", "--query", "a cat", "--rank", 1, "--rank", 2, "-o", tmp_path / "several", "--library", folder, "--json"
    )
    files = json.loads(done.out)["files"]
    assert len(files) == 2 and sorted(Path(each["path"]) for each in files) == sorted((tmp_path / "several").iterdir())
    done = run("cut", f"{sample_media / 'call.mp4'}@0.5-0:01", "-o", tmp_path / "part.mp4", "--exact")
    assert done.code == 0 and (tmp_path / "part.mp4").exists()
    done = run("cut", f"{sample_media / 'call.mp4'}@0.5-0:01", "-o", tmp_path / "part.mp4")
    assert done.code == 2 and "is there already: name another file, or add --force" in done.err
    assert run("cut", f"{sample_media / 'call.mp4'}@0.5-0:01", "-o", tmp_path / "part.mp4", "--force").code == 0
    early = run("cut", f"{sample_media / 'call.mp4'}@2.5-3", "-o", tmp_path / "part.mkv")
    assert "s earlier at a key frame; --exact cuts there" in early.out
    picture = run("cut", "--query", "a cat", "--rank", 1, "-o", tmp_path / "several2", "--library", folder)
    assert picture.code == 0


def test_a_rank_is_the_one_that_search_shows(run: Run, folder: Path, tmp_path: Path) -> None:
    hits = json.loads(run("search", "a cat", "--json", "--library", folder).out)["hits"]
    ranks = [argument for rank in (1, 2, 3) for argument in ("--rank", rank)]
    done = run("cut", "--query", "a cat", *ranks, "-o", tmp_path / "out", "--library", folder, "--json")
    made = [(each["source"], each["start_s"]) for each in json.loads(done.out)["files"]]
    assert made == [(hit["path"], pytest.approx(hit["moment"]["start_s"], abs=1e-3)) for hit in hits[:3]]
    done = run("cut", "--query", "zxqv 9371", "-o", tmp_path / "none", "--library", folder)
    assert done.code == 0 and "nothing stands out as a match" in done.err


def test_files_of_one_name_are_cut_into_files_of_their_own(run: Run, sample_media: Path, tmp_path: Path) -> None:
    for name in ("d1", "d2"):
        (tmp_path / name).mkdir()
        shutil.copy(sample_media / "call.mp4", tmp_path / name / "v.mp4")
    spans = [f"{tmp_path / name / 'v.mp4'}@0-1" for name in ("d1", "d2", "d2")]
    for more in ([], ["--force"]):
        assert run("cut", *spans, "-o", tmp_path / "out", *more).code == 0
        there = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert there == ["v-0.0-1.0 (2).mp4", "v-0.0-1.0 (3).mp4", "v-0.0-1.0.mp4"]
    (tmp_path / "out" / "v-0.0-1.0.mp4").unlink()
    assert "(2).mp4 is there already" in " ".join(run("cut", *spans, "-o", tmp_path / "out").err.split())
    assert not (tmp_path / "out" / "v-0.0-1.0.mp4").exists()  # all are looked at before the first is written


@pytest.mark.parametrize("name", ["afile", "afile/sub"])
def test_a_file_where_a_folder_is_to_be(run: Run, sample_media: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "afile").write_text("mine")
    done = run("cut", f"{sample_media / 'call.mp4'}@0-1", "-o", tmp_path / name)
    said = " ".join(done.err.split())
    assert done.code == 2 and "a file is in its place: name another folder, or a file such as" in said
    assert (tmp_path / "afile").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to cut: clip ids or FILE@START-END, or --query TEXT"),
        (["1", "--query", "a cat"], "say what to cut: clip ids or FILE@START-END, or --query TEXT"),
        (["1", "--rank", "2"], "--rank goes with --query TEXT"),
        (["9" * 20], f"there is no clip {'9' * 20} in this library"),
        (["99999"], "there is no clip 99999 in this library; `ivsearch search` shows clip ids"),
        (["one.mp4"], "one.mp4: write the id of a clip, or FILE@START-END, as in holiday.mp4@1:30-1:45"),
        (["one.mp4@1-2"], "one.mp4: no such file"),
        (["one.mp4@2-1"], "one.mp4@2-1: the end must come after the start"),
        (["one.mp4@soon-late"], "'soon' is not a length of time"),
        (["--query", "a cat", "--rank", "1000"], "there is no hit 1000:"),
        (["1", "2"], "out.mp4 is one file for 2 hits: name a folder"),
    ],
)
def test_cut_says_what_to_write(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    done = run("cut", *arguments, "-o", "out.mp4", "--library", folder)
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
    assert list(Path.cwd().iterdir()) == []


def test_what_no_file_can_be_cut_from_or_to(run: Run, sample_media: Path, tmp_path: Path) -> None:
    done = run("cut", f"{sample_media / 'pet.jpg'}@0-1", "-o", tmp_path / "a.mp4")
    assert done.code == 2 and "pet.jpg is a picture and has no times: copy it, or write the id of its" in done.err
    done = run("cut", f"{sample_media / 'call.mp4'}@0-1", "-o", "")
    assert done.code == 2 and "--output has no name: write -o FILE, or -o . for the folder you are in" in done.err
    assert list(Path.cwd().iterdir()) == [] and not (tmp_path / "a.mp4").exists()


def test_a_cut_file_whose_source_has_gone(run: Run, mini: Encoder, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    Image.new("RGB", (32, 32), "red").save(media / "a.png")
    with library_with(mini, tmp_path / "library") as library:
        list(library.index([media]))
    done = run("cut", 1, "-o", "copy.png", "--library", tmp_path / "library")
    assert done.code == 0 and Path("copy.png").read_bytes() == (media / "a.png").read_bytes()
    (media / "a.png").unlink()
    done = run("cut", 1, "-o", "other.png", "--library", tmp_path / "library")
    assert done.code == 2 and "is not there any more: run `ivsearch index`, or bring its disk back" in done.err


def test_ctrl_c_leaves_no_half_file(tmp_path: Path) -> None:
    source = barcode.encode(tmp_path / "big.avi", range(90), codec="mpeg4", size=(1280, 720))
    (tmp_path / "out").mkdir()
    out = tmp_path / "out/a.mp4"
    command = [sys.executable, "-m", "ivsearch", "cut", f"{source}@0-3", "-o", str(out), "--exact", "--force"]
    for _ in range(20):
        started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not list(out.parent.iterdir()) and started.poll() is None:
            time.sleep(0.002)
        started.send_signal(signal.SIGTERM)  # handled as Ctrl-C, and never ignored as that may be in a background job
        _, said = started.communicate(timeout=300)
        if started.returncode != 0:
            break
        out.unlink()  # it was through before it was struck: once more
    assert started.returncode == 130 and "ivsearch: interrupted; no half file is left" in said
    assert list(out.parent.iterdir()) == []
