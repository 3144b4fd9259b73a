"""Nouns → text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ivsearch.domain import (
    Absence,
    Answer,
    Hit,
    Hits,
    Ingested,
    MediaKind,
    Modality,
    Outcome,
    Query,
    Removed,
    Skipped,
    Term,
    TextRead,
    TextRemoved,
    Verdict,
)
from ivsearch.plain_text import clock, printable

if TYPE_CHECKING:
    from ivsearch.ingest import IngestEvent


# Words of a hit that are shown: a line of subtitles, or two.
WORDS_WIDTH = 100


def span(start_s: float, end_s: float) -> str:
    return f"{clock(start_s)}–{clock(end_s)}"


def length(time_s: float) -> str:
    """A length of time in words: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(time_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(n_bytes: int) -> str:
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def short_path(path: Path) -> str:
    """Relative to the current folder where it is below it, in one printable line."""
    return printable(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def hits_text(hits: Hits) -> str:
    """A line a hit: rank, score, moment, path; below it the words that were found there."""
    if not hits.hits:
        return "nothing found"
    rows = [(f"{hit.rank:>2}", f"{hit.score:.3f}", _moments_text(hit), hit) for hit in hits.hits]
    width = max(len(when) for _, _, when, _ in rows)
    digits = max(len(score) for _, score, _, _ in rows)  # one more where a score is negative
    lines = [
        f"{rank}  {score:>{digits}}  {when:<{width}}  {short_path(hit.path)}  (clip {hit.clip_id})"
        + _copies_note(hit)
        + _words_text(hit)
        for rank, score, when, hit in rows
    ]
    return "\n".join(lines if hits.matched else ["nothing stands out; nearest:", *lines])


def _copies_note(hit: Hit) -> str:
    """How many copies were folded into it; empty where there are none."""
    n = len(hit.copies)
    return f"  (+{n} {'copy' if n == 1 else 'copies'})" if n else ""


def explained_text(hits: Hits) -> str:
    """Some lines a hit: how likely, what both are about, the curve of scores over the file."""
    return "\n".join(line for hit in hits.hits for line in _explanation_lines(hit))


def _explanation_lines(hit: Hit) -> list[str]:
    made = hit.explanation
    head = f"{hit.rank:>2}  {short_path(hit.path)}"
    if made is None:
        return [f"{head}: its vectors cannot be read any more"]
    likely = "" if hit.likely is None else f"  likely {100 * hit.likely:.0f} %"
    above = "" if made.percentile is None else f"  above {made.percentile:.0f} % of the library's clips"
    near = "taken off for being near to any word" if made.taken_off >= 0 else "added for being near to few words"
    lines = [f"{head}{likely}{above}", f"      {near}: {abs(made.taken_off):.3f}"]
    if made.words:
        lines.append(f"      both are about: {', '.join(made.words)}")
    shares = [f"{each.modality.value} {100 * each.share:.0f} %" for each in hit.contributions]
    if shares:
        lines.append(f"      of the score: {', '.join(shares)}")
    if len(made.scores) > 1:
        low, high = min(made.scores), max(made.scores)
        lines.append(f"      frame scores {low:.2f} to {high:.2f}: {_sparkline(made.scores)}")
    return lines


def _sparkline(scores: Sequence[float], width: int = 60) -> str:
    """The highest of each of ``width`` equal parts, as a bar of eight heights."""
    n = min(width, len(scores))
    parts = [scores[i * len(scores) // n : (i + 1) * len(scores) // n] for i in range(n)]
    low, high = min(scores), max(scores)
    heights = [round(7 * (max(part) - low) / max(high - low, 1e-9)) for part in parts]
    return "".join("▁▂▃▄▅▆▇█"[height] for height in heights)


def absence_text(absence: Absence) -> str:
    """Why a file is not among the hits, in a line or two."""
    lines = [f"{short_path(absence.path)}: {printable(absence.reason)}"]
    if absence.score is not None and absence.moment is not None:
        last = "" if absence.last_score is None else f"; the last hit shown has {absence.last_score:.3f}"
        likely = "" if absence.likely is None else f", likely {100 * absence.likely:.0f} %"
        moment = absence.moment
        # A photo has no times.
        when = "" if moment.start_s == moment.end_s else f", best at {span(moment.start_s, moment.end_s)}"
        lines.append(f"      rank {absence.rank}, score {absence.score:.3f}{likely}{when}{last}")
    return "\n".join(lines)


def copies_text(hits: Hits) -> str:
    """A line a copy, below the rank of its hit; what to do when there are none."""
    lines = [
        f"{hit.rank:>2}  {_when(hit.kind, copy.start_s, copy.end_s)}  {short_path(copy.path)}"
        for hit in hits.hits
        for copy in hit.copies
    ]
    return "\n".join(["copies of the hits above:", *lines]) if lines else "none of the hits has a copy in another file"


def _words_text(hit: Hit) -> str:
    """``subtitle: “…”``, a line of each kind of words, with its share of the score."""
    said = [each for each in hit.contributions if each.text]
    return "".join(
        f"\n      {each.modality.value}: “{_shortened(printable(each.text))}”  ({100 * each.share:.0f} % of the score)"
        for each in said
    )


def _shortened(words: str, width: int = WORDS_WIDTH) -> str:
    return words if len(words) <= width else words[: width - 1] + "…"


def query_text(query: Query) -> str:
    """A query on one line, much as it would be typed."""
    terms = query.terms or (Term(query.text, query.image, query.clip_id, region=query.region),)
    words = []
    for place, term in enumerate(terms):
        sign = "- " if term.weight < 0 else "+ " if place else ""
        words.append(sign + _term_text(term))
    for then in query.then:
        steps = " ".join(_term_text(term) for term in then.terms)
        words.append(f"--then {steps} --within {length(then.within_s)}")
    filters = query.filters
    words += [f"--path {glob}" for glob in filters.paths]
    words += [f"--kind {filters.kind.value}"] if filters.kind else []
    for option, time_s in (("min", filters.min_duration_s), ("max", filters.max_duration_s)):
        words += [f"--{option}-duration {length(time_s)}"] if time_s is not None else []
    for option, moment in (("after", filters.after), ("before", filters.before)):
        words += [f"--{option} {moment:%Y-%m-%dT%H:%M:%S}"] if moment is not None else []
    return printable(" ".join(words))


def _term_text(term: Term) -> str:
    weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}:"
    if term.text is not None:
        return f'{weight}"{term.text}"'
    if term.clip_id is not None:
        part = "" if term.start_s is None or term.end_s is None else f"@{term.start_s:g}-{term.end_s:g}"
        return f"{weight}clip:{term.clip_id}{part}"
    region = term.region
    part = "" if region is None else f"#{region.x:g},{region.y:g},{region.width:g},{region.height:g}"
    return f"{weight}{term.image}{part}"


def _moments_text(hit: Hit) -> str:
    if hit.steps:
        return " → ".join(span(step.start_s, step.end_s) for step in hit.steps)
    return _when(hit.kind, hit.moment.start_s, hit.moment.end_s)


def _when(kind: MediaKind, start_s: float, end_s: float) -> str:
    return "image" if kind is MediaKind.IMAGE else span(start_s, end_s)


def sources_text(answer: Answer, advice: str = "") -> str:
    """A line a citation, and how many sentences were withheld; empty where there is neither. ``advice``: how to see
    what was withheld."""
    lines = []
    for cited in answer.cited:
        when = "" if cited.end_s == 0 else f"  {span(cited.start_s, cited.end_s)}"
        note = "" if cited.verified else f"  (not verified{f': {cited.reason}' if cited.reason else ''})"
        lines.append(f"[{cited.label}] {short_path(cited.path)}{when}{note}")
    failed = [each for each in answer.sentences if each.verdict is not Verdict.SUPPORTED]
    # One that is shown all the same is marked: a remark in brackets follows it.
    if withheld := [each for each in failed if f"{each.text} (" not in answer.text]:
        several = "1 sentence" if len(withheld) == 1 else f"{len(withheld)} sentences"
        how = f" ({advice})" if advice else ""
        lines.append(f"{several} of the chat model withheld: not supported by the footage{how}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What a run of ``index`` did."""

    folder: Path
    counts: Mapping[Outcome, int]
    skipped: tuple[Skipped, ...]
    removed: int
    warned: tuple[Ingested, ...]
    video_s: float
    images: int
    elapsed_s: float
    texts: tuple[TextRead, ...] = ()
    texts_removed: int = 0

    @classmethod
    def of(cls, events: Sequence[IngestEvent], folder: Path, elapsed_s: float) -> IndexSummary:
        ingested = [event for event in events if isinstance(event, Ingested)]
        new = [event for event in ingested if event.outcome is Outcome.INDEXED]
        return cls(
            folder=folder,
            counts=Counter(event.outcome for event in ingested),
            skipped=tuple(event for event in events if isinstance(event, Skipped)),
            removed=sum(isinstance(event, Removed) for event in events),
            warned=tuple(event for event in new if event.media.warnings),
            video_s=sum(event.media.duration_s for event in new),
            images=sum(event.media.kind is MediaKind.IMAGE for event in new),
            elapsed_s=elapsed_s,
            texts=tuple(event for event in events if isinstance(event, TextRead)),
            texts_removed=sum(isinstance(event, TextRemoved) for event in events),
        )


def summary_text(summary: IndexSummary, *, quiet: bool) -> str:
    """Several lines; with ``quiet`` only the skipped files."""
    lines = []
    if not quiet:
        if not summary.counts and not summary.skipped and not summary.removed:
            return "no videos or images there"
        done = ", ".join(f"{summary.counts[outcome]} {outcome.value}" for outcome in Outcome)
        lines.append(f"{done}, {summary.removed} removed, {len(summary.skipped)} skipped")
        if summary.counts[Outcome.INDEXED]:
            factor = summary.video_s / max(summary.elapsed_s, 1e-6)
            parts = [f"{length(summary.video_s)} of video ({factor:.1f}× real time)"] if summary.video_s else []
            if summary.images:
                parts.append("1 image" if summary.images == 1 else f"{summary.images} images")
            lines.append(f"{' and '.join(parts)} in {length(summary.elapsed_s)}, in {short_path(summary.folder)}")
        if summary.texts or summary.texts_removed:
            lines.append(_texts_text(summary))
        lines += [f"warning: {short_path(event.path)}: {'; '.join(event.media.warnings)}" for event in summary.warned]
        lines += [
            f"warning: {short_path(each.path)}: {printable('; '.join(each.warnings))}"
            for each in summary.texts
            if each.warnings
        ]
    lines += [skipped_text(each) for each in summary.skipped]
    return "\n".join(lines)


def _texts_text(summary: IndexSummary) -> str:
    """``words: 120 lines of subtitles, 8 lines on screen; 1 file removed``."""
    names = {Modality.SUBTITLE: "of subtitles", Modality.SPEECH: "of speech", Modality.SCREEN: "on screen"}
    counts = Counter[Modality]()
    for each in summary.texts:
        counts[each.source] += each.n_lines
    parts = [f"{counts[source]} lines {name}" for source, name in names.items() if source in counts]
    if summary.texts_removed:
        parts.append(f"{summary.texts_removed} files removed")
    return f"words: {', '.join(parts)}"


def skipped_text(skipped: Skipped) -> str:
    """One line: which file, and why."""
    return f"skipped: {short_path(skipped.path)}: {printable(skipped.reason)}"
