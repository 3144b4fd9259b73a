"""Does ``ask`` answer well, and does it say so when the footage does not show it? The two questions of every annotated
file of the shared media, where-questions in eight languages, and questions about what is in no file.

    ivsearch index ../shared/media/dev --library /tmp/dev-library
    python benchmarks/ask_quality.py --library /tmp/dev-library [--chat smollm2] [--calibrate] [--json out.json]

Settings: ``bare`` the question as it is, over the whole library · ``described`` after a description of the file ·
``file`` in the right file only · ``where`` "where can I see …?" over the whole library, in eight languages. ``gone``:
the same with the right file left out of every search · ``absent``: about things that no file shows.
Figures: ``first`` the right file is cited first · ``first proof`` the first citation lies in the right file and
overlaps the moment that proves the answer · ``proof`` any citation does · ``says`` the text holds an accepted answer ·
``matched`` said to be shown; the others end in "the footage does not show it" · ``right`` of those matched, the right
file first · ``nothing`` no citation at all · ``own words`` with a sentence of the chat model. ``not shown`` when it is
there, when search put it first, when it is gone, when it is absent; ``auc`` of the support of the first citation.
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
from numpy.typing import NDArray

from ivsearch import open_library
from ivsearch.ask import answer_question, load_chat
from ivsearch.ask.chat import ChatModel
from ivsearch.ask.evidence import gather
from ivsearch.ask.finder import Finder
from ivsearch.ask.question import read_question
from ivsearch.ask.support import CLEAR, FOUND
from ivsearch.domain import Answer, Embeddings, Filters, Hits, Query
from ivsearch.encode.encoder import Encoder
from ivsearch.scoring.gallery import Gallery, gallery_of
from ivsearch.scoring.likelihood import chance_lead, lead

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

# About what no file of the shared media shows. Every second one is ``odd``.
ABSENT = (
    ("en", "Where is the submarine?"),
    ("en", "Where can I see penguins?"),
    ("en", "When does the volcano erupt?"),
    ("en", "What is the bride wearing?"),
    ("en", "Where does the surgeon operate?"),
    ("zh", "哪里有长颈鹿?"),
    ("zh", "热气球什么时候起飞?"),
    ("zh", "哪里有人拉小提琴?"),
    ("zh", "骆驼在哪里?"),
    ("zh", "消防员在做什么?"),
    ("ja", "ゾウはどこですか?"),
    ("ja", "力士はどこで戦っていますか?"),
    ("ja", "観覧車はどこですか?"),
    ("ja", "誰がピアノを弾いていますか?"),
    ("ja", "蛇はどこですか?"),
    ("fr", "Où est la tour Eiffel ?"),
    ("fr", "Où voit-on un dentiste ?"),
    ("fr", "Que fait le clown ?"),
    ("fr", "Où voit-on un tracteur ?"),
    ("fr", "Quand l'hélicoptère atterrit-il ?"),
    ("es", "¿Dónde está el torero?"),
    ("es", "¿Dónde se ve un canguro?"),
    ("es", "¿Qué hace el apicultor?"),
    ("es", "¿Dónde hay una bailarina de ballet?"),
    ("es", "¿Dónde están las pirámides?"),
    ("de", "Wo steht die Windmühle?"),
    ("de", "Wo sieht man einen Oktopus?"),
    ("de", "Wer spielt Orgel?"),
    ("de", "Wo fährt ein Panzer?"),
    ("de", "Wo sieht man ein Iglu?"),
    ("ru", "Где видно крокодила?"),
    ("ru", "Где рождественская ёлка?"),
    ("ru", "Где фехтовальщики?"),
    ("ru", "Когда показывают суд?"),
    ("ru", "Где швейная машина?"),
    ("ar", "أين يظهر العنكبوت؟"),
    ("ar", "أين التلسكوب؟"),
    ("ar", "أين الغسالة؟"),
    ("ar", "متى يظهر المولود الجديد؟"),
    ("ar", "أين البومة؟"),
)


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
    first_proof: bool
    proof: bool
    says: bool


class Remembered:
    """An Encoder that encodes each text once: the settings ask the same questions again and again."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self._encoder = encoder
        self.space = encoder.space
        self.preprocess, self.encode_images = encoder.preprocess, encoder.encode_images
        self.transparency, self.batch_size = encoder.transparency, encoder.batch_size
        self._known = dict(zip(texts, encoder.encode_texts(texts).vectors, strict=True))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        if any(text not in self._known for text in texts):
            self._known |= dict(zip(texts, self._encoder.encode_texts(texts).vectors, strict=True))
        return Embeddings(self.space, np.stack([self._known[text] for text in texts]))


class Without:
    """A Finder that never finds one file: the question has no answer any more."""

    def __init__(self, finder: Finder, file: str) -> None:
        self.catalog, self.vectors, self.encoder = finder.catalog, finder.vectors, finder.encoder
        self.encode, self.index = finder.encode, finder.index
        self._finder, self._file = finder, file

    def find(
        self, query: Query, k: int = 10, per_media: int | None = None, vector: NDArray[np.float32] | None = None
    ) -> Hits:
        hits = self._finder.find(query, k + 1, per_media, vector)
        return replace(hits, hits=tuple(hit for hit in hits if hit.path.name != self._file)[:k])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--media", type=Path, default=Path(__file__).parents[2] / "shared" / "media")
    parser.add_argument("--chat", action="append", default=[], help="also with this chat model; may be repeated")
    parser.add_argument("--calibrate", action="store_true", help="fit FINDING of ivsearch/scoring/likelihood.py")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of every setting")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plain = open_library(arguments.library, create=False).searcher()
    asked, where = cases(arguments.media)
    absent = [Case("", number % 2 == 1, *pair, "", (), None) for number, pair in enumerate(ABSENT)]
    described = [replace(case, question=f"{case.description}: {case.question}", description="") for case in asked]
    texts = [read_question(case.question).described for case in [*asked, *described, *where, *absent]]
    finder = replace(plain, encoder=Remembered(plain.encoder, texts))
    if arguments.calibrate:
        calibrate(finder, [*where, *described, *asked])
        return
    report: dict[str, dict[str, float]] = {}
    for name in ["mini", *arguments.chat]:
        chat = None if name == "mini" else load_chat(name)
        for setting, ask in settings(finder, chat).items():
            if setting == "where" and chat is not None:
                continue
            scored = [score(case, ask) for case in (where if setting == "where" else asked)]
            for row, group in groups(scored):
                report[f"{name} {setting} {row}"] = figures(group)
            for each in scored[:: max(1, len(scored) // arguments.show)] if arguments.show else []:
                print(f"  {each.case.question} {each.case.accept}\n    {each.answer.text}")
    report["seconds an answer"] = {"cpu_s": seconds(plain, asked)}
    for setting, questions in (("where", where), ("described", described), ("bare", asked)):
        for half, odd in (("even", False), ("odd", True)):
            chosen = [[case for case in each if case.odd is odd] for each in (questions, absent)]
            report[f"not shown {setting} {half}"] = refusals(finder, *chosen)
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
    first_proof = first and overlaps(answer.cited[0].start_s, answer.cited[0].end_s, case.moment)
    # The question is quoted in the answer, and must not count as an answer.
    text = answer.text.lower().replace(f"{case.description}: {case.question}".lower(), "")
    text = text.replace(case.question.lower(), "")
    says = any(re.search(rf"\b{re.escape(accepted.lower())}\b", text) for accepted in case.accept)
    return Scored(case, answer, cpu_s, first, first_proof, proof, says)


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
    matched = [each for each in scored if each.answer.matched]
    table = {
        "n": len(scored),
        "first": np.mean([each.first for each in scored]),
        "first proof": np.mean([each.first_proof for each in scored]),
        "proof": np.mean([each.proof for each in scored]),
        "says": np.mean([each.says for each in scored]),
        "matched": len(matched) / len(scored),
        "right": np.mean([each.first for each in matched]) if matched else float("nan"),
        "nothing": np.mean([not each.answer.cited for each in scored]),
        "own words": np.mean([not each.answer.composed for each in scored]),
        "cpu_s but for the query": np.median([each.cpu_s for each in scored]),
    }
    return {name: round(float(value), 3) for name, value in table.items()}


def refusals(finder: Finder, cases: Sequence[Case], absent: Sequence[Case]) -> dict[str, float]:
    """How often the answer ends in "not shown": rightly, and wrongly."""
    there = [answer_question(case.question, finder, chat=None) for case in cases]
    gone = [answer_question(case.question, Without(finder, case.file), chat=None) for case in cases]
    never = [answer_question(case.question, finder, chat=None) for case in absent]
    first = [bool(a.cited) and a.cited[0].path.name == case.file for a, case in zip(there, cases, strict=True)]
    found = [answer for answer, right in zip(there, first, strict=True) if right]
    table = {
        "n": len(cases),
        "there": not_shown(there),
        "there, found first": not_shown(found),
        "gone": not_shown(gone),
        "absent": not_shown(never),
        "auc there/gone": area(there, gone),
        "auc found first/gone": area(found, gone),
        "auc there/absent": area(there, never),
    }
    return {name: round(float(value), 3) for name, value in table.items()}


def not_shown(answers: Sequence[Answer]) -> float:
    assert not any(answer.grounded for answer in answers if not answer.matched)
    return float(np.mean([not answer.matched for answer in answers]))


def area(higher: Sequence[Answer], lower: Sequence[Answer]) -> float:
    """Under the ROC curve of the support of the first citation; without any, no support."""
    x, y = (np.array([a.cited[0].support if a.cited else 0.0 for a in each]) for each in (higher, lower))
    return float((x[:, None] > y).mean() + (x[:, None] == y).mean() / 2)


def seconds(finder: Finder, asked: Sequence[Case]) -> float:
    """CPU seconds of a composed answer, the encoding of the question included; the median of twenty."""
    started = []
    for case in asked[:21]:
        started.append(time.process_time())
        answer_question(case.question, finder, chat=None)
    return round(float(np.median(np.diff(started))), 3)


def calibrate(finder: Finder, cases: Sequence[Case]) -> None:
    """Fits FINDING on the even files and shows on both halves what CLEAR keeps."""
    gallery = gallery_of(finder.catalog, finder.index, finder.encoder)
    assert gallery is not None
    there, gone = (np.array([weigh(case, finder, gallery, drop) for case in cases]) for drop in (False, True))
    odd = np.array([case.odd for case in cases])
    weights = logistic(there[~odd, :2], there[~odd, 2])
    print("FINDING on even: fit {:.2f}, lead {:.2f}, offset {:.2f}".format(*weights))
    print("FINDING on odd:  fit {:.2f}, lead {:.2f}, offset {:.2f}".format(*logistic(there[odd, :2], there[odd, 2])))
    likely, likely_gone = (sigmoid(x[:, :2], weights) for x in (there, gone))
    for least in (FOUND, 0.2, 0.25, 0.3, 0.35, CLEAR, 0.45, 0.5, 0.6):
        for half, chosen in (("even", ~odd), ("odd", odd)):
            right = chosen & (there[:, 2] > 0)
            kept = [float((x >= least).mean()) for x in (likely[chosen], likely[right], likely_gone[chosen])]
            print(f"{least:.2f} {half:4} kept: there {kept[0]:.2f}, found first {kept[1]:.2f}, gone {kept[2]:.2f}")


def weigh(case: Case, finder: Finder, gallery: Gallery, drop: bool) -> tuple[float, float, bool]:
    """Fit and lead of the best hit, and whether it is the right file."""
    text = read_question(case.question).described
    vector = finder.encoder.encode_texts([text]).vectors[0]
    searched = Without(finder, case.file) if drop else finder
    shown = gather(searched.find(Query(text=text), 40).hits, finder, gallery)
    fits = [gallery.fit(float(vector @ each.vector), each.hub) for each in shown]
    rivals: dict[str, float] = {}
    for each, fit in zip(shown, fits, strict=True):
        rivals[each.evidence.hit.media_id] = max(fit, rivals.get(each.evidence.hit.media_id, fit))
    best = int(np.argmax(fits))
    chance = gallery.scatter(vector) * chance_lead(gallery.n_clips)
    hit = shown[best].evidence.hit
    others = (fit for media_id, fit in rivals.items() if media_id != hit.media_id)
    return fits[best], lead(fits[best], others, chance), hit.path.name == case.file


def logistic(x: np.ndarray, y: np.ndarray, steps: int = 200) -> np.ndarray:
    """Newton's method on the log-likelihood, with a whiff of ridge; the offset comes last."""
    design = np.c_[x, np.ones(len(x))]
    weights = np.zeros(design.shape[1])
    for _ in range(steps):
        p = sigmoid(x, weights)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-3 * np.eye(len(weights))
        weights += np.linalg.solve(hessian, design.T @ (y - p) - 1e-3 * weights)
    return weights


def sigmoid(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(x @ weights[:-1] + weights[-1])))


def show(report: dict[str, dict[str, float]]) -> None:
    for name, row in report.items():
        print(f"{name:36}", "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
