"""Does ``ask`` answer well? The two questions of every annotated file of the shared media, and where-questions in eight
languages, put to a library of them; composed answers against those of the small text models.

    ivsearch index ../shared/media/dev --library /tmp/dev-library
    python benchmarks/ask_quality.py --library /tmp/dev-library [--chat smollm2] [--calibrate] [--json out.json]

Settings: ``bare`` the question as it is, over the whole library · ``described`` after a description of the file ·
``file`` in the right file only · ``where`` "where can I see …?" over the whole library, in eight languages.
Figures: ``first`` the right file is cited first · ``proof`` a citation lies in the right file and overlaps the moment
that proves the answer · ``says`` the text holds an accepted answer · ``clear`` called the best match · ``right`` of
those, the right file · ``nothing`` nothing found · ``own words`` with a sentence of the chat model.
Every second file is ``odd``: what was chosen was chosen on ``even``.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ivsearch import open_library
from ivsearch.ask import answer_question, load_chat
from ivsearch.ask.chat import ChatModel
from ivsearch.ask.evidence import gather
from ivsearch.ask.finder import Finder
from ivsearch.ask.gallery import Gallery, gallery_of
from ivsearch.ask.support import CLEAR
from ivsearch.domain import Answer, Embeddings, Filters, Hits, Query
from ivsearch.encode.encoder import Encoder

WHERE = {
    "en": "Where can I see {}?",
    "zh": "哪里有{}?",
    "ja": "{}はどこですか?",
    "fr": "Où voit-on {} ?",
    "es": "¿Dónde se ve {}?",
    "de": "Wo sieht man {}?",
    "ru": "Где видно: {}?",
    "ar": "أين يظهر {}؟",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question with what is known of its answer. ``moment`` in seconds; None for a photo or the whole video."""

    file: str
    odd: bool
    language: str
    question: str
    description: str
    accept: tuple[str, ...]
    moment: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Scored:
    case: Case
    answer: Answer
    cpu_s: float
    first: bool
    proof: bool
    says: bool


class Remembered:
    """An Encoder that encodes each text once: the settings ask the same questions again and again."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self._encoder = encoder
        self.space = encoder.space
        self.preprocess, self.encode_images = encoder.preprocess, encoder.encode_images
        self._known = dict(zip(texts, encoder.encode_texts(texts).vectors, strict=True))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        if any(text not in self._known for text in texts):
            self._known |= dict(zip(texts, self._encoder.encode_texts(texts).vectors, strict=True))
        return Embeddings(self.space, np.stack([self._known[text] for text in texts]))


class Without:
    """A Finder that never finds one file: the question has no answer any more."""

    def __init__(self, finder: Finder, file: str) -> None:
        self.catalog, self.vectors, self.encoder = finder.catalog, finder.vectors, finder.encoder
        self._finder, self._file = finder, file

    def find(self, query: Query, k: int = 10, per_media: int | None = None) -> Hits:
        hits = self._finder.find(query, k + 1, per_media)
        return replace(hits, hits=tuple(hit for hit in hits if hit.path.name != self._file)[:k])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared" / "media")
    parser.add_argument("--chat", action="append", default=[], help="also with this chat model; may be repeated")
    parser.add_argument("--calibrate", action="store_true", help="fit the curves of ivsearch/ask/support.py")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of every setting")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plain = open_library(arguments.library, create=False).searcher()
    asked, where = cases(arguments.media)
    texts = [text for case in asked for text in (case.question, f"{case.description}: {case.question}")]
    finder = replace(plain, encoder=Remembered(plain.encoder, [*texts, *(case.question for case in where)]))
    if arguments.calibrate:
        calibrate(finder, where)
        return
    report: dict[str, dict[str, float]] = {}
    for name in ["composed", *arguments.chat]:
        chat = None if name == "composed" else load_chat(name)
        for setting, ask in settings(finder, chat).items():
            if setting == "where" and chat is not None:
                continue
            scored = [score(case, ask) for case in (where if setting == "where" else asked)]
            for row, group in groups(scored):
                report[f"{name} {setting} {row}"] = figures(group)
            for each in scored[:: max(1, len(scored) // arguments.show)] if arguments.show else []:
                print(f"  {each.case.question} {each.case.accept}\n    {each.answer.text}")
    report["seconds an answer"] = {"cpu_s": seconds(plain, asked)}
    report["nothing found when the file is gone"] = refusals(finder, where)
    show(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def cases(media: Path) -> tuple[list[Case], list[Case]]:
    """The files' own questions (English), and where-questions made of their first query in eight languages."""
    lines = (json.loads(line) for line in (media / "truth.jsonl").read_text(encoding="utf-8").splitlines())
    rows = [row for row in lines if "questions" in row]
    asked, where = [], []
    for number, row in enumerate(rows):
        file, odd, query = Path(row["file"]).name, number % 2 == 1, row["queries"][0]
        for question in row["questions"]:
            moment = tuple(question["moment"]) if question.get("moment") else None
            asked.append(Case(file, odd, "en", question["q"], query["en"], tuple(question["accept"]), moment))
        for language, form in WHERE.items():
            where.append(Case(file, odd, language, form.format(query[language]), "", (), None))
    return asked, where


def settings(finder: Finder, chat: ChatModel | None) -> dict[str, Callable[[Case], Answer]]:
    def bare(case: Case) -> Answer:
        return answer_question(case.question, finder, chat=chat)

    def described(case: Case) -> Answer:
        return answer_question(f"{case.description}: {case.question}", finder, chat=chat)

    def file(case: Case) -> Answer:
        return answer_question(case.question, finder, chat=chat, filters=Filters(paths=(case.file,)))

    return {"bare": bare, "described": described, "file": file, "where": bare}


def score(case: Case, ask: Callable[[Case], Answer]) -> Scored:
    started = time.process_time()
    answer = ask(case)
    cpu_s = time.process_time() - started
    first = bool(answer.cited) and answer.cited[0].path.name == case.file
    right = [each for each in answer.cited if each.path.name == case.file]
    proof = any(overlaps(each.start_s, each.end_s, case.moment) for each in right)
    # The question is quoted in the answer, and must not count as an answer.
    text = answer.text.lower().replace(f"{case.description}: {case.question}".lower(), "")
    text = text.replace(case.question.lower(), "")
    says = any(re.search(rf"\b{re.escape(accepted.lower())}\b", text) for accepted in case.accept)
    return Scored(case, answer, cpu_s, first, proof, says)


def overlaps(start_s: float, end_s: float, moment: tuple[float, float] | None) -> bool:
    return moment is None or (start_s < moment[1] and end_s > moment[0])


def groups(scored: Sequence[Scored]) -> Iterable[tuple[str, list[Scored]]]:
    yield "even", [each for each in scored if not each.case.odd]
    yield "odd", [each for each in scored if each.case.odd]
    languages = dict.fromkeys(each.case.language for each in scored)
    if len(languages) > 1:
        for language in languages:
            yield language, [each for each in scored if each.case.language == language]


def figures(scored: Sequence[Scored]) -> dict[str, float]:
    clear = [each for each in scored if each.answer.cited and each.answer.cited[0].support >= CLEAR]
    table = {
        "n": len(scored),
        "first": np.mean([each.first for each in scored]),
        "proof": np.mean([each.proof for each in scored]),
        "says": np.mean([each.says for each in scored]),
        "clear": len(clear) / len(scored),
        "right": np.mean([each.first for each in clear]) if clear else float("nan"),
        "nothing": np.mean([not each.answer.cited for each in scored]),
        "own words": np.mean([not each.answer.composed for each in scored]),
        "cpu_s but for the query": np.median([each.cpu_s for each in scored]),
    }
    return {name: round(float(value), 3) for name, value in table.items()}


def refusals(finder: Finder, where: Sequence[Case]) -> dict[str, float]:
    """How often nothing is found when there is nothing; and how often what is shown is called a clear match."""
    answers = [answer_question(case.question, Without(finder, case.file), chat=None) for case in where if case.odd]
    nothing = np.mean([not answer.cited for answer in answers])
    clear = np.mean([bool(answer.cited) and answer.cited[0].support >= CLEAR for answer in answers])
    return {"n": len(answers), "nothing": round(float(nothing), 3), "clear": round(float(clear), 3)}


def seconds(finder: Finder, asked: Sequence[Case]) -> float:
    """CPU seconds of a composed answer, the encoding of the question included; the median of twenty."""
    started = []
    for case in asked[:21]:
        started.append(time.process_time())
        answer_question(case.question, finder, chat=None)
    return round(float(np.median(np.diff(started))), 3)


def calibrate(finder: Finder, where: Sequence[Case]) -> None:
    """Fits AGREEMENT on the even files and shows how it holds on the odd ones; what ships is the fit on all."""
    gallery = gallery_of(finder)
    assert gallery is not None
    present = [best_fit(case, finder, gallery) for case in where]
    gone = [best_fit(case, Without(finder, case.file), gallery) for case in where]
    odd = np.array([case.odd for case in where])
    x, y = np.array([fit for fit, _ in present]), np.array([right for _, right in present])
    absent = np.array([fit for fit, _ in gone])
    slope, offset = logistic(x[~odd], y[~odd])
    print(f"gallery: floor {gallery.floor:.3f}, peak {gallery.peak:.3f}, spread {gallery.spread:.3f}")
    print(f"AGREEMENT on even: slope {slope:.2f}, offset {offset:.2f}")
    print("AGREEMENT on all: slope {:.2f}, offset {:.2f}".format(*logistic(x, y)))
    for low in np.arange(0, 1.5, 0.1):
        inside = odd & (x >= low) & (x < low + 0.1)
        if inside.any():
            said = 1 / (1 + np.exp(-(slope * (low + 0.05) + offset)))
            print(f"fit {low:.1f}: {inside.sum():4d} odd, right {y[inside].mean():.2f}, curve {said:.2f}")
    print(f"right against gone: area under the curve {np.mean(x[y][:, None] > absent[None]):.3f}")
    for quantile in (0.02, 0.05, 0.1):
        found = float(np.quantile(x[y & ~odd], quantile))
        lost, refused = (x[y & odd] < found).mean(), (absent[odd] < found).mean()
        print(f"FOUND = {found:.2f}: on odd, {lost:.3f} of the right lost, {refused:.3f} of the gone refused")


def best_fit(case: Case, finder: Finder, gallery: Gallery) -> tuple[float, bool]:
    """How well the best hit fits its question, and whether it is the right file."""
    hits = finder.find(Query(text=case.question), 1).hits
    vector = finder.encoder.encode_texts([case.question]).vectors[0]
    shown = gather(hits, finder, gallery)[0]
    return gallery.fit(float(vector @ shown.vector)), shown.evidence.hit.path.name == case.file


def logistic(x: np.ndarray, y: np.ndarray, steps: int = 200) -> tuple[float, float]:
    """Newton's method on the log-likelihood, with a whiff of ridge."""
    design, weights = np.stack([x, np.ones_like(x)], 1), np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (y - p) - 1e-3 * weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-3 * np.eye(2)
        weights += np.linalg.solve(hessian, gradient)
    return float(weights[0]), float(weights[1])


def show(report: dict[str, dict[str, float]]) -> None:
    for name, row in report.items():
        print(f"{name:36}", "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
