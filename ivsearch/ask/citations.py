"""What a chat model said, checked: labels, spans, support, language, and that nothing was made up.

A sentence is shown only when all of it holds; what is left of the reply is the answer. Nothing left: no answer, and the
composed one stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.evidence import Shown
from ivsearch.ask.finding import Finding
from ivsearch.ask.language import WORDS, language_of
from ivsearch.ask.question import Question
from ivsearch.ask.support import SEEN, VERIFIED, agreement
from ivsearch.domain import Citation, Concept
from ivsearch.encode.encoder import Encoder

# Containers round their durations; a moment may end a hair later. Seconds.
END_TOLERANCE_S = 0.05

LABELS = re.compile(r"[\[［【]\s*(\d+(?:\s*[,،、;]\s*\d+)*)\s*[\]］】]")
# A sentence ends at its mark, with the labels that follow it; a full stop inside a name or number ends nothing.
SENTENCE = re.compile(
    r".+?(?:(?:[.!?؟।…]+(?=[\s\[［【]|$)|[。！？]+|\n)(?:\s*[\[［【][\d\s,،、;]+[\]］】])*[.]?|$)", re.DOTALL
)
CLOCK = re.compile(r"\b(?:(\d+):)?(\d{1,2}):(\d{2})\b")
FILE = re.compile(r"\b[\w-]+\.(?:mp4|mkv|mov|avi|webm|jpe?g|png|gif|webp|m4v|heic)\b", re.IGNORECASE)

# Words with which a sentence about a clip is built. They say nothing about the footage by themselves.
SAYING = {
    "en": "shows show showing shown seen see sees appears appear contains contain features clip clips video videos "
    "image images picture photo scene footage moment file match matches best most likely possibly probably looks look "
    "like also question answer evidence encoder one another into its where you may might according found",
    "fr": "montre montrent voit clip vidéo image photo scène extrait moment fichier probablement aussi encodeur",
    "es": "muestra muestran ve clip vídeo video imagen foto escena momento archivo probablemente también codificador",
    "de": "zeigt zeigen sieht clip video bild foto szene moment datei wahrscheinlich vermutlich auch encoder",
    "it": "mostra mostrano vede clip video immagine foto scena momento file probabilmente anche codificatore",
    "pt": "mostra mostram vê clipe vídeo imagem foto cena momento arquivo provavelmente também codificador",
}
# A model that has not looked cannot know what is not there.
DENIALS = {
    "en": r"\b(no|not|never|none|nothing|without|neither|nor|cannot|isn't|aren't|doesn't|don't|can't)\b",
    "fr": r"\b(ne|pas|aucune?|jamais|rien|sans)\b|\bn'",
    "es": r"\b(no|ningún|ninguna|nunca|nada|sin)\b",
    "de": r"\b(nicht|keine?[nmrs]?|nie|nichts|ohne)\b",
    "it": r"\b(non|nessun[oa]?|mai|niente|nulla|senza)\b",
    "pt": r"\b(não|nenhuma?|nunca|nada|sem)\b",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What may be shown of a reply. ``dropped``: the sentences left out, each with the reason."""

    text: str
    cited: tuple[Citation, ...]
    dropped: tuple[tuple[str, str], ...]


def check_reply(reply: str, question: Question, finding: Finding, chat: ChatModel, encoder: Encoder) -> Checked:
    """``text`` is empty and nothing cited when no sentence holds."""
    said, dropped = [], []
    cited: dict[int, Citation] = {}
    for sentence in sentences(reply):
        labels = labels_of(sentence)
        reason = _objection(sentence, labels, question, finding, chat)
        citations = () if reason else _citations(sentence, labels, finding, encoder)
        if not reason and not all(citation.verified for citation in citations):
            reason = "the cited clip does not support it"
        if reason:
            dropped.append((sentence, reason))
            continue
        said.append(sentence)
        for citation in citations:
            known = cited.get(citation.label)
            if known is None or citation.support < known.support:
                cited[citation.label] = citation
    text = ("" if question.language in ("zh", "ja") else " ").join(said)
    return Checked(text, tuple(cited[label] for label in sorted(cited)), tuple(dropped))


def sentences(text: str) -> list[str]:
    """With their marks and the labels that follow them."""
    return [found.strip() for found in SENTENCE.findall(text) if found.strip()]


def labels_of(sentence: str) -> tuple[int, ...]:
    """``[1, 2] [3]`` → 1, 2, 3; each once, in order."""
    found = [int(number) for group in LABELS.findall(sentence) for number in re.findall(r"\d+", group)]
    return tuple(dict.fromkeys(found))


def _objection(sentence: str, labels: Sequence[int], question: Question, finding: Finding, chat: ChatModel) -> str:
    """Why the sentence may not be shown, before its support is measured; empty when nothing speaks against it."""
    if not labels:
        return "it cites nothing"
    known = {each.evidence.label: each for each in finding.shown}
    if unknown := [label for label in labels if label not in known]:
        return f"there is no evidence [{unknown[0]}]"
    plain = _without_names(sentence)
    if re.search(r"\w", plain) and not _same_language(plain, question.language):
        return "it is in another language"
    cited = [known[label] for label in labels]
    if wrong := _wrong_file(sentence, cited):
        return f"{wrong} is not what it cites"
    if wrong := _wrong_time(sentence, cited):
        return f"{wrong} is outside of what it cites"
    if not chat.watches:
        return _invention(plain, question, cited)
    return ""


def _without_names(sentence: str) -> str:
    for pattern in (LABELS, FILE, CLOCK):
        sentence = pattern.sub(" ", sentence)
    return sentence


def _same_language(plain: str, language: str) -> bool:
    """In the same script a name or two may be in any language."""
    found = language_of(plain)
    short = len(re.findall(r"[^\W\d_]+", plain)) <= 2
    return found == language or (short and found in WORDS and language in WORDS)


def _wrong_file(sentence: str, cited: Sequence[Shown]) -> str:
    names = {each.evidence.hit.path.name.lower() for each in cited}
    return next((name for name in FILE.findall(sentence) if name.lower() not in names), "")


def _wrong_time(sentence: str, cited: Sequence[Shown]) -> str:
    for match in CLOCK.finditer(sentence):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        at_s = 3600 * hours + 60 * minutes + seconds
        # Times are said in whole seconds.
        if not any(each.evidence.start_s - 1 <= at_s <= each.evidence.end_s + 1 for each in cited):
            return match.group()
    return ""


def _invention(plain: str, question: Question, cited: Sequence[Shown]) -> str:
    """What a model that has not looked cannot know: any word for the footage but the likeliest it was given."""
    language = question.language
    if language not in SAYING:
        return f"what it says in {language!r} cannot be checked word by word"
    lowered = plain.lower().replace("’", "'")
    if denial := re.search(DENIALS[language], lowered):
        return f"{denial.group()!r} cannot be known from what is seen"
    likeliest = [concept for each in cited for concept in (*each.evidence.sees[:1], *_of_kind(each, question))]
    seen = {word for concept in likeliest for word in _words(concept.name)}
    asked = set(_words(question.text))
    free = WORDS[language] | frozenset(SAYING[language].split())
    claimed = [word for word in _words(lowered) if word not in free]
    for word in claimed:
        if not _given(word, seen | asked):
            return f"{word!r} is not in the evidence"
    if not any(_given(word, seen) for word in claimed):
        return "it says nothing that the evidence says"
    return ""


def _of_kind(shown: Shown, question: Question) -> tuple[Concept, ...]:
    """The likeliest animal when an animal is asked for, and so on."""
    concept = shown.kinds.get(question.kind) if question.kind else None
    return (concept,) if concept is not None and concept.weight >= SEEN else ()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _given(word: str, given: set[str]) -> bool:
    """As it is, or in the other number."""
    return word in given or word.removesuffix("s") in given or f"{word}s" in given or word.removesuffix("es") in given


def _citations(sentence: str, labels: Sequence[int], finding: Finding, encoder: Encoder) -> tuple[Citation, ...]:
    known = {each.evidence.label: i for i, each in enumerate(finding.shown)}
    plain = " ".join(_without_names(sentence).split()).strip(" .:;,()–-。")
    vector = encoder.encode_texts([plain or finding.query]).vectors[0]
    citations = []
    for label in labels:
        shown = finding.shown[known[label]]
        support = agreement(float(vector @ shown.vector), finding.gallery) if finding.gallery else 0.0
        citations.append(cite(shown, support))
    return tuple(citations)


def cite(shown: Shown, support: float) -> Citation:
    """Verified when the span lies inside its Media and the support is enough."""
    evidence = shown.evidence
    exists = 0 <= evidence.start_s <= evidence.end_s <= shown.duration_s + END_TOLERANCE_S
    return Citation(
        label=evidence.label,
        path=evidence.hit.path,
        start_s=evidence.start_s,
        end_s=evidence.end_s,
        verified=exists and support >= VERIFIED,
        support=support,
    )
