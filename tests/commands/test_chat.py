"""``ivsearch chat`` with files or with a model alone: the official chats, a real server, and the embedded encoder."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from ivsearch.library import Library
from tests.llama_server import KEY
from tests.wire import Wire, events, piece, said, status

from .conftest import Run

FAMILIES = {
    "chat_qwen2": "internvl2.5",
    "chat_llama": "internvl2",
    "iv25_168": "internvideo2.5",
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IVSEARCH_CHAT") or name == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


class Official:
    """The chats of one parity fixture: what was asked, about which pictures, and what the official code answered."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.images = folder, folder.parent / "images"
        self.chats: list[dict[str, Any]] = json.loads((folder / "chats.json").read_text())
        self.expected = dict(np.load(folder / "expected.npz"))

    def lines(self) -> list[dict[str, Any]]:
        """A JSON line a chat, with what its answer must be. Those with pictures of another size than the model's own
        cannot be asked for with files."""
        found = []
        pictures: list[Any] = []
        usual = self.chats[0].get("frame_size")
        for chat in self.chats:
            if chat.get("frame_size") != usual:
                continue
            if chat.get("method") == "batch_chat":
                found += self._batch(chat)
                continue
            if not chat["name"].endswith("turn2"):
                pictures = chat.get("images") or chat.get("frames") or []
            line = {"question": chat["question"], "history": chat["history"] or [], **self._shown(pictures)}
            ids = self.expected[f"{chat['name']}__output_ids"][0].tolist()
            found.append({"name": chat["name"], "line": line, "answer": chat["response"], "token_ids": ids})
        return found

    def _shown(self, pictures: list[Any]) -> dict[str, Any]:
        names = [each if isinstance(each, str) else each[0] for each in pictures]
        most = [each[1] for each in pictures if not isinstance(each, str)]
        shown: dict[str, Any] = {"images": [str(self.images / name) for name in names]} if names else {}
        return {**shown, "max_tiles": most} if most else shown

    def _batch(self, chat: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        pictures = chat.get("images") or chat["frames"]
        counts = chat["num_patches_list"] if "frames" in chat else [1] * len(chat["questions"])
        for row, question in enumerate(chat["questions"]):
            start = sum(counts[:row])
            line = {"question": question, **self._shown(pictures[start : start + counts[row]])}
            ids = self.expected["batch__output_ids"][row].tolist()
            # Alone, an answer ends with its end; in a batch it is filled up to the longest.
            if chat.get("eos_token_id") in ids:
                ids = ids[: ids.index(chat["eos_token_id"]) + 1]
            found.append({"name": f"batch {row}", "line": line, "answer": chat["response"][row], "token_ids": ids})
        return found


@pytest.fixture(params=FAMILIES)
def official(request: pytest.FixtureRequest, shared: Path) -> Official:
    return Official(shared / "parity" / request.param)


def options(official: Official) -> tuple[str, ...]:
    name = FAMILIES[official.weights.name]
    return ("--chat", name, "--weights", str(official.weights), "--dtype", "float32", "--max-new-tokens", "20")


# ---- the official models ----


def test_every_official_chat_from_lines(run: Run, official: Official, typed: Any) -> None:
    cases = official.lines()
    assert len(cases) >= 10
    typed("".join(json.dumps(case["line"]) + "\n" for case in cases))
    done = run("chat", *options(official), "--jsonl")
    assert (done.code, done.err) == (0, "")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["line"] for answer in answers] == list(range(1, len(cases) + 1))
    for case, answer in zip(cases, answers, strict=True):
        found = (answer["question"], answer["answer"], answer["token_ids"])
        assert found == (case["line"]["question"], case["answer"], case["token_ids"]), case["name"]
        assert answer["images"] == case["line"].get("images", []) and answer["video"] is None


def test_an_official_conversation_without_pictures(run: Run, shared: Path) -> None:
    official = Official(shared / "parity" / "chat_qwen2")
    cases = {case["name"]: case for case in official.lines()}
    turns = [cases["text_turn1"], cases["text_turn2"]]
    questions = [word for turn in turns for word in ("-q", turn["line"]["question"])]
    done = run("chat", *options(official), *questions, "--json")
    answers = json.loads(done.out)["answers"]
    assert [answer["answer"] for answer in answers] == [turn["answer"] for turn in turns]
    assert [answer["token_ids"] for answer in answers] == [turn["token_ids"] for turn in turns]
    assert run("chat", *options(official), *questions).out == "".join(f"{turn['answer']}\n\n" for turn in turns)


@pytest.mark.parametrize(("folder", "first"), [("chat_qwen2", "video_turn1"), ("iv25_168", "f8_turn1")])
def test_an_official_conversation_about_pictures(run: Run, shared: Path, folder: str, first: str) -> None:
    official = Official(shared / "parity" / folder)
    cases = {case["name"]: case for case in official.lines()}
    turns = [cases[first], cases[first.replace("turn1", "turn2")]]
    images = [word for image in turns[0]["line"]["images"] for word in ("--image", image)]
    tiles = ["--max-tiles", "1"] if "max_tiles" in turns[0]["line"] else []
    questions = [word for turn in turns for word in ("-q", turn["line"]["question"])]
    done = run("chat", *options(official), *images, *tiles, *questions, "--jsonl")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["answer"] for answer in answers] == [turn["answer"] for turn in turns]
    assert [answer["token_ids"] for answer in answers] == [turn["token_ids"] for turn in turns]


def test_one_question_is_one_document(run: Run, shared: Path) -> None:
    official = Official(shared / "parity" / "chat_qwen2")
    case = next(case for case in official.lines() if case["name"] == "single_turn1")
    (image,) = case["line"]["images"]
    asked = ("--image", image, "--max-tiles", case["line"]["max_tiles"][0], "-q", case["line"]["question"])
    document = json.loads(run("chat", *options(official), *asked, "--json").out)
    assert document.pop("seconds") > 0
    assert document == {
        "question": case["line"]["question"],
        "answer": case["answer"],
        "token_ids": case["token_ids"],
        "chat": "internvl2.5",
        "video": None,
        "images": [image],
        "frames": [],
    }


def test_a_video_is_the_frames_the_official_rule_takes(run: Run, shared: Path, tmp_path: Path) -> None:
    """A video without loss, in which the frames of an official chat stand where the rule looks, and others between."""
    official = Official(shared / "parity" / "iv25_168")
    chats = {chat["name"]: chat for chat in official.chats}
    first, second = chats["f16_turn1"], chats["f16_turn2"]
    n, k = 40, 16
    wanted = [int((n - 1) / k / 2 + round((n - 1) / k * i)) for i in range(k)]
    pictures = [np.asarray(Image.open(official.images / name).convert("RGB")) for name in first["frames"]]
    video = tmp_path / "video.mkv"
    with av.open(video, "w") as container:
        stream = container.add_stream("ffv1", rate=10, pix_fmt="bgr0")
        stream.height, stream.width = pictures[0].shape[:2]
        for number in range(n):
            shown = pictures[wanted.index(number)] if number in wanted else np.full_like(pictures[0], 5 * number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())
    question = first["question"].rpartition("<image>\n")[2]
    asked = ("--video", video, "--frames", k, "-q", question, "-q", second["question"])
    found = json.loads(run("chat", *options(official), *asked, "--json").out)["answers"]
    assert [answer["answer"] for answer in found] == [first["response"], second["response"]]
    ids = [official.expected[f"{name}__output_ids"][0].tolist() for name in ("f16_turn1", "f16_turn2")]
    assert [answer["token_ids"] for answer in found] == ids
    assert {answer["video"] for answer in found} == {str(video)}
    looks = [{"index": number, "pts_s": number / 10} for number in wanted]
    assert [answer["frames"] for answer in found] == [looks, looks]


# ---- a model on a server ----


def real(url: str, *words: object) -> tuple[object, ...]:
    return ("chat", "--chat", "openai:smollm2", "--endpoint", url, "--max-new-tokens", 16, *words)


def test_a_real_server(run: Run, llama_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    questions = ("-q", "What is the capital of France? Answer in one sentence.", "-q", "And of Italy?")
    done = run(*real(llama_server, *questions, "--json"))
    answers = json.loads(done.out)["answers"]
    assert done.code == 0 and "Paris" in answers[0]["answer"] and KEY not in done.out + done.err
    assert answers[0]["token_ids"] == [] and answers[0]["chat"] == "openai:smollm2"
    plain = run(*real(llama_server, *questions))
    assert plain.out == "".join(f"{answer['answer']}\n\n" for answer in answers)


def test_a_real_server_that_takes_no_pictures(
    run: Run, llama_server: str, sample_media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    done = run(*real(llama_server, "--image", sample_media / "pet.jpg", "-q", "What is this?"))
    assert done.code == 2 and "takes no pictures" in done.err and "--no-pictures" in done.err


def test_a_real_server_without_its_key(run: Run, llama_server: str) -> None:
    done = run(*real(llama_server, "-q", "Hello"))
    assert done.code == 4 and "wants a key: set OPENAI_API_KEY" in done.err and done.out == ""


def test_an_answer_that_breaks_off(run: Run, wire: Wire) -> None:
    wire.answers = [events(piece("The cat "), piece("sat"), end=False)]
    done = run(*real(wire.url, "-q", "What?"))
    assert (done.code, done.out) == (4, "The cat sat\n") and "the answer is not whole" in done.err
    done = run(*real(wire.url, "-q", "What?", "--json"))
    document = json.loads(done.out)
    assert done.code == 4 and document["answer"] == "The cat sat" and "is not whole" in document["error"]
    done = run(*real(wire.url, "-q", "What?", "-q", "And then?", "--jsonl"))
    assert done.code == 4 and len(done.out.splitlines()) == 1 and "is not whole" in json.loads(done.out)["error"]


def test_what_a_server_says_does_not_steer_the_terminal(run: Run, wire: Wire) -> None:
    wire.answers = [said("red\x1b[31m", "\r\x00 two\n\tlines")]
    assert run(*real(wire.url, "-q", "What?")).out == "red\\x1b[31m\\r\\x00 two\n\tlines\n\n"


def test_a_typed_conversation(run: Run, wire: Wire, typed: Any) -> None:
    wire.answers = [said("One."), said("Two.")]
    typed("first\n\nsecond\n")
    assert run(*real(wire.url)).out == "One.\n\nTwo.\n\n"
    assert [message["content"] for message in wire.came[1].document["messages"]] == ["first", "One.", "second"]


def test_a_typed_conversation_goes_on_after_a_fault(run: Run, wire: Wire, typed: Any) -> None:
    wire.answers = [said("One."), events(piece("Half"), end=False), status(418, b"no tea"), said("Four.")]
    typed("first\nsecond\nthird\nfourth\n")
    done = run(*real(wire.url))
    assert (done.code, done.out) == (4, "One.\n\nHalf\n\n\nFour.\n\n")
    assert [line.split(": ")[-1] for line in done.err.splitlines()] == [
        "the answer is not whole, ask again",
        "no tea)",
    ]
    contents = [message["content"] for message in wire.came[-1].document["messages"]]
    assert contents == ["first", "One.", "second", "Half", "fourth"]


def test_what_was_answered_before_a_fault_is_kept(run: Run, wire: Wire) -> None:
    asked = ("-q", "first", "-q", "second", "-q", "third", "--json")
    wire.answers = [said("One."), status(418, b"no tea")]
    done = run(*real(wire.url, *asked))
    answers = json.loads(done.out)["answers"]
    assert (done.code, [each["answer"] for each in answers]) == (4, ["One.", ""])
    assert "no tea" in answers[1]["error"] and "no tea" in done.err
    wire.answers = [said("One."), status(413)]
    done = run(*real(wire.url, *asked))
    assert done.code == 2 and "more than it takes at once" in json.loads(done.out)["answers"][1]["error"]


def test_an_answer_from_a_library_that_breaks_off(run: Run, wire: Wire, sample_library: Library, typed: Any) -> None:
    cut = events(piece("A cat looks into the camera [1]. "), piece("It"), end=False)
    server = ("--chat", "openai:m", "--endpoint", wire.url, "--library", sample_library.folder)
    wire.answers = [cut]
    for words in (("ask", "Where is the cat?"), ("chat", "-q", "Where is the cat?")):
        done = run(*words, *server)
        assert done.code == 4 and "the answer is not whole" in done.err.splitlines()[-1] and "[1] " in done.out
        assert done.out.endswith("\n")
        done = run(*words, *server, "--json")
        document = json.loads(done.out)
        assert done.code == 4 and "is not whole" in document["error"] and document["citations"]
    typed("Where is the cat?\nWhere is the cat?\n")
    done = run("chat", *server)
    assert done.code == 4 and done.out.count("[1] ") == 2 and done.err.count("is not whole") == 2


def test_what_the_chat_says_of_sentences_withheld(run: Run, wire: Wire, sample_library: Library) -> None:
    false = "A certificate of vaccination is signed by hand [1]."
    wire.answers = [said(f"A cat looks into the camera [1]. {false} {false}")]
    server = ("--chat", "openai:m", "--endpoint", wire.url, "--library", sample_library.folder)
    for verb in (("ask", "Where is the cat?"), ("chat", "-q", "Where is the cat?")):
        withheld = run(*verb, *server).out
        assert "2 sentences of the chat model withheld: not supported by the footage (--unsupp" in withheld
        marked = run(*verb, *server, "--unsupported", "mark").out
        assert f"{false} (not verified)" in marked and "withheld" not in marked
        # One that was shown nothing has its inventions withheld in any case: there is no advice.
        assert "--unsupported" not in run(*verb, *server, "--no-pictures").out
    done = run(*real(wire.url, "-q", "What?", "--verify", "strict"))
    assert done.code == 2 and "--verify and --unsupported are for answers from a library" in done.err


def test_a_strict_chat_asks_again(run: Run, wire: Wire, sample_library: Library) -> None:
    wire.answers = [said("A cat looks into the camera [1]."), said("No.")]
    server = ("--chat", "openai:m", "--endpoint", wire.url, "--library", sample_library.folder)
    out = run("chat", "-q", "Where is the cat?", *server, "--verify", "strict").out
    assert "1 sentence of the chat model withheld" in out and len(wire.came) >= 2


def test_half_a_character_ends_nothing(run: Run, wire: Wire, typed: Any) -> None:
    wire.answers = [said("yes")]
    lines = [
        '{"question": "half \\ud83d"}',
        '{"question": "a", "image": "half\\ud83d.jpg"}',
        '{"question": "a", "image": "nul\\u0000.jpg"}',
        '{"question": "a", "half \\ud83d": 1}',
        '{"question": "a", "history": [["\\ud83d", "b"]]}',
        '{"question": "a"}',
    ]
    typed("\n".join(lines) + "\n")
    done = run(*real(wire.url, "--jsonl"))
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 3 and [answer["line"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert "holds half a character" in answers[0]["error"] and answers[5]["answer"] == "yes"
    assert answers[1]["error"] == "half\ud83d.jpg: no such file" and "unknown key" in answers[3]["error"]


def test_a_folder_is_no_picture(run: Run, wire: Wire, sample_media: Path, typed: Any) -> None:
    for option in ("--image", "--video"):
        for chat in (real(wire.url), ("chat", "--chat", "mini")):
            done = run(*chat, option, sample_media, "-q", "What?")
            assert done.code == 2 and "is a folder: name files, or index it" in " ".join(done.err.split())
    typed(json.dumps({"question": "a", "image": str(sample_media)}) + "\n")
    assert "is a folder: name a file" in run("chat", "--chat", "mini", "--jsonl").out
    assert wire.came == []


def test_how_it_is_to_speak(run: Run, wire: Wire) -> None:
    wire.answers = [said("x")]
    run(*real(wire.url, "-q", "a", "--temperature", 0.7, "--top-p", 0.5, "--seed", 3))
    document = wire.came[0].document
    wanted = {"max_tokens": 16, "temperature": 0.7, "top_p": 0.5, "seed": 3}
    assert {name: document[name] for name in wanted} == wanted


def test_frames_and_images_reach_the_server(run: Run, wire: Wire, sample_media: Path) -> None:
    wire.answers = [said("x")]
    asked = ("--video", sample_media / "call.mp4", "--frames", 3, "--image", sample_media / "pet.jpg", "-q", "What?")
    assert run(*real(wire.url, *asked)).code == 0
    parts = wire.came[0].document["messages"][0]["content"]
    assert sum(part["type"] == "image_url" for part in parts) == 4
    frames = json.loads(run(*real(wire.url, *asked, "--json")).out)["frames"]
    times = [part["text"] for part in parts if part["type"] == "text" and part["text"].endswith(" s:")]
    assert [f"{frame['pts_s']:.1f} s:" for frame in frames] == times


def test_lines_that_are_wrong_do_not_end_the_others(
    run: Run, wire: Wire, typed: Any, sample_media: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    lines = [
        ('{"question": "one"}', None),
        ("{bad", "no JSON: "),
        ("[1]", 'not an object: write {"question": "…"} on a line'),
        ('{"question": "a", "color": 1}', "unknown key 'color'; known are: question, image, images, video, frames"),
        ('{"question": " "}', '"question" must be a text that is not empty'),
        ('{"question": "a", "image": "x.jpg", "images": []}', '"image" and "images" both name pictures'),
        ('{"question": "a", "images": "x.jpg"}', '"image" must be a path, "images" a list of them'),
        ('{"question": "a", "video": 5}', '"video" must be a path'),
        ('{"question": "a", "video": "none.mp4"}', "none.mp4: no such file"),
        ('{"question": "a", "frames": 513}', '"frames" must be a number from 1 to 512'),
        ('{"question": "a", "max_tiles": [0]}', '"max_tiles" must be a number from 1 on, or a list of them'),
        ('{"question": "a", "history": [["b"]]}', '"history" must be a list of [question, answer]'),
        (json.dumps({"question": "a", "image": str(tmp_path / "bad.jpg")}), "bad.jpg: cannot be read as an image"),
        ('{"question": "caf\udce9"}', "the text is not valid UTF-8"),
        (json.dumps({"question": "two", "image": str(sample_media / "pet.jpg")}), None),
        ('{"question": "three", "history": [["b", "c"]]}', "refuses the request (418)"),
        ('{"question": "four"}', None),
    ]
    wire.answers = [said("yes"), said("yes"), status(418), said("yes")]
    typed("\n".join(line for line, _ in lines) + "\n")
    done = run(*real(wire.url, "--jsonl"))
    assert done.code == 3 and "Traceback" not in done.err
    answers = [json.loads(line) for line in done.out.splitlines()]
    for number, ((line, message), answer) in enumerate(zip(lines, answers, strict=True), 1):
        assert answer["line"] == number
        if message is None:
            assert answer["answer"] == "yes" and "error" not in answer, line
        else:
            assert message in answer["error"] and "answer" not in answer, line


def test_ctrl_c_leaves_cleanly(wire: Wire, tmp_path: Path) -> None:
    wire.answers = [events(*[piece("word ")] * 1000, pause_s=0.2)]
    words = [sys.executable, "-m", "ivsearch", *map(str, real(wire.url, "-q", "Go on"))]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    # Whoever started the tests may ignore SIGINT, and ivsearch would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    # It comes while it is said.
    assert process.stdout.read(5) == "word "
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=150)
    # Well before the answer ends by itself.
    assert process.returncode == 130 and time.monotonic() - started < 100
    assert set(out.split()) <= {"word"} and out.endswith("\n") and err == "ivsearch: interrupted\n"


def test_the_doctor_asks_the_server(run: Run, llama_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> dict[str, str]:
        checks = json.loads(run("doctor", "--json").out)["checks"]
        return next(check for check in checks if check["name"] == "model server")

    monkeypatch.setenv("IVSEARCH_CHAT_ENDPOINT", llama_server)
    found = check()
    assert found["state"] == "warn" and "wants a key: set OPENAI_API_KEY" in found["detail"]
    assert found["advice"] == "start it, or name another with --endpoint"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert check() == {
        "name": "model server",
        "state": "ok",
        "detail": f"{llama_server} has smollm2",
        "advice": "",
    }
    monkeypatch.setenv("IVSEARCH_CHAT", "openai:other")
    found = check()
    assert found["state"] == "warn" and found["detail"].endswith("has smollm2, but not other")
    assert found["advice"] == "name one it has with --chat openai:MODEL"


def test_the_doctor_knows_the_latest(run: Run, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["qwen2.5vl:latest", "llama3.2:3b", "\x1b[2J\u202eevil\n"]
    wire.answers = [status(200, json.dumps({"data": [{"id": name} for name in names]}).encode())]
    monkeypatch.setenv("IVSEARCH_CHAT_ENDPOINT", wire.url)
    for wanted, state in (("qwen2.5vl", "ok"), ("qwen2.5vl:latest", "ok"), ("llama3.2", "warn"), ("qwen2.5", "warn")):
        monkeypatch.setenv("IVSEARCH_CHAT", f"openai:{wanted}")
        out = run("doctor").out
        (line,) = [line for line in out.splitlines() if "model server" in line]
        assert line.startswith(state) and "has qwen2.5vl:latest, llama3.2:3b, [2Jevil" in line
        assert "\x1b" not in out and "\u202e" not in out


def test_the_list_of_models_names_every_chat(run: Run) -> None:
    listed = run("models").out.partition("chat models (--chat)")[2]
    for name in ("mini", "internvideo2.5", "internvl2.5", "internvl2", "openai:MODEL", "smollm2"):
        assert f"\n  {name} " in listed


# ---- which one is asked ----


def test_the_library_there_is_is_asked(run: Run, wire: Wire, sample_media: Path) -> None:
    wire.answers = [said("I see nothing.")]
    assert run("index", sample_media / "pet.jpg", "--library", "indexes/default").code == 0
    document = json.loads(run(*real(wire.url, "-q", "Hello")[:5], "-q", "Where is the cat?", "--json").out)
    assert "citations" in document
    document = json.loads(run(*real(wire.url, "-q", "Hello", "--no-library", "--json")).out)
    assert "citations" not in document and document["answer"] == "I see nothing."
    done = run(*real(wire.url, "-q", "Hello"))
    assert (
        done.code == 2 and "--max-new-tokens is for a chat model alone: add --no-library, --video or --im" in done.err
    )


def test_mini_is_shown_files(run: Run, sample_media: Path) -> None:
    asked = ("--video", sample_media / "compilation.mp4", "--image", sample_media / "table.jpg")
    done = run("chat", *asked, "-q", "Where is the cat?", "-q", "And a cup of coffee?", "--json")
    assert done.code == 0
    first, second = json.loads(done.out)["answers"]
    cited = first["citations"][0]
    # The compilation shows a cat from 17 s to 24 s.
    assert Path(cited["path"]).name == "compilation.mp4"
    assert abs(cited["start_s"] - 17) < 2 and abs(cited["end_s"] - 24) < 2 and cited["verified"]
    assert first["composed"] and first["token_ids"] == [] and first["video"] == str(sample_media / "compilation.mp4")
    assert {Path(each["path"]).name for each in second["citations"]} <= {"table.jpg", "compilation.mp4"}
    assert not Path("indexes").exists()


def test_mini_shown_a_picture_tells_its_sources(run: Run, sample_media: Path) -> None:
    done = run("chat", "--chat", "mini", "--image", sample_media / "pet.jpg", "-q", "Is there a cat?")
    assert done.code == 0 and "[1]" in done.out and "pet.jpg" in done.out


def test_mini_shown_what_it_cannot_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    done = run("chat", "--video", tmp_path / "bad.mp4", "-q", "What?")
    assert done.code == 1 and "bad.mp4: is not a video or image" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "none.mp4"], "none.mp4: no such file"),
        (["--image", "none.jpg"], "none.jpg: no such file"),
        (["--video", "a.mp4", "--video", "b.mp4"], "--video is one video, and 2 came: ask about one at a time"),
        (["--frames", "8"], "--frames goes with --video, --max-tiles with --image"),
        (["--max-tiles", "8"], "--frames goes with --video, --max-tiles with --image"),
        (["--image", "there.jpg", "--library", "x"], "--video and --image are asked about without a library"),
        (
            ["--image", "there.jpg", "--chat", "smollm2"],
            "chat model 'smollm2' takes no pictures: ask it about a library",
        ),
        (["--no-library"], "chat model 'mini' cannot be talked with alone: name one (--chat)"),
        (["--no-library", "--chat", "smollm2"], "chat model 'smollm2' cannot be talked with alone"),
        (["--chat", "openai:x"], "needs the address of its server: --endpoint URL or IVSEARCH_CHAT_ENDPOINT"),
        (["--chat", "nonsense"], "unknown chat model 'nonsense'; known: mini, smollm2, internvideo2.5"),
        (["--frames", "513", "--video", "x"], "513 is not in the range 1<=x<=512"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], message: str) -> None:
    Image.new("RGB", (9, 9)).save("there.jpg")
    done = run("chat", "-q", "What?", *arguments)
    assert done.code == 2 and message in " ".join(done.err.split()) and done.out == ""


def test_an_image_that_cannot_be_read(run: Run, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    done = run(*real(wire.url, "--image", tmp_path / "bad.jpg", "-q", "What?"))
    assert done.code == 1 and "bad.jpg: cannot be read as an image" in done.err and wire.came == []
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    done = run(*real(wire.url, "--video", tmp_path / "bad.mp4", "-q", "What?"))
    assert done.code == 1 and "bad.mp4: " in done.err and wire.came == []
