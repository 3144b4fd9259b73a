"""Finding weights, against real HTTP servers on this machine that speak as the hub does, or say nothing, or lie."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ivsearch.errors import WeightsError
from ivsearch.models.hub import HubModel, hub_model, locate, needed

COMMIT = "c" * 40
MODEL = "org/small"
# However slow the machine is, what answers does so within the one and is done within the other.
PATIENT_S, SOON_S = 60.0, 100.0

SHARDED = {
    ".gitattributes": b"*.bin filter=lfs",
    "README.md": b"# Small",
    "config.json": b"{}",
    "tokenizer.model": b"pieces",
    "merges.txt": b"a b",
    "modeling_small.py": b"raise SystemExit",
    "onnx/config.json": b"{}",
    "onnx/model.safetensors": b"onnx",
    "model-1.safetensors": b"one",
    "model-2.safetensors": b"two",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "pytorch_model.bin": b"pickled",
    "pytorch_model.bin.index.json": b"{}",
}
SHARDED_NEEDED = {
    "config.json",
    "tokenizer.model",
    "merges.txt",
    "model-1.safetensors",
    "model-2.safetensors",
    "model.safetensors.index.json",
}


class HubHandler(BaseHTTPRequestHandler):
    """The few routes of the hub's documented HTTP API that a download asks for."""

    files: Mapping[str, bytes]
    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        if path in (f"/api/models/{MODEL}", f"/api/models/{MODEL}/revision/main", f"/api/models/{MODEL}/revision/v2"):
            siblings = [{"rfilename": name} for name in self.files]
            self._json({"id": MODEL, "modelId": MODEL, "sha": COMMIT, "siblings": siblings})
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            self._json([self._listed(name) for name in self.files])
        elif path.startswith(f"/{MODEL}/resolve/{COMMIT}/") and (name := path.split("/", 5)[5]) in self.files:
            self._send(200, self.files[name], {"ETag": f'"{self._listed(name)["oid"]}"', "X-Repo-Commit": COMMIT})
        elif path.startswith("/api/models/org/gated"):
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif path.startswith(f"/api/models/{MODEL}/revision/"):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _listed(self, name: str) -> dict[str, object]:
        content = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": blob}

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class DownHandler(BaseHTTPRequestHandler):
    """A hub that is down."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_error(503)


class PortalHandler(DownHandler):
    """A network's login page, whatever was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome to our network</html>")


class DripHandler(DownHandler):
    """An answer that never ends: no single wait is long."""

    def do_GET(self) -> None:
        self.send_response(200)
        try:
            for number in range(600):
                self.send_header(f"X-{number}", "wait")
                self.flush_headers()
                time.sleep(0.5)
        except OSError:
            return


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Located:
    """``answer``: the folder, or what the WeightsError said. ``stderr``: everything else that was said."""

    found: bool
    answer: str
    stderr: str
    elapsed_s: float


LOCATE = """
import sys, time
from ivsearch.errors import WeightsError
from ivsearch.models import hub
import huggingface_hub.hf_api
hub.DEADLINE_S = float(sys.argv[2])
started = time.monotonic()
try:
    found, answer = 1, hub.locate(sys.argv[1])
except WeightsError as error:
    found, answer = 0, error
print(f"{found} {time.monotonic() - started} {answer}")
"""


@dataclass
class Hub:
    """A process of its own for every question: huggingface_hub reads its environment once."""

    home: Path

    def locate(self, weights: str, endpoint: str, deadline_s: float = PATIENT_S, **environ: str) -> Located:
        settings = {"HF_HOME": str(self.home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", **environ}
        foreign = ("HF_", "HUGGING", "TRANSFORMERS_OFFLINE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        done = subprocess.run(
            [sys.executable, "-c", LOCATE, weights, str(deadline_s)],
            env={**kept, "NO_PROXY": "127.0.0.1", **settings},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        found, elapsed_s, answer = done.stdout.rstrip("\n").split(" ", 2)
        return Located(found == "1", answer, done.stderr, float(elapsed_s))

    @property
    def snapshot(self) -> Path:
        return self.home / "hub" / "models--org--small" / "snapshots" / COMMIT


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hf")


@contextmanager
def hub_with(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A hub that holds one model: its address, and the paths it is asked for."""
    handler = type("Handler", (HubHandler,), {"files": files, "asked": []})
    with serving(handler) as endpoint:
        yield endpoint, handler.asked


NOWHERE = "http://127.0.0.1:9"


def test_a_model_is_downloaded_once_and_only_what_loading_needs(hub: Hub) -> None:
    with hub_with(SHARDED) as (endpoint, asked):
        first = hub.locate(MODEL, endpoint)
        assert (first.found, Path(first.answer)) == (True, hub.snapshot)
        assert {path.name for path in hub.snapshot.iterdir()} == SHARDED_NEEDED
        assert all((hub.snapshot / name).read_bytes() == SHARDED[name] for name in SHARDED_NEEDED)
        asked.clear()
        assert hub.locate(MODEL, endpoint).found
        assert asked == []
    assert hub.locate(MODEL, NOWHERE).answer == first.answer
    assert hub.locate(MODEL, NOWHERE, HF_HUB_OFFLINE="1").answer == first.answer


def test_bins_are_taken_where_there_are_no_safetensors(hub: Hub) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": b"pickled", "tf_model.h5": b"tf"}
    with hub_with(files) as (endpoint, _):
        assert hub.locate(f"{MODEL}@v2", endpoint).found
    assert {path.name for path in hub.snapshot.iterdir()} == {"config.json", "pytorch_model.bin"}
    assert hub.locate(f"{MODEL}@v2", NOWHERE).found
    assert not hub.locate(f"{MODEL}@v3", NOWHERE).found


def test_a_partial_snapshot_is_told_and_completed(hub: Hub) -> None:
    with hub_with(SHARDED) as (endpoint, _):
        hub.locate(MODEL, endpoint)
        (hub.snapshot / "model-2.safetensors").unlink()
        (hub.snapshot / "tokenizer.model").unlink()
        partial = hub.locate(MODEL, NOWHERE)
        assert not partial.found
        assert f"is only partly downloaded: {hub.snapshot} lacks tokenizer.model, model-2.safetensors" in partial.answer
        shutil.rmtree(hub.snapshot.parents[1] / "trees")
        partial = hub.locate(MODEL, NOWHERE, HF_HUB_OFFLINE="1")
        assert "lacks model-2.safetensors, and HF_HUB_OFFLINE is set" in partial.answer
        assert hub.locate(MODEL, endpoint).found
    assert (hub.snapshot / "model-2.safetensors").read_bytes() == b"two"


def test_a_snapshot_without_weights_is_not_taken(hub: Hub) -> None:
    with hub_with(SHARDED) as (endpoint, _):
        hub.locate(MODEL, endpoint)
    shutil.rmtree(hub.snapshot.parents[1] / "trees")
    for path in hub.snapshot.iterdir():
        if "model" in path.name:
            path.unlink()
    assert "lacks model.safetensors, and" in hub.locate(MODEL, NOWHERE).answer


def test_a_refused_connection_is_told_at_once(hub: Hub) -> None:
    refused = hub.locate(f"{MODEL}@v2", NOWHERE)
    assert refused.elapsed_s < SOON_S / 2
    cache = re.escape(str(hub.home / "hub"))
    assert re.fullmatch(
        rf"org/small@v2 is no folder here and not in the hub's cache \({cache}\), and {NOWHERE} cannot be reached "
        r"\(ConnectError: .*refused\): where there is a network run `hf download org/small --revision v2 --local-dir "
        r"FOLDER`, copy the folder here and give it as --weights FOLDER \(a chat model's in `ask` as "
        r"--chat-weights; or copy that machine's cache folder to "
        rf"{cache}/models--org--small\)",
        refused.answer,
    )
    assert "Retrying" not in refused.stderr


def test_offline_asks_nobody(hub: Hub) -> None:
    with hub_with(SHARDED) as (endpoint, asked):
        offline = hub.locate(MODEL, endpoint, HF_HUB_OFFLINE="1")
        assert asked == []
    assert f"HF_HUB_OFFLINE is set, so {endpoint} is not asked: unset HF_HUB_OFFLINE, or where" in offline.answer
    assert offline.elapsed_s < SOON_S / 2


def test_a_host_that_swallows_everything_is_given_up(hub: Hub) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        silent = hub.locate(MODEL, f"http://127.0.0.1:{listening.getsockname()[1]}", deadline_s=2)
    assert "cannot be reached (TimeoutError: no answer in 2 s)" in silent.answer
    assert silent.elapsed_s < SOON_S


@pytest.mark.parametrize(
    ("handler", "deadline_s", "reason"),
    [
        (DownHandler, PATIENT_S, r"HfHubHTTPError: Server error '503 "),
        (PortalHandler, PATIENT_S, r"JSONDecodeError: "),
        (DripHandler, 2.0, r"TimeoutError: no answer in 2 s"),
    ],
)
def test_a_hub_that_does_not_answer_sensibly_is_given_up(
    handler: type[BaseHTTPRequestHandler], deadline_s: float, reason: str, hub: Hub
) -> None:
    with serving(handler) as endpoint:
        answer = hub.locate(MODEL, endpoint, deadline_s)
    assert not answer.found
    assert f"{endpoint} cannot be reached ({reason}" in answer.answer
    assert answer.elapsed_s < SOON_S


def test_what_the_hub_refuses_is_told(hub: Hub) -> None:
    with hub_with({"config.json": b"{}"}) as (endpoint, _):
        assert "no folder here and no model at" in hub.locate("org/nothing", endpoint).answer
        assert f"is gated: accept its conditions at {endpoint}/org/gated" in hub.locate("org/gated", endpoint).answer
        assert "org/small has no revision 'v3'" in hub.locate(f"{MODEL}@v3", endpoint).answer
        assert "holds neither .safetensors nor .bin files" in hub.locate(MODEL, endpoint).answer


def test_a_download_that_breaks_off_is_told(hub: Hub) -> None:
    with hub_with(SHARDED) as (endpoint, _):
        (hub.home / "hub" / "models--org--small").mkdir(parents=True)
        (hub.home / "hub" / "models--org--small" / "blobs").write_text("in the way")
        broken = hub.locate(MODEL, endpoint)
    assert "the download of org/small stopped (" in broken.answer
    assert "run `ivsearch models pull org/small` again" in broken.answer


def test_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "small").mkdir(parents=True)
    assert locate("org/small") == Path("org/small")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/org") == tmp_path / "org"


@pytest.mark.parametrize("weights", ["/no/where", "./nowhere", "../nowhere", "~/nowhere/x", "a/b/c", "name", "a b/c"])
def test_what_looks_like_a_path_is_one(weights: str) -> None:
    with pytest.raises(WeightsError, match=rf"^{re.escape(weights)}: no such folder \(a model of the hub is written"):
        locate(weights)


def test_odd_names_are_told(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is a file: name the folder that holds it, "):
        locate(str(file))
    with pytest.raises(WeightsError, match=r"^~nobody-here/x: no such folder \(Could not determine home"):
        locate("~nobody-here/x")
    with pytest.raises(WeightsError, match="the name of the weights is empty"):
        locate("")
    with pytest.raises(WeightsError, match=r"org/a--b: no such folder, and no name of a model on the hub"):
        locate("org/a--b")


def test_revisions_stand_behind_an_at() -> None:
    assert hub_model("org/name") == HubModel("org/name", None)
    assert hub_model("org/name@refs/pr/3") == HubModel("org/name", "refs/pr/3")
    assert str(HubModel("org/name", "v1")) == "org/name@v1"
    assert hub_model("org/name@") is None


def test_needed_leaves_out_code_and_other_formats() -> None:
    assert set(needed(SHARDED)) == SHARDED_NEEDED
    assert needed(["config.json", "pytorch_model.bin.index.json", "b.bin"])[-1] == "b.bin"
    assert "pytorch_model.bin.index.json" in needed(["pytorch_model.bin.index.json", "b.bin"])
