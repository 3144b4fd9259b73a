"""Texts: what is written and said in Media, in tracks of timed lines, and finding lines by their words.

Text belongs to the Media: it survives other encoders and moved files, and goes when the Media goes. Lines are found
through the database's own full-text index (FTS5, or a GIN index over tsvector); what is found is then weighed here, so
that both databases rank alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ivsearch.domain import Filters, MediaId, Modality, TextLine
from ivsearch.store import matching, tables
from ivsearch.store.catalog import MAX_PARAMETERS, Catalog
from ivsearch.store.text_match import Fit, TokenLine, fits, weigh, worth_seeking
from ivsearch.store.text_tokens import Word, Words, tokens

# Lines weighed for one query. More than this hold its rarest words only where those words are common.
MOST_LINES = 1000
NO_FILTERS = Filters()
SCREEN, SPEECH, EMBEDDED = "screen", "speech", "embedded"
"""Kinds of reading: words on screen, what a model heard, the subtitle streams of a video."""
LOST = "lost"
"""Reading of Media that were read once, and whose words were lost: like no other, so that they are read again."""


@dataclass(frozen=True, slots=True)
class TextTrack:
    """Where lines come from. ``origin``: a file beside the Media, as it was when read; None: the Media itself.

    ``stream``: which stream of the Media, -1 for none. ``language``: as file or stream say; empty when they do not.
    """

    media_id: MediaId
    source: Modality
    language: str = ""
    origin: Path | None = None
    stream: int = -1
    size_bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class HeldTrack:
    """A TextTrack that is in the Catalog."""

    track_id: int
    track: TextTrack
    n_lines: int


@dataclass(frozen=True, slots=True)
class FoundText:
    """Words in a Media that fit a query. ``rarest``: the rarity of a word that is in a single line of this library."""

    media_id: MediaId
    source: Modality
    language: str
    fit: Fit
    rarest: float


class Texts:
    """The text tracks of a Catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._sqlite = catalog.url.get_backend_name() == "sqlite"

    # ---- tracks ----

    def tracks(self) -> list[HeldTrack]:
        table = tables.text_track
        with self._catalog.reader.begin() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.track_id)).all()
        return [HeldTrack(row.track_id, _track(row), row.n_lines) for row in rows]

    def put(self, tracks: Sequence[tuple[TextTrack, Sequence[TextLine]]]) -> None:
        """Commits tracks with their lines; one from the same place for the same Media is replaced."""
        with self._catalog.writer.begin() as connection:
            for track, lines in tracks:
                _put(connection, track, lines)

    def drop(self, track_ids: Iterable[int]) -> None:
        with self._catalog.writer.begin() as connection:
            for some in _parts(list(track_ids)):
                connection.execute(sa.delete(tables.text_track).where(tables.text_track.c.track_id.in_(some)))

    # ---- how Media were read ----

    def readings(self, kind: str) -> dict[MediaId, str]:
        """How the Media that were looked into for this kind of text were read."""
        table = tables.text_reading
        with self._catalog.reader.begin() as connection:
            rows = connection.execute(sa.select(table.c.media_id, table.c.reading).where(table.c.kind == kind))
            return {row.media_id: row.reading for row in rows}

    def put_reading(
        self, media_id: MediaId, kind: str, reading: str, tracks: Sequence[tuple[TextTrack, Sequence[TextLine]]]
    ) -> None:
        """Commits that a Media was looked into, with all that was found: only this means done."""
        table = tables.text_reading
        with self._catalog.writer.begin() as connection:
            for track, lines in tracks:
                _put(connection, track, lines)
            connection.execute(sa.delete(table).where(table.c.media_id == media_id, table.c.kind == kind))
            connection.execute(sa.insert(table).values(media_id=media_id, kind=kind, reading=reading))

    # ---- lines ----

    def lines(
        self, media_id: MediaId, start_s: float, end_s: float, limit: int = 100
    ) -> list[tuple[Modality, TextLine]]:
        """What is written or said in ``[start_s, end_s)``, in order of time; a span of length 0 is one moment."""
        line, track = tables.text_line.c, tables.text_track.c
        begun = line.start_s <= start_s if start_s == end_s else line.start_s < end_s
        found = (
            sa.select(track.source, line.start_s, line.end_s, line.text)
            .join_from(tables.text_line, tables.text_track)
            .where(track.media_id == media_id, begun, sa.or_(line.end_s > start_s, line.start_s >= start_s))
            .order_by(line.start_s, line.line_id)
            .limit(limit)
        )
        with self._catalog.reader.begin() as connection:
            rows = connection.execute(found).all()
        return [(Modality(row.source), TextLine(row.start_s, row.end_s, row.text)) for row in rows]

    def totals(self) -> dict[Modality, tuple[int, int]]:
        """Tracks and lines of each source that there is any of."""
        track = tables.text_track.c
        counted = sa.select(track.source, sa.func.count(), sa.func.sum(track.n_lines)).group_by(track.source)
        with self._catalog.reader.begin() as connection:
            return {Modality(source): (tracks, int(lines)) for source, tracks, lines in connection.execute(counted)}

    # ---- finding ----

    def find(
        self, wanted: Words, *, min_coverage: float, filters: Filters = NO_FILTERS, limit: int = 100
    ) -> list[FoundText]:
        """Lines, or some in a row, with at least this coverage of the words and all of the phrases; best first. Only of
        Media that pass the filters; a word is as rare as it is in the whole library."""
        with self._catalog.reader.begin() as connection:
            n_lines, n_tokens = _sizes(connection)
            counts = {word: self._count(connection, word) for word in wanted.words} if n_lines else {}
            weights = weigh(counts, n_lines, n_tokens)
            sought = worth_seeking(weights, counts, min_coverage, MOST_LINES)
            of_tracks = self._rows(connection, sought, filters) if sought else {}
            tracks = _tracks(connection, list(of_tracks))
        found = [
            FoundText(
                tracks[track_id].media_id, tracks[track_id].source, tracks[track_id].language, fit, weights.rarest
            )
            for track_id, rows in of_tracks.items()
            for fit in fits(rows, wanted, weights, min_coverage)
        ]
        found.sort(key=lambda each: (-each.fit.coverage, -each.fit.score, each.media_id, each.fit.line.start_s))
        return found[:limit]

    def _count(self, connection: sa.Connection, word: Word) -> int:
        """In how many lines it is."""
        if not self._sqlite:
            counted = "SELECT count(*) FROM text_line WHERE tokens::tsvector @@ CAST(:word AS tsquery)"
            return int(connection.execute(sa.text(counted), {"word": _tsquery([word])}).scalar_one())
        if word.prefix:
            counted = "SELECT count(*) FROM text_index WHERE text_index MATCH :word"
        else:
            counted = "SELECT coalesce(sum(doc), 0) FROM text_terms WHERE term = :word"
        value = _match([word]) if word.prefix else word.token
        return int(connection.execute(sa.text(counted), {"word": value}).scalar_one())

    def _rows(self, connection: sa.Connection, sought: Sequence[Word], filters: Filters) -> dict[int, list[TokenLine]]:
        """Lines that have one of the words, by track; those with most of them where there are very many."""
        line, track = tables.text_line.c, tables.text_track.c
        found = sa.select(line.track_id, line.start_s, line.end_s, line.text, line.tokens, track.media_id)
        found = found.join_from(tables.text_line, tables.text_track)
        if self._sqlite:
            index = sa.table("text_index", sa.column("rowid"))
            found = found.join(index, index.c.rowid == line.line_id)
            found = found.where(sa.text("text_index MATCH :query")).order_by(sa.text("text_index.rank"))
            values = {"query": _match(sought)}
        else:
            found = found.where(sa.text("tokens::tsvector @@ CAST(:query AS tsquery)"))
            found = found.order_by(sa.text("ts_rank(tokens::tsvector, CAST(:query AS tsquery)) DESC"), line.line_id)
            values = {"query": _tsquery(sought)}
        if filters != NO_FILTERS:
            found = found.where(matching.may_pass(connection, filters, track.media_id))
        of_tracks: dict[int, list[TokenLine]] = {}
        n_kept = 0
        with connection.execute(found, values, execution_options={"stream_results": True}) as result:
            for rows in result.partitions(MOST_LINES):
                passing = {row.media_id for row in rows}
                if filters != NO_FILTERS:
                    passing = matching.passing_media(connection, filters, passing)
                for row in rows:
                    if row.media_id in passing:
                        read = TokenLine(TextLine(row.start_s, row.end_s, row.text), tuple(row.tokens.split(" ")))
                        of_tracks.setdefault(row.track_id, []).append(read)
                        n_kept += 1
                if n_kept >= MOST_LINES:
                    break
        return of_tracks


def _put(connection: sa.Connection, track: TextTrack, lines: Sequence[TextLine]) -> None:
    table, values = tables.text_track, _track_row(track)
    place = ("media_id", "source", "origin", "stream")
    connection.execute(sa.delete(table).where(*(table.c[name] == values[name] for name in place)))
    of_lines = [tokens(line.text) for line in lines]
    values |= {"n_lines": len(lines), "n_tokens": sum(map(len, of_lines))}
    track_id = connection.execute(sa.insert(table).returning(table.c.track_id), [values]).scalar_one()
    rows = [
        {
            "track_id": track_id,
            "start_s": line.start_s,
            "end_s": line.end_s,
            "text": line.text,
            "tokens": " ".join(of_line),
        }
        for line, of_line in zip(lines, of_lines, strict=True)
    ]
    if rows:
        connection.execute(sa.insert(tables.text_line), rows)


def _sizes(connection: sa.Connection) -> tuple[int, int]:
    """How many lines and tokens there are."""
    track = tables.text_track.c
    sums = connection.execute(sa.select(sa.func.sum(track.n_lines), sa.func.sum(track.n_tokens))).one()
    return int(sums[0] or 0), int(sums[1] or 0)


def _tracks(connection: sa.Connection, track_ids: Sequence[int]) -> dict[int, TextTrack]:
    table = tables.text_track
    found: dict[int, TextTrack] = {}
    for some in _parts(track_ids):
        rows = connection.execute(sa.select(table).where(table.c.track_id.in_(some)))
        found |= {row.track_id: _track(row) for row in rows}
    return found


def _track(row: sa.Row) -> TextTrack:
    origin = Path(row.origin) if row.origin else None
    return TextTrack(row.media_id, Modality(row.source), row.language, origin, row.stream, row.size_bytes, row.mtime_ns)


def _track_row(track: TextTrack) -> dict:
    return {
        "media_id": track.media_id,
        "source": track.source.value,
        "language": track.language,
        "origin": str(track.origin or ""),
        "stream": track.stream,
        "size_bytes": track.size_bytes,
        "mtime_ns": track.mtime_ns,
    }


def _match(words: Sequence[Word]) -> str:
    """Tokens are letters and digits: nothing in them can end the quotes."""
    return " OR ".join(f'"{word.token}"{"*" if word.prefix else ""}' for word in words)


def _tsquery(words: Sequence[Word]) -> str:
    return " | ".join(f"'{word.token}'{':*' if word.prefix else ''}" for word in words)


def _parts(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]
