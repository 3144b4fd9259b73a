"""How well lines fit the words of a query: coverage and BM25, over single lines and some in a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ivsearch.domain import TextLine
from ivsearch.store.text_tokens import Word, Words

# BM25's usual figures (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond").
SATURATION = 1.2
LENGTH_SHARE = 0.75
JOIN_S = 2.0
"""Lines that follow each other within this are read as one: a sentence often runs over two subtitles."""
JOIN_LINES = 3


@dataclass(frozen=True, slots=True)
class TokenLine:
    """A line and the tokens it is found by."""

    line: TextLine
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """A line, or some in a row, and how well it fits.

    ``coverage`` in [0, 1]: the share of the query's words it has, each word weighing as much as it is rare.
    ``rarity``: that weight in sum, in nats: 7 is one line of a thousand. ``score``: BM25.
    """

    line: TextLine
    coverage: float
    rarity: float
    score: float


@dataclass(frozen=True, slots=True)
class Weights:
    """``idf``: the inverse document frequency of each word of a query. ``rarest``: that of a word in one line alone.
    ``mean_tokens``: length of a line on average."""

    idf: Mapping[Word, float]
    rarest: float
    mean_tokens: float

    @property
    def total(self) -> float:
        return sum(self.idf.values())


def weigh(counts: Mapping[Word, int], n_lines: int, n_tokens: int) -> Weights:
    """``counts``: in how many of the lines each word is. BM25's inverse document frequency, kept above zero.

    A word that is in no line weighs as one that is in a single line: in a small library many a common word is missing.
    """
    idf = {word: _idf(max(1, count), n_lines) for word, count in counts.items()}
    return Weights(idf, _idf(1, n_lines), n_tokens / max(1, n_lines))


def _idf(count: int, n_lines: int) -> float:
    return math.log1p(max(0.0, n_lines - count + 0.5) / (count + 0.5))


def worth_seeking(weights: Weights, counts: Mapping[Word, int], min_coverage: float, most_lines: int) -> list[Word]:
    """The rarest words of which a line with this coverage must have one, for the others together do not suffice; and
    more of them while they are in no more than ``most_lines``, for what goes on in the next line."""
    total, lines = weights.total, 0
    left = total
    chosen: list[Word] = []
    for word in sorted(weights.idf, key=lambda each: -weights.idf[each]):
        lines += counts[word]
        if left >= min_coverage * total - 1e-9 or lines <= most_lines:
            chosen.append(word)
            left -= weights.idf[word]
    return chosen if total > 0 else []


def fits(rows: Sequence[TokenLine], wanted: Words, weights: Weights, min_coverage: float) -> list[Fit]:
    """The lines of one track that fit, none twice; ``rows`` are those that have words of the query."""
    rows = sorted(rows, key=lambda row: (row.line.start_s, row.line.end_s))
    found = []
    for first in range(len(rows)):
        for last in range(first, min(first + JOIN_LINES, len(rows))):
            if last > first and rows[last].line.start_s - rows[last - 1].line.end_s > JOIN_S:
                break
            fit = _fit(rows[first : last + 1], wanted, weights)
            if fit is not None and fit.coverage >= min_coverage:
                found.append((fit, range(first, last + 1)))
    # A longer run must have more of the words than a part of it.
    found.sort(key=lambda each: (-each[0].coverage, len(each[1]), -each[0].score, each[1].start))
    taken: set[int] = set()
    best = []
    for fit, span in found:
        if taken.isdisjoint(span):
            taken.update(span)
            best.append(fit)
    return best


def _fit(rows: Sequence[TokenLine], wanted: Words, weights: Weights) -> Fit | None:
    there = [token for row in rows for token in row.tokens]
    if not all(_has(there, phrase) for phrase in wanted.phrases):
        return None
    tf = {word: sum(word.fits(token) for token in there) for word in wanted.words}
    rarity = sum(weights.idf[word] for word, count in tf.items() if count)
    norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * len(there) / max(weights.mean_tokens, 1e-9))
    score = sum(weights.idf[word] * count * (SATURATION + 1) / (count + norm) for word, count in tf.items())
    line = TextLine(rows[0].line.start_s, max(row.line.end_s for row in rows), " ".join(row.line.text for row in rows))
    return Fit(line, rarity / weights.total, rarity, score)


def _has(there: Sequence[str], phrase: Sequence[Word]) -> bool:
    return any(
        all(word.fits(token) for word, token in zip(phrase, there[at:], strict=False))
        for at in range(len(there) - len(phrase) + 1)
    )
