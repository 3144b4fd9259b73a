"""Connections to the Catalog's database, what its transactions guarantee, and its faults in plain words.

SQLite and PostgreSQL give the same: writers come one after another, each sees all that was committed before it began;
a reader sees one state of everything from its first statement on, and waits for nobody.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from ivsearch.errors import LibraryBusy, LibraryDamaged, LibraryError, UsageError
from ivsearch.store.wal import keep_damaged, log_of

BACKENDS = ("sqlite", "postgresql")
SECRETS = ("password", "sslpassword")
CONNECT_TIMEOUT_S = 10
BUSY_TIMEOUT_S = 10
# Names of ours among PostgreSQL's advisory locks, which are numbers: one held for a transaction, one for a whole run.
TRANSACTION_LOCK = 0x69767331
WRITER_LOCK = 0x69767332
DRIVERS = "pip install 'ivsearch[postgres]'"
PASSWORD_ADVICE = "Give the password in the variable PGPASSWORD or in the file ~/.pgpass"


@dataclass(frozen=True, slots=True)
class Connections:
    """To one database, for one kind of transaction. ``name``: the database as it may be shown."""

    engine: sa.Engine
    name: str
    _of_thread: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or nothing; inside ``held`` the one that is held. Raises what ``faults`` says."""
        held: sa.Connection | None = getattr(self._of_thread, "connection", None)
        with self.faults():
            if held is not None:
                yield held
                return
            with self.engine.begin() as connection:
                yield connection

    @contextmanager
    def held(self) -> Iterator[None]:
        """Whatever this thread begins inside is part of one transaction."""
        with self.begin() as connection:
            before = getattr(self._of_thread, "connection", None)
            self._of_thread.connection = connection
            try:
                yield
            finally:
                self._of_thread.connection = before

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turns the driver's errors into ours: OSError when the disk is full or cannot be written to, LibraryDamaged
        when SQLite's file is no sound database, LibraryError with advice for all that may pass."""
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except UnicodeDecodeError as error:
            # SQLite's message quotes the file, where no text is.
            raise LibraryDamaged(
                f"the catalog {self.name} cannot be opened: its text is none ({error}); `ivsearch repair` sets it aside"
            ) from error
        except sa.exc.DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise _sqlite_fault(error.orig, self.name, self.engine.url.database or "") from error
            raise _server_fault(error, self.name) from error


class Database:
    """Opened by path of an SQLite file or by SQLAlchemy URL. ``file``: SQLite's; ``read_only``: one that nobody
    here can write to."""

    def __init__(self, where: str | Path) -> None:
        """Connects to nothing yet. Raises UsageError for a URL that makes no sense or a driver that is missing."""
        self.url = sa.make_url(f"sqlite:///{where}") if isinstance(where, Path) else parsed(where)
        self.file = where if isinstance(where, Path) else Path(self.url.database or "")
        self.read_only = isinstance(where, Path) and _is_read_only(where)
        if isinstance(where, Path) and self.read_only:
            # A share or disc nobody can write to: nothing changes under us, and SQLite need not lock.
            query = {"mode": "ro", "immutable": "1", "uri": "true"}
            self.url = sa.URL.create("sqlite", database=f"file:{quote(str(where.absolute()))}", query=query)
        if isinstance(where, Path) and not self.read_only:
            keep_damaged(log_of(where))
        try:
            if self.is_sqlite:
                # A writer must take the lock when it begins: one that reads first and writes later loses other
                # writers' rows or fails at once, however long its busy timeout.
                begin = "BEGIN" if self.read_only else "BEGIN IMMEDIATE"
                writer = _sqlite(self.url, self.file, begin, not self.read_only)
                reader = _sqlite(self.url, self.file, "BEGIN", not self.read_only)
            else:
                writer, reader = _postgresql_writer(self.url), _postgresql_reader(self.url)
        except ModuleNotFoundError as error:
            raise UsageError(f"the catalog {self.name} needs a driver: {error}. Install it: {DRIVERS}") from error
        self.writer, self.reader = Connections(writer, self.name), Connections(reader, self.name)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """As it may be shown: the path of a file, else the URL."""
        return str(self.file) if self.is_sqlite else without_password(self.url)

    def close(self) -> None:
        self.writer.engine.dispose()
        self.reader.engine.dispose()

    def check_encoding(self) -> None:
        """Raises UsageError for a database that cannot hold every file name."""
        if self.is_sqlite:
            return
        with self.reader.begin() as connection:
            encoding = connection.scalar(sa.text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise UsageError(
                f"the database of the catalog {self.name} keeps texts as {encoding}, which cannot hold every name of a "
                "file. Make one that can: createdb -E UTF8 -T template0 NAME"
            )

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Holds a PostgreSQL catalog for a whole run: the lock of a library's folder says nothing to a process that
        works with a copy of the folder, or on another machine. The server frees it when the connection ends.

        Raises LibraryBusy at once when another process has it.
        """
        if self.is_sqlite:
            yield
            return
        with self.reader.faults():
            connection = self.reader.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self.reader.faults():
                free = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(WRITER_LOCK)))
            if not free:
                raise LibraryBusy(
                    f"another ivsearch is writing to the catalog {self.name}, from another folder or machine; wait "
                    "until it ends, or stop it, and run the same command again. Searching works meanwhile"
                )
            # Those of earlier runs may have been lost since, which says nothing of this lock.
            self.writer.engine.dispose()
            # With the connection the lock is lost: it is asked before anything is written.
            sa.event.listen(self.writer.engine, "begin", still_there := _asking(connection))
            try:
                yield
            finally:
                sa.event.remove(self.writer.engine, "begin", still_there)
        finally:
            # Not back into the pool: the lock belongs to the connection.
            connection.invalidate()
            connection.close()


def _asking(connection: sa.Connection) -> Callable[[sa.Connection], None]:
    def ask(_writing: sa.Connection) -> None:
        connection.execute(sa.select(1))

    return ask


def parsed(url: str) -> sa.URL:
    """Raises UsageError for what is no URL of a database that ivsearch knows. ``postgresql://`` means psycopg 3."""
    try:
        read = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # Not quoted: it may hold a password.
        raise UsageError(
            "the catalog is no URL of a database: write postgresql+psycopg://USER@HOST:5432/DATABASE"
        ) from None
    if read.get_backend_name() not in BACKENDS:
        raise UsageError(
            f"the catalog {without_password(read)} is of a kind that ivsearch does not know; "
            f"it knows {' and '.join(BACKENDS)}: write postgresql+psycopg://USER@HOST:5432/DATABASE"
        )
    return read.set(drivername="postgresql+psycopg") if read.drivername == "postgresql" else read


def without_password(url: str | sa.URL) -> str:
    """A URL as it may be shown and remembered. Its user and host stay."""
    url = sa.make_url(url)
    bare = sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
    return bare.difference_update_query(SECRETS).render_as_string()


def _is_read_only(path: Path) -> bool:
    return path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        state = file.stat()
    except OSError:
        return None  # whoever opens it is told why
    return state.st_dev, state.st_ino


def _sqlite(url: sa.URL, file: Path, begin: str, write: bool) -> sa.Engine:
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "do_connect")
    def note_file(_dialect, record, _args, _parameters) -> None:  # type: ignore[no-untyped-def]
        # Before it is opened: one that is exchanged at that moment is opened once more.
        record.info["file"] = _inode(file)

    @sa.event.listens_for(engine, "checkout")
    def follow_file(_connection, record, _proxy) -> None:  # type: ignore[no-untyped-def]
        # A repair may have set the file aside: what is written to the old one is lost, and what is read there is old.
        now = _inode(file)
        if now is not None and now != record.info["file"]:
            raise sa.exc.DisconnectionError(f"{file} is another file now")

    @sa.event.listens_for(engine, "connect")
    def configure(connection, _record) -> None:  # type: ignore[no-untyped-def]
        # The driver must not begin transactions by itself; the listener below does it in time.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
        if write:
            _to_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-65536")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _to_wal(connection: sqlite3.Connection) -> None:
    # Its step from reading to writing fails at once, whatever the busy timeout, while another process takes the same
    # step or fills the new database.
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _postgresql_writer(url: sa.URL) -> sa.Engine:
    # READ COMMITTED, so that what is read after the lock is what the writer before has committed. One at a time, so
    # that ids of clips are committed in the order they are given out. No ping: a connection that was lost ends the
    # run, which may have lost its lock with it.
    engine = sa.create_engine(url, isolation_level="READ COMMITTED", connect_args=_CONNECT)

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(TRANSACTION_LOCK)))

    return engine


def _postgresql_reader(url: sa.URL) -> sa.Engine:
    return sa.create_engine(url, isolation_level="REPEATABLE READ", connect_args=_CONNECT, pool_pre_ping=True)


# A connection that rests for hours, as the one of the lock does, is kept up through firewalls; a server that is gone is
# noticed within a minute.
_CONNECT = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "ivsearch",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


_DAMAGED_SCHEMA = ("no such table", "no such column", "has no column", "malformed")
NO_TEXT = "Could not decode to UTF-8"


def _sqlite_fault(error: sqlite3.Error, name: str, file: str) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)
    if code == sqlite3.SQLITE_READONLY:
        return OSError(errno.EROFS, "the catalog can only be read", file)
    # Our statements fit our tables: if they do not, what is there is not what the schema says.
    no_such = code == sqlite3.SQLITE_ERROR and any(words in str(error) for words in _DAMAGED_SCHEMA)
    # Said by Python itself, with no code.
    no_text = NO_TEXT in str(error)
    if no_such or no_text or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LibraryDamaged(f"the catalog {name} cannot be opened: {error}; `ivsearch repair` sets it aside")
    return LibraryError(
        f"the catalog {name} cannot be opened now: {error}. Check that its folder can be written to, that the disk "
        "has room and is well, and that nothing else holds it"
    )


# What the server says, by its SQLSTATE once connected, by its words before (libpq hands out no state then).
_STATES = {
    "42501": "Its user may not do that: GRANT CREATE, USAGE ON SCHEMA public, or make the user own the database",
    "25006": "It takes no writes now: is it a standby?",
    "53100": "Its disk is full: make room there and run the same command again",
    "57P01": "It was shut down; what was committed is kept: when it is back, run the same command again",
    "57P03": "It is starting or stopping: run the same command again",
}
_WORDS = {
    "password": PASSWORD_ADVICE,
    "pg_hba.conf": "It does not let this user or machine in: see its pg_hba.conf",
    "does not exist": "Check user and database in the URL; make the database: createdb -E UTF8 NAME",
    "refused": "Is the server running, and are host and port right?",
    "resolve": "Is the name of the host right?",
    "timeout": "Is the server running, and are host and port right?",
    "starting up": "It is starting or stopping: run the same command again",
    "shutting down": "It is starting or stopping: run the same command again",
    "permission": _STATES["42501"],
}
_LOST = "The connection was lost; what was committed is kept: when the server is back, run the same command again"


def _server_fault(error: sa.exc.DBAPIError, name: str) -> LibraryError:
    # libpq asks the same as we do.
    said = re.sub(r" Is the server running[^?]*\?", "", " ".join(str(error.orig).split()))
    advice = _STATES.get(getattr(error.orig, "sqlstate", None) or "")
    if not advice:
        found = (each for word, each in _WORDS.items() if word in said)
        advice = _LOST if error.connection_invalidated else next(found, "See the log of the server")
    return LibraryError(f"the catalog {name} cannot be used now: {said}. {advice}")
