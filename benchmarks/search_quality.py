"""How well search finds: R@1/5/10 of files per language, and moments, on media with ground truth.

    python benchmarks/search_quality.py --media ../shared/media [--library DIR] [--encoder mini] [--json OUT]

Every query goes alone through the real ``Library.search``. A file counts once, at its best rank. A moment counts
when the top hit over the whole library is in the right file and its span and the true one overlap by half or more of
their union (R1@0.5). ``chosen`` and ``reported`` are the two halves of the annotated files (by a hash of the name):
parameters are chosen on the first, the second tells whether that was honest.

``--run OUT`` also writes the hits in the form that ``score.py`` beside the media reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import ivsearch
from ivsearch.domain import Hit

LANGUAGES = ("en", "zh", "ja", "fr", "es", "de", "ru", "ar")


@dataclass(frozen=True)
class FileResult:
    language: str
    half: str
    rank: int | None


@dataclass(frozen=True)
class MomentResult:
    language: str
    half: str
    overlap: float
    right_file: bool
    start_error_s: float | None


def half_of(name: str) -> str:
    return "chosen" if hashlib.sha256(name.encode()).digest()[0] % 2 == 0 else "reported"


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two spans in seconds."""
    both = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(a[1], b[1]) - min(a[0], b[0])
    return both / union if union else 0.0


def judge_file(query: dict, hits: list[Hit]) -> FileResult:
    right = {Path(path).name for path in query["relevant"]}
    files = list(dict.fromkeys(hit.path.name for hit in hits))
    rank = next((i for i, name in enumerate(files, 1) if name in right), None)
    return FileResult(query["lang"], half_of(min(right)), rank)


def judge_moment(query: dict, hits: list[Hit]) -> MomentResult:
    truths = [(Path(path).name, (start, end)) for path, start, end in query["relevant"]]
    half = half_of(query["id"].rsplit("-", 1)[0])
    if not hits:
        return MomentResult(query["lang"], half, 0.0, False, None)
    top = hits[0]
    same = [span for name, span in truths if name == top.path.name]
    best = max((overlap((top.moment.start_s, top.moment.end_s), span) for span in same), default=0.0)
    error = min((abs(top.moment.start_s - span[0]) for span in same), default=None)
    return MomentResult(query["lang"], half, best, bool(same), error)


def file_row(results: list[FileResult]) -> dict[str, float]:
    n = max(len(results), 1)
    return {f"R@{k}": 100 * sum(r.rank is not None and r.rank <= k for r in results) / n for k in (1, 5, 10)}


def mean_over_languages(results: list[FileResult]) -> dict[str, float]:
    rows = [file_row([r for r in results if r.language == language]) for language in LANGUAGES]
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def moment_row(results: list[MomentResult]) -> dict[str, float]:
    n = max(len(results), 1)
    errors = [r.start_error_s for r in results if r.start_error_s is not None]
    return {
        "file R1": 100 * sum(r.right_file for r in results) / n,
        "R1@0.5": 100 * sum(r.overlap >= 0.5 for r in results) / n,
        "R1@0.7": 100 * sum(r.overlap >= 0.7 for r in results) / n,
        "mIoU": 100 * sum(r.overlap for r in results) / n,
        "start error s": sum(errors) / max(len(errors), 1),
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<10}" + "".join(f"{column:>15}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<10}" + "".join(f"{row[column]:>15.1f}" for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared" / "media")
    parser.add_argument("--library", type=Path, help="keep the library here (default: a temporary one)")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--run", type=Path, help="write the hits here, for score.py")
    arguments = parser.parse_args()
    queries = [json.loads(line) for line in (arguments.media / "queries.jsonl").read_text("utf-8").splitlines()]

    with (
        tempfile.TemporaryDirectory() as temporary,
        ivsearch.open_library(arguments.library or temporary, encoder=arguments.encoder) as library,
    ):
        n_files = sum(1 for _ in library.index([arguments.media / "dev"]))
        started = time.perf_counter()
        hits = {query["id"]: library.search(query["text"], k=10) for query in queries}
        query_s = (time.perf_counter() - started) / len(queries)

    files = [judge_file(query, hits[query["id"]]) for query in queries if query["kind"] == "file"]
    moments = [judge_moment(query, hits[query["id"]]) for query in queries if query["kind"] == "moment"]
    by_language: dict[str, list[FileResult]] = defaultdict(list)
    for result in files:
        by_language[result.language].append(result)

    file_rows = {language: file_row(by_language[language]) for language in LANGUAGES}
    file_rows["mean"] = mean_over_languages(files)
    for half in ("chosen", "reported"):
        file_rows[half] = mean_over_languages([r for r in files if r.half == half])
    moment_rows = {language: moment_row([r for r in moments if r.language == language]) for language in LANGUAGES}
    moment_rows["all"] = moment_row(moments)
    for half in ("chosen", "reported"):
        moment_rows[half] = moment_row([r for r in moments if r.half == half])

    print(f"{n_files} media, {len(files)} file queries, {len(moments)} moment queries, {1000 * query_s:.0f} ms a query")
    show("files, %", file_rows)
    show("moments, % (top hit over everything)", moment_rows)
    if arguments.json:
        document = {"encoder": arguments.encoder, "media": n_files, "files": file_rows, "moments": moment_rows}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.run:
        run = {id_: [[h.path.name, h.moment.start_s, h.moment.end_s] for h in found] for id_, found in hits.items()}
        arguments.run.write_text(json.dumps(run))


if __name__ == "__main__":
    main()
