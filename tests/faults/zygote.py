"""Processes that can be killed: one loads the encoder once and forks for each act, so that faults hit the work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# What an act has at hand: `library` (of `folder`), `paths`, `more` (whatever it was given), `say` (a line to a file).
# It runs under the command line's own handling of errors. Commits come after every file: as many different states as
# there can be.
ZYGOTE = """
import io, json, os, resource, sys, traceback
from pathlib import Path
import torch
from ivsearch import ingest
from ivsearch.commands import main
from ivsearch.encode import load_encoder
from ivsearch.library import open_library
from ivsearch.settings import Settings
torch.set_num_threads(1)  # no thread exists before the fork
ingest.COMMIT_MEDIA = 1
encoder = load_encoder("mini")

def act(code, folder, paths, more, said):
    with open(said, "w", buffering=1) as out:
        library = open_library(folder, settings=Settings(batch=4, workers=1))
        library.encoder = encoder
        names = {"library": library, "folder": Path(folder), "paths": paths, "more": more, "Path": Path}
        names["say"] = lambda line: print(line, file=out)
        main._invoke = lambda: exec(code, names)
        sys.stderr, ended = io.StringIO(), 0
        try:
            main.main()
        except SystemExit as leave:
            ended = leave.code
        except BaseException:
            ended = 99
            traceback.print_exc()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(sys.stderr.getvalue() if ended else "done", file=out)
    os._exit(ended)

for line in sys.stdin:
    wanted = json.loads(line)
    pid = os.fork()
    if pid == 0:
        act(**wanted)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

INDEX = "for event in library.index(paths): say(event.path.name)"
RM = "for event in library.remove(paths): say(event.path.name)"
REPAIR = "for action in library.repair(): say(action)"


class Zygote:
    """Acts on libraries, one at a time, each in a process of its own."""

    def __init__(self, said: Path) -> None:
        self._said = said
        self._process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, folder: Path, code: str, *paths: Path, more: object = None) -> int:
        """The process id of a new one."""
        self._said.unlink(missing_ok=True)
        assert self._process.stdin is not None
        wanted = {"code": code, "folder": str(folder), "paths": [str(path) for path in paths], "more": more}
        self._process.stdin.write(json.dumps({**wanted, "said": str(self._said)}) + "\n")
        return int(self._read())

    def wait(self) -> int:
        """Until it has ended: its exit code, or the signal that killed it, negative."""
        return int(self._read())

    def said(self) -> list[str]:
        """The lines it said, and at last ``done`` or what the command line says of an error."""
        return self._said.read_text().splitlines() if self._said.exists() else []

    def run(self, folder: Path, code: str, *paths: Path, more: object = None) -> list[str]:
        """One that must come to its end."""
        self.start(folder, code, *paths, more=more)
        ended = self.wait()
        assert (ended, self.said()[-1]) == (0, "done"), self.said()
        return self.said()[:-1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
