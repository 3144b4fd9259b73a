"""Does search say so when nothing stands out? Queries whose file is in the library, and the same with the file gone.

    ivsearch index ../shared/media/dev --library /tmp/dev-library
    python benchmarks/calibration.py --library /tmp/dev-library [--json OUT]

``there``: every query · ``in ten``: those whose right file is among the first ten · ``first``: those where it is the
first · ``gone``: every query, with its file taken out of what is found and out of the background · ``absent``: things
that no file shows. Figures are the share that ends in "nothing stands out" at a least likelihood. Where search does not
put the right file first, taking it away leaves the best hit as it was: no threshold can tell such a query from its
twin, and ``possible`` is the least share of ``there`` refused at 70 % of ``gone``, if all others were told apart.
``pictures``: the photos, compressed, cropped and darkened, asked for as images. Clips are asked for as pictures are.

``chosen`` and ``reported`` are the halves of the files that search_quality.py has. ``--fit`` prints the curve of
ivsearch/scoring/likelihood.py fitted on the first.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ask_quality import ABSENT, logistic
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from search_quality import LANGUAGES, half_of

import ivsearch
from ivsearch.ask.question import read_question
from ivsearch.domain import Term
from ivsearch.scoring.gallery import Gallery, Sample, measure
from ivsearch.scoring.likelihood import lead
from ivsearch.scoring.vocabulary import vocabulary_vectors
from ivsearch.search.calibrate import Shown, Told, by_pictures, by_words
from ivsearch.search.compose import Composed
from ivsearch.search.refine import FoundSpan
from ivsearch.search.search import Search
from ivsearch.settings import MIN_LIKELY

LEAST = (0.05, 0.1, 0.15, 0.2, 0.25, 0.28, 0.3, 0.32, 0.35, 0.4, 0.45, 0.5, 0.6)


@dataclass(frozen=True, slots=True)
class Case:
    """One query both ways. ``rank`` of its right file; ``there`` and ``gone``: the likelihood of the best hit."""

    language: str
    half: str
    rank: int
    there: float
    gone: float
    fit: float
    ahead: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared" / "media")
    parser.add_argument("--every", type=int, default=1, help="only every so many queries")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ivsearch.open_library(arguments.library, create=False) as library:
        search = library.searcher()
        media_of = {row.path.name: row.media_id for row in library.catalog.paths()}
        lines = (arguments.media / "queries.jsonl").read_text("utf-8").splitlines()
        cases = [case_of(query, search, media_of) for query in map(json.loads, lines[:: arguments.every])]
        absent = [best_of(search, [Term(text=read_question(question).described)]) for _, question in ABSENT]
        pictures = list(picture_cases(arguments.media / "dev", search, media_of))
    if arguments.fit:
        chosen = [case for case in cases if case.half == "chosen"]
        inputs = np.array([[case.fit, case.ahead] for case in chosen])
        print("fit, lead, offset:", logistic(inputs, np.array([case.rank == 1 for case in chosen], float)).round(2))
    report = {
        "curve": curve(cases, absent),
        "languages": by_language(cases),
        "areas": areas(cases, absent),
        "pictures": {"": refused(pictures, MIN_LIKELY)},
        "reliability": reliability([case for case in cases if case.half == "reported"]),
    }
    for title, rows in report.items():
        show(title, rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def found_for(search: Search, composed: Composed, terms: Sequence[Term]) -> dict[str, list[FoundSpan]]:
    """The best span of every Media of the library."""
    media_ids = list(search.catalog.encodings(search.encoder.space))
    hubness = search._hubness(terms)
    return {media_id: spans[:1] for media_id, spans in search._refine(composed, media_ids, set(), hubness).items()}


def judged(found: dict[str, list[FoundSpan]], calibration: Told | Shown) -> tuple[str, float]:
    """The best Media and how likely it is."""
    best = max(found, key=lambda media_id: found[media_id][0].score)
    return best, calibration.likely(best, found[best][0].score)


def best_of(search: Search, terms: Sequence[Term]) -> float:
    composed = search._composed(terms)
    found = found_for(search, composed, terms)
    gallery = search.gallery()
    assert gallery is not None
    return judged(found, by_words(composed.wanted, found, gallery, among_all=True))[1]


def both_ways(search: Search, composed: Composed, terms: Sequence[Term], right: str, name: str, language: str) -> Case:
    found, gallery = found_for(search, composed, terms), search.gallery()
    assert gallery is not None
    others = {media_id: spans for media_id, spans in found.items() if media_id != right}
    left = without(gallery, right, search)
    told = by_words(composed.wanted, found, gallery, among_all=True)
    before: Told | Shown | None = told
    after: Told | Shown | None = by_words(composed.wanted, others, left, among_all=True)
    if terms[0].text is None:
        before, after = by_pictures(gallery.sample), by_pictures(left.sample)
    assert before is not None and after is not None
    best, there = judged(found, before)
    rank = 1 + sum(spans[0].score > found[right][0].score for spans in others.values())
    fit = (found[best][0].score - gallery.floor) / gallery.unit
    ahead = lead(fit, (other for other, owner in told.best if owner != best), told.chance)
    return Case(language, half_of(name), rank, there, judged(others, after)[1], fit, ahead)


def without(gallery: Gallery, media_id: str, search: Search) -> Gallery:
    """The background as if the Media had never been there."""
    sample = gallery.sample
    kept = sample.owners != media_id
    clips = sample.clips[kept]
    scores = vocabulary_vectors(search.encoder) @ clips.T
    return measure(scores, Sample.of(clips, sample.owners[kept], sample.n_clips - int((~kept).sum())))


def case_of(query: dict, search: Search, media_of: dict[str, str]) -> Case:
    first = query["relevant"][0]
    name = Path(first if isinstance(first, str) else first[0]).name
    terms = [Term(text=query["text"])]
    return both_ways(search, search._composed(terms), terms, media_of[name], name, query["lang"])


def picture_cases(folder: Path, search: Search, media_of: dict[str, str]) -> Iterable[Case]:
    terms = [Term(image=Path("copy.jpg"))]
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
            continue
        photo = Image.open(path).convert("RGB")
        width, height = photo.size
        part = photo.crop((width // 20, height // 20, width - width // 20, height - height // 20))
        file = io.BytesIO()
        ImageEnhance.Brightness(part).enhance(0.85).save(file, "JPEG", quality=30)
        pixels = np.asarray(Image.open(file))
        vector: NDArray[np.float32] = search.encoder.encode_images(search.encoder.preprocess([pixels])).vectors[0]
        yield both_ways(search, Composed.of(vector), terms, media_of[path.name], path.name, "")


def refused(cases: Sequence[Case], least: float) -> dict[str, float]:
    groups = {
        "there": [case.there for case in cases],
        "in ten": [case.there for case in cases if case.rank <= 10],
        "first": [case.there for case in cases if case.rank == 1],
        "gone": [case.gone for case in cases],
    }
    return {name: round(float((np.array(group) < least).mean()), 3) for name, group in groups.items()}


def curve(cases: Sequence[Case], absent: Sequence[float]) -> dict[str, dict[str, float]]:
    rows = {}
    for least in LEAST:
        for half in ("chosen", "reported"):
            row = refused([case for case in cases if case.half == half], least)
            row["absent"] = round(float((np.array(absent) < least).mean()), 3)
            rows[f"{least:.2f} {half}"] = row
    return rows


def by_language(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    return {each: refused([case for case in cases if case.language == each], MIN_LIKELY) for each in LANGUAGES}


def areas(cases: Sequence[Case], absent: Sequence[float]) -> dict[str, dict[str, float]]:
    rows = {}
    for half in ("chosen", "reported"):
        of_half = [case for case in cases if case.half == half]
        gone = [case.gone for case in of_half]
        first = [case.there for case in of_half if case.rank == 1]
        share = len(first) / len(of_half)
        rows[half] = {
            "queries": len(of_half),
            "right first": round(share, 3),
            "auc there/gone": area([case.there for case in of_half], gone),
            "auc first/gone": area(first, gone),
            "auc first/absent": area(first, absent),
            "possible": round(max(0.0, 0.7 - share), 3),
        }
    return rows


def area(higher: Sequence[float], lower: Sequence[float]) -> float:
    x, y = np.array(higher), np.array(lower)
    return round(float((x[:, None] > y).mean() + (x[:, None] == y).mean() / 2), 3)


def reliability(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Fifths of the queries by what they are said to be worth, and how many of each are right."""
    order = sorted(cases, key=lambda case: case.there)
    fifths = [order[i * len(order) // 5 : (i + 1) * len(order) // 5] for i in range(5)]
    return {
        str(i): {
            "said": round(float(np.mean([case.there for case in fifth])), 3),
            "right": round(float(np.mean([case.rank == 1 for case in fifth])), 3),
        }
        for i, fifth in enumerate(fifths, 1)
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<16}" + "".join(f"{column:>18}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<16}" + "".join(f"{row[column]:>18.3g}" for column in columns))


if __name__ == "__main__":
    main()
