"""Are the words in the footage all there? What is lost of them is marked, so that the next run reads those files again.

A track says how many lines and tokens it has, and every line what it is found by, which follows from its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ivsearch.domain import MediaId, Modality
from ivsearch.store import tables
from ivsearch.store.catalog import Catalog
from ivsearch.store.rows import parts
from ivsearch.store.text_tokens import tokens
from ivsearch.store.texts import EMBEDDED, LOST, SCREEN, SPEECH

KINDS = {Modality.SCREEN.value: SCREEN, Modality.SPEECH.value: SPEECH, Modality.SUBTITLE.value: EMBEDDED}
"""Source of a track that is in no file of its own → the kind of reading that gave it."""
SOURCES = {SCREEN: Modality.SCREEN.value, SPEECH: Modality.SPEECH.value}
"""Kinds of reading that give a track always, if an empty one."""
NOUNS = {SCREEN: "words on screen", SPEECH: "words that were heard", EMBEDDED: "subtitles"}
ADVICE = {SCREEN: "`ivsearch index --ocr`", SPEECH: "`ivsearch index --speech`", EMBEDDED: "`ivsearch index`"}
ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class UnsoundText:
    """Words of a Media that are not all there, and why. ``kind``: the reading that gave them, empty for those of a file
    beside the Media. ``track_id``: None where not even the track is there."""

    media_id: MediaId
    kind: str
    track_id: int | None
    reason: str


def unsound_texts(catalog: Catalog) -> Iterator[UnsoundText]:
    """Reads all lines, in one state of the Catalog."""
    track, reading = tables.text_track.c, tables.text_reading.c
    with catalog.reader.begin() as connection:
        lines = _counted(connection)
        for row in connection.execute(sa.select(tables.text_track).order_by(track.track_id)):
            n_lines, n_tokens, fit = lines.get(row.track_id, (0, 0, True))
            kind = "" if row.origin else KINDS.get(row.source, "")
            if not fit:
                yield UnsoundText(row.media_id, kind, row.track_id, "a line does not fit what it is found by")
            elif (n_lines, n_tokens) != (row.n_lines, row.n_tokens):
                reason = f"{n_lines} lines of {row.source} are there, not {row.n_lines}"
                if n_lines == row.n_lines:
                    reason = f"the lines of {row.source} have {n_tokens} words, not {row.n_tokens}"
                yield UnsoundText(row.media_id, kind, row.track_id, reason)
        for kind, source in SOURCES.items():
            given = sa.exists().where(track.media_id == reading.media_id, track.source == source, track.origin == "")
            bare = sa.select(reading.media_id).where(reading.kind == kind, reading.reading != LOST, ~given)
            for media_id in connection.scalars(bare.order_by(reading.media_id)):
                yield UnsoundText(media_id, kind, None, f"its {NOUNS[kind]} are noted as read, and are not there")


def _counted(connection: sa.Connection) -> dict[int, tuple[int, int, bool]]:
    """Track → how many lines and tokens it really has, and whether all lines fit their tokens."""
    line = tables.text_line.c
    query = sa.select(line.track_id, line.text, line.tokens, line.start_s, line.end_s)
    found: dict[int, tuple[int, int, bool]] = {}
    for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_A_TIME}):
        n_lines, n_tokens, fit = found.get(row.track_id, (0, 0, True))
        written = row.tokens.split(" ") if row.tokens else []
        fit = fit and tokens(row.text) == written and 0 <= row.start_s <= row.end_s
        found[row.track_id] = n_lines + 1, n_tokens + len(written), fit
    return found


def forget_unsound(catalog: Catalog, unsound: Sequence[UnsoundText]) -> None:
    """Deletes what is left of them and marks their Media, so that the next run reads them again."""
    track, reading = tables.text_track, tables.text_reading.c
    with catalog.writer.begin() as connection:
        for ids in parts([each.track_id for each in unsound if each.track_id is not None]):
            connection.execute(sa.delete(track).where(track.c.track_id.in_(ids)))
        for kind in (SCREEN, SPEECH, EMBEDDED):
            for ids in parts(sorted({each.media_id for each in unsound if each.kind == kind})):
                of_these = (reading.kind == kind, reading.media_id.in_(ids))
                connection.execute(sa.delete(tables.text_reading).where(*of_these))
                if kind != EMBEDDED:  # those any run reads that does not know them
                    marks = [{"media_id": media_id, "kind": kind, "reading": LOST} for media_id in ids]
                    connection.execute(sa.insert(tables.text_reading), marks)


def forget_readings(catalog: Catalog, kind: str) -> None:
    """So that the next run reads all of that kind again."""
    with catalog.writer.begin() as connection:
        connection.execute(sa.delete(tables.text_reading).where(tables.text_reading.c.kind == kind))


def lost_texts(catalog: Catalog) -> dict[str, list[MediaId]]:
    """Kind of reading → the Media whose words were lost and not read again yet."""
    reading = tables.text_reading.c
    query = sa.select(reading.kind, reading.media_id).where(reading.reading == LOST)
    found: dict[str, list[MediaId]] = {}
    with catalog.reader.begin() as connection:
        for kind, media_id in connection.execute(query.order_by(reading.media_id)):
            found.setdefault(kind, []).append(media_id)
    return found
