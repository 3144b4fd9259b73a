"""queries.json: queries by name, kept in the library, and up to which Clip each has been answered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ivsearch import wire
from ivsearch.domain import Filters, MediaKind, Query, Region, Space, Term, Then
from ivsearch.errors import LibraryBusy, LibraryDamaged, LibraryTooNew, UsageError
from ivsearch.store.files import replace_file

NAME = "queries.json"
LOCK = "queries.lock"
FORMAT = 1
# Each holds the lock for a few milliseconds.
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """``k`` and ``per_media``: as in a search. ``seen``: by the key of a Space, the highest clip id there was when the
    query was last run in it."""

    query: Query
    k: int = 10
    per_media: int | None = None
    seen: Mapping[str, int] = field(default_factory=dict)


class SavedQueries:
    """Those of the library in ``folder``. Every method reads the file anew; writing replaces it as a whole."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._lock = folder / LOCK

    def all(self) -> dict[str, SavedQuery]:
        """By name. Raises LibraryDamaged when the file cannot be understood, LibraryTooNew when it is of a newer
        version."""
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error
        try:
            table = json.loads(text)
            if table["format"] > FORMAT:
                raise LibraryTooNew(
                    f"{self._path} has format {table['format']}, this ivsearch knows {FORMAT}: "
                    "use the version that wrote it, or a newer one"
                )
            return {name: _saved(row) for name, row in table["queries"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error

    def get(self, name: str, advice: str = "") -> SavedQuery:
        """Raises UsageError when there is none of that name, with ``advice`` on what else may be meant."""
        saved = self.all()
        if name not in saved:
            known = f"saved are: {', '.join(sorted(saved))}" if saved else "none is saved yet (search … --save NAME)"
            raise UsageError(f"there is no saved query {name!r}; {known}{advice}")
        return saved[name]

    def check_new(self, name: str) -> None:
        """Raises UsageError when the name is taken or none."""
        self._check(name, self.all())

    def _check(self, name: str, table: Mapping[str, SavedQuery]) -> None:
        if not name.strip() or any(character in name for character in "/@\n") or len(name) > 100:
            raise UsageError(f"{name!r} cannot be the name of a query: letters, digits and dashes do, without / and @")
        if name in table:
            raise UsageError(f"a query {name!r} is saved already: choose another name, or `ivsearch queries rm`")

    def add(self, name: str, saved: SavedQuery) -> None:
        """Image files are remembered by their absolute paths. Raises UsageError when the name is taken or none."""
        with self._changing() as table:
            self._check(name, table)
            table[name] = replace(saved, query=_absolute(saved.query))

    def remove(self, name: str) -> None:
        """Raises UsageError when there is none of that name."""
        self.get(name)
        with self._changing() as table:
            table.pop(name, None)

    def note_run(self, name: str, space: Space, last_clip: int) -> None:
        """The query has just been answered from all Clips up to ``last_clip``."""
        if self.get(name).seen.get(space.key) == last_clip:
            return
        with self._changing() as table:
            if name in table:
                table[name] = replace(table[name], seen={**table[name].seen, space.key: last_clip})

    @contextmanager
    def _changing(self) -> Iterator[dict[str, SavedQuery]]:
        try:
            with FileLock(self._lock, timeout=PATIENCE_S):
                table = self.all()
                yield table
                rows = {name: _row(saved) for name, saved in table.items()}
                document = json.dumps({"format": FORMAT, "queries": rows}, indent=1)
                replace_file(self._path, document.encode())
        except Timeout:
            raise LibraryBusy(f"another process holds {self._lock} for long: try again when it has ended") from None

    def _damaged(self, error: Exception) -> LibraryDamaged:
        return LibraryDamaged(
            f"{self._path} is damaged ({type(error).__name__}: {error}): mend it, or move it away and save the queries "
            "again. Nothing else in the library depends on it"
        )


def _row(saved: SavedQuery) -> dict[str, Any]:
    query = saved.query
    return {
        "text": query.text,
        "image": None if query.image is None else str(query.image),
        "clip": query.clip_id,
        "region": None if query.region is None else wire.region(query.region),
        "terms": [wire.term(term) for term in query.terms],
        "then": [wire.then(then) for then in query.then],
        "filters": wire.filters(query.filters),
        "k": saved.k,
        "per_media": saved.per_media,
        "seen": dict(saved.seen),
    }


def _saved(row: dict[str, Any]) -> SavedQuery:
    query = Query(
        row["text"],
        None if row["image"] is None else Path(row["image"]),
        row["clip"],
        _filters(row["filters"]),
        terms=tuple(map(_term, row["terms"])),
        then=tuple(Then(tuple(map(_term, each["terms"])), float(each["within_s"])) for each in row["then"]),
        region=_region(row["region"]),
    )
    return SavedQuery(query, int(row["k"]), row["per_media"], {key: int(last) for key, last in row["seen"].items()})


def _term(row: dict[str, Any]) -> Term:
    return Term(
        row.get("text"),
        Path(row["image"]) if "image" in row else None,
        row.get("clip"),
        float(row["weight"]),
        _region(row.get("region")),
        row.get("start_s"),
        row.get("end_s"),
    )


def _region(row: dict[str, Any] | None) -> Region | None:
    if row is None:
        return None
    return Region(row["x"], row["y"], row["width"], row["height"], in_pixels=row["unit"] == "pixels")


def _filters(row: dict[str, Any]) -> Filters:
    return Filters(
        paths=tuple(row.get("path", ())),
        kind=MediaKind(row["kind"]) if "kind" in row else None,
        min_duration_s=row.get("min_duration_s"),
        max_duration_s=row.get("max_duration_s"),
        after=datetime.fromisoformat(row["after"]) if "after" in row else None,
        before=datetime.fromisoformat(row["before"]) if "before" in row else None,
    )


def _absolute(query: Query) -> Query:
    def there(term: Term) -> Term:
        return term if term.image is None else replace(term, image=Path(os.path.abspath(term.image)))

    return replace(
        query,
        image=None if query.image is None else Path(os.path.abspath(query.image)),
        terms=tuple(map(there, query.terms)),
        then=tuple(replace(then, terms=tuple(map(there, then.terms))) for then in query.then),
        after_clip=None,
    )
