"""Composed queries and sequences on media with ground truth: does what was left out go, and does order count?

    python benchmarks/query_language.py --media ../shared/media [--library DIR] [--json OUT]

``left out``: a file's first query less the query of the file most confused with it (which stands first, or next below).
MRR of the file before and after, how often the other one stands above it, and how often it is first all the same.
``picture + text``: a file's query with a photo of another file of its category: MRR with the text alone, the picture
alone, and both. ``sequences``: neighbouring scenes of the compilations, one then the other; how often the right place
is the first hit or among five, and how often the two are found in the wrong order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import ivsearch
from ivsearch.domain import Hit, Term, Then
from ivsearch.library import Library

DEPTH = 20
SEQUENCE_LANGUAGES = ("en", "zh", "de")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def names(hits: list[Hit], but: str = "") -> list[str]:
    return [hit.path.name for hit in hits if hit.path.name != but]


def reciprocal(found: list[str], name: str) -> float:
    return 1 / (found.index(name) + 1) if name in found else 0.0


def above(found: list[str], other: str, name: str) -> bool:
    return reciprocal(found, other) > reciprocal(found, name)


def mean(values: list[float]) -> float:
    return 100 * sum(values) / max(len(values), 1)


def left_out(library: Library, truths: list[dict], language: str) -> dict[str, float]:
    queries = {Path(truth["file"]).name: truth["queries"][0][language] for truth in truths}
    columns = defaultdict(list)
    for name, text in queries.items():
        plain = names(library.search(text, k=DEPTH, per_media=1))
        other = next((each for each in plain if each != name and each in queries), None)
        if other is None:
            continue
        terms = [Term(text), Term(queries[other], weight=-1)]
        without = names(library.search(terms=terms, k=DEPTH, per_media=1))
        columns["MRR before"].append(reciprocal(plain, name))
        columns["MRR after"].append(reciprocal(without, name))
        columns["other above before"].append(above(plain, other, name))
        columns["other above after"].append(above(without, other, name))
        columns["other first after"].append(without[:1] == [other])
    return {column: mean(values) for column, values in columns.items()}


def picture_and_text(library: Library, truths: list[dict], media: Path) -> dict[str, float]:
    columns = defaultdict(list)
    for truth in truths:
        name, text = Path(truth["file"]).name, truth["queries"][0]["en"]
        photos = [each for each in truths if each["category"] == truth["category"] and each["kind"] == "photo"]
        for photo in [media / each["file"] for each in photos if each["file"] != truth["file"]][:2]:
            both = [Term(image=photo), Term(text)]
            columns["text"].append(reciprocal(names(library.search(text, k=DEPTH, per_media=1), photo.name), name))
            alone = library.search(image=photo, k=DEPTH, per_media=1)
            columns["picture"].append(reciprocal(names(alone, photo.name), name))
            together = library.search(terms=both, k=DEPTH, per_media=1)
            columns["both"].append(reciprocal(names(together, photo.name), name))
    return {f"MRR {column}": mean(values) for column, values in columns.items()}


def shows(hit: Hit, *scenes: dict) -> bool:
    """Whether the middle of each of its moments is in the scene it is for."""
    middles = [(step.start_s + step.end_s) / 2 for step in hit.steps]
    within = [scene["start"] <= middle <= scene["end"] for scene, middle in zip(scenes, middles, strict=True)]
    return hit.path.name == Path(scenes[0]["file"]).name and all(within)


def sequences(library: Library, scenes: list[dict], language: str) -> dict[str, float]:
    columns = defaultdict(list)
    for first, second in itertools.pairwise(sorted(scenes, key=lambda scene: (scene["file"], scene["start"]))):
        if first["file"] != second["file"] or not Path(first["file"]).name.startswith("c"):
            continue
        a, b = first["query"][language], second["query"][language]
        hits = library.search(a, then=[Then((Term(b),))], k=5)
        backwards = library.search(b, then=[Then((Term(a),))], k=5)
        columns["R@1"].append(bool(hits) and shows(hits[0], first, second))
        columns["R@5"].append(any(shows(hit, first, second) for hit in hits))
        columns["nothing"].append(not hits)
        columns["wrong order"].append(any(shows(hit, second, first) for hit in backwards))
    return {column: mean(values) for column, values in columns.items()}


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<8}" + "".join(f"{column:>20}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<8}" + "".join(f"{row[column]:>20.1f}" for column in columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared" / "media")
    parser.add_argument("--library", type=Path, help="keep the library here (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    truths = [truth for truth in lines(arguments.media / "truth.jsonl") if "queries" in truth]
    scenes = lines(arguments.media / "truth_moments.jsonl")
    with (
        tempfile.TemporaryDirectory() as temporary,
        ivsearch.open_library(arguments.library or temporary) as library,
    ):
        for _ in library.index([arguments.media / "dev"]):
            pass
        there = {path.name for path in (arguments.media / "dev").iterdir()}
        truths = [truth for truth in truths if Path(truth["file"]).name in there]
        found = {language: sequences(library, scenes, language) for language in SEQUENCE_LANGUAGES}
        show("sequences, %", found)
        without = {"en": left_out(library, truths, "en")}
        show("left out, %", without)
        both = {"en": picture_and_text(library, truths, arguments.media)}
        show("picture + text, %", both)
    if arguments.json:
        document = {"sequences": found, "left out": without, "picture and text": both}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
