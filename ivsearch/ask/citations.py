"""What a chat model said, checked: labels, times, support, language, and that nothing was made up."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.cites import LONGEST_SENTENCE, PLAIN, SECONDS, Cite, cites_of, without_cites
from ivsearch.ask.evidence import Shown, within
from ivsearch.ask.finder import Finder
from ivsearch.ask.finding import Finding
from ivsearch.ask.language import DENIALS, WORDS, speaks_another, without_quotes
from ivsearch.ask.question import Question
from ivsearch.ask.script import plain_name
from ivsearch.ask.support import SEEN, VERIFIED, agreement
from ivsearch.domain import Citation, Concept, Sentence, Verdict

# Containers round their durations; a moment may end a hair later. Seconds.
END_TOLERANCE_S = 0.05
# Times are said in whole seconds.
ROUNDING_S = 1.0
# A single time means what is shown around it. Seconds.
MOMENT_S = 1.0

CLOCK = re.compile(r"\b(?:(\d+):)?(\d{1,2}):(\d{2})\b")
# ``12.0 s``, ``12-15 seconds``, ``12.0から15.0秒``; not the 80s, nor how long something takes.
SPAN = re.compile(
    rf"(?<!the )(?<!for )(?<![a-zA-Zа-яА-Я\d_.:'])(\d+(?:[.,]\d+)?)"
    rf"(?:\s*(?:-|to|and|à|et|a|y|bis|und|e|до|и|إلى|से|から|到|至|에서)\s*"
    rf"(\d+(?:[.,]\d+)?))?\s*({SECONDS})(?:(?<=[秒초])(?![間间钟鐘간]|\s*동안)|(?![^\W\d_]))",
    re.IGNORECASE,
)
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


@dataclass(frozen=True, slots=True)
class Checked:
    """A sentence with its verdict; what it cites, if labels and times exist."""

    sentence: Sentence
    cited: tuple[Citation, ...] = ()


def check_sentence(
    text: str,
    question: Question,
    finding: Finding,
    chat: ChatModel,
    finder: Finder,
    missed: frozenset[int] = frozenset(),
) -> Checked:
    """Supported when every label exists, every time lies inside its clip, and the encoder's score for the sentence on
    every cited span stands out against the library. ``missed``: labels that the chat model was not shown."""
    cites = cites_of(text)
    labels = tuple(dict.fromkeys(cite.label for cite in cites))
    if not cites:
        return Checked(Sentence(text, labels, Verdict.UNCITED, "it cites nothing"))
    unseen = next((f"the chat model could not be shown [{label}]" for label in labels if label in missed), "")
    if reason := unseen or _objection(text, cites, question, finding, chat):
        return Checked(Sentence(text, labels, Verdict.UNSUPPORTED, reason), _refused(labels, finding, reason))
    cited = _citations(text, cites, finding, finder)
    if reason := next((each.reason for each in cited if not each.verified), ""):
        return Checked(Sentence(text, labels, Verdict.UNSUPPORTED, reason), cited)
    return Checked(Sentence(text, labels, Verdict.SUPPORTED), cited)


def _refused(labels: Sequence[int], finding: Finding, reason: str) -> tuple[Citation, ...]:
    """The clips that are cited, as far as they exist, by a sentence that was not worth measuring."""
    known = {each.evidence.label: cite(each, 0.0, least=VERIFIED) for each in finding.shown}
    return tuple(dataclasses.replace(known[label], reason=reason) for label in labels if label in known)


def _objection(text: str, cites: Sequence[Cite], question: Question, finding: Finding, chat: ChatModel) -> str:
    """Why the sentence may not be shown, before its support is measured; empty when nothing speaks against it."""
    if len(text) >= LONGEST_SENTENCE:
        return "it is too long to be checked"
    known = {each.evidence.label: each for each in finding.shown}
    if unknown := [cite.label for cite in cites if cite.label not in known]:
        return f"there is no evidence [{unknown[0]}]"
    if outside := [cite for cite in cites if not _inside(cite, known[cite.label])]:
        return f"{outside[0].start_s:g}–{outside[0].end_s:g} s is not within what [{outside[0].label}] shows"
    plain = without_names(text, finding)
    if speaks_another(plain, question.language):
        return "it is in another language"
    cited = [known[cite.label] for cite in cites]
    if wrong := _wrong_file(text, cited, finding):
        return f"{wrong} is not what it cites"
    if wrong := _wrong_time(_without_files(without_cites(text), finding), cited):
        return f"{wrong} is outside of what it cites"
    if not chat.watches:
        return _invention(plain, question, cited)
    return "" if re.search(r"\w", plain) else "it says nothing"


def denial_in(text: str, question: Question, finding: Finding) -> str:
    """The word with which it says that something is not so or not there; empty where it says no such thing."""
    found = DENIALS[question.language].search(without_quotes(without_names(text, finding)).lower().replace("’", "'"))
    return found.group().strip() if found else ""


def _inside(cite: Cite, shown: Shown) -> bool:
    if cite.start_s is None or cite.end_s is None:
        return True
    low, high = shown.evidence.start_s - ROUNDING_S, shown.evidence.end_s + ROUNDING_S
    return low <= cite.start_s <= cite.end_s <= high


def without_names(sentence: str, finding: Finding) -> str:
    """What it says, without citations, file names and times."""
    sentence = unicodedata.normalize("NFC", _without_files(without_cites(sentence), finding))
    for pattern in (CLOCK, SPAN):
        sentence = pattern.sub(" ", sentence)
    return sentence


def _names(shown: Iterable[Shown]) -> set[str]:
    """The files' names, as they are and as they are put before a chat model."""
    paths = {each.evidence.hit.path for each in shown}
    return {name.casefold() for path in paths for name in (path.name, plain_name(path))}


def _without_files(sentence: str, finding: Finding) -> str:
    return FILE.sub(" ", _without(sentence, _names(finding.shown)))


def _without(sentence: str, names: set[str]) -> str:
    """Longer names first: one may end as another does."""
    for name in sorted(names, key=len, reverse=True):
        sentence = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", sentence, flags=re.IGNORECASE)
    return sentence


def _wrong_file(sentence: str, cited: Sequence[Shown], finding: Finding) -> str:
    """A file that is named and not cited: one that was shown, or what looks like the name of any."""
    names = _names(cited)
    for name in sorted(_names(finding.shown), key=len, reverse=True):
        rest = _without(sentence, {name})
        if name not in names and rest != sentence:
            return name
        sentence = rest
    return next(iter(FILE.findall(sentence)), "")


def _wrong_time(sentence: str, cited: Sequence[Shown]) -> str:
    """The first time in it that none of the cited spans shows."""
    spans = [(each.evidence.start_s - ROUNDING_S, each.evidence.end_s + ROUNDING_S) for each in cited]
    for said, at_s in _times(unicodedata.normalize("NFKC", sentence).translate(PLAIN)):
        if not any(low <= at_s <= high for low, high in spans):
            return said
    return ""


def _times(sentence: str) -> Iterator[tuple[str, float]]:
    for match in CLOCK.finditer(sentence):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        yield match.group(), 3600 * hours + 60 * minutes + seconds
    for match in SPAN.finditer(sentence):
        # "2 с мячом" is two with a ball.
        if match[3] != "с" or not re.match(r"\s*\w", sentence[match.end() :]):
            yield from ((match.group(), float(each.replace(",", "."))) for each in match.groups()[:2] if each)


def _invention(plain: str, question: Question, cited: Sequence[Shown]) -> str:
    """What a model that has not looked cannot know: any word for the footage but the likeliest it was given."""
    language = question.language
    if language not in SAYING:
        return f"what it says in {language!r} cannot be checked word by word"
    lowered = plain.lower().replace("’", "'")
    # One that has not looked cannot know what is not there.
    if denial := DENIALS[language].search(lowered):
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


def _citations(text: str, cites: Sequence[Cite], finding: Finding, finder: Finder) -> tuple[Citation, ...]:
    if finding.gallery is None:
        raise ValueError("a Finding without a Gallery has nothing that a sentence could be checked against")
    known = {each.evidence.label: each for each in finding.shown}
    plain = " ".join(without_names(text, finding).split()).strip(" .:;,()–-。")
    vector = finder.encoder.encode_texts([plain or finding.query]).vectors[0]
    citations = []
    for one in cites:
        shown = known[one.label]
        if one.start_s is not None and one.end_s is not None:
            around_s = 0.0 if one.end_s > one.start_s else MOMENT_S / 2
            shown = within(shown, one.start_s - around_s, one.end_s + around_s, finder)
        support = agreement(vector, shown.vector, shown.hub, finding.gallery)
        citations.append(cite(shown, support, least=VERIFIED))
    return tuple(citations)


def cite(shown: Shown, support: float, *, least: float) -> Citation:
    """Verified when the span lies inside its Media and the support is at least ``least``."""
    evidence = shown.evidence
    reason = ""
    if not 0 <= evidence.start_s <= evidence.end_s <= shown.duration_s + END_TOLERANCE_S:
        reason = "there is no such span in the file"
    elif support < least:
        reason = "the cited clip does not support it"
    return Citation(
        label=evidence.label,
        path=evidence.hit.path,
        start_s=evidence.start_s,
        end_s=evidence.end_s,
        verified=not reason,
        support=support,
        reason=reason,
    )
