"""compose: a Finding → a plain Answer in the question's language, with no language model. It says what is known."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from ivsearch.ask.citations import cite
from ivsearch.ask.finding import Finding, Gap
from ivsearch.ask.phrases import PHRASES, Phrases
from ivsearch.ask.question import Question, Step
from ivsearch.ask.support import FOUND, SEEN
from ivsearch.domain import Answer, Citation, Concept, Evidence, MediaKind
from ivsearch.plain_text import clock, printable
from ivsearch.scoring.vocabulary import COLUMNS, kind_names, vocabulary

NAME = "mini"
# Other matches named beside the best.
MOST_OTHERS = 2
# Another match is named when it is at least this likely compared with the best.
OTHER_SHARE = 0.5

# Around names and times in a right-to-left sentence (U+2066, U+2068, U+2069), or "0:12–0:19" would read backwards.
ISOLATE, FIRST_STRONG, POP = "\u2066", "\u2068", "\u2069"
RIGHT_TO_LEFT = frozenset({"ar"})


def compose(question: Question, finding: Finding) -> Answer:
    """Every sentence about the footage cites what it stands on; what an encoder cannot know is said to be so."""
    phrases = PHRASES[question.language]
    spoken = any(quote.is_whole for quote in finding.quotes)
    if finding.gap is not None and not finding.quotes:
        text = _gap(phrases, finding)
        return Answer(question.text, text, (), False, True, NAME, matched=False, searched=finding.query)
    evidence = [*(each.evidence for each in finding.shown), *(each.evidence for each in finding.quotes)]
    voice = Voice(question.language, evidence)
    # Where words hold all of the question, pictures that do not are no part of the answer.
    sentences, cited = ([], []) if finding.gap or (spoken and not finding.clear) else _told(voice, question, finding)
    for quote in finding.quotes:
        sentences.append(phrases.said.format(place=voice.place(quote.evidence), words=voice.quoted(quote.words)))
        cited.append(quote.citation)
    matched = finding.clear or spoken
    grounded = matched and all(each.verified for each in cited)
    text = phrases.space.join(sentences)
    return Answer(question.text, text, tuple(cited), grounded, True, NAME, matched=matched, searched=finding.query)


def _told(voice: Voice, question: Question, finding: Finding) -> tuple[list[str], list[Citation]]:
    """What is said of the pictures."""
    phrases, first = voice.phrases, finding.shown[0].evidence
    sentences = []
    if finding.anchored:
        opening = phrases.best if finding.clear else phrases.nearest
        sentences.append(opening.format(question=finding.query, place=voice.place(first)))
    if finding.step is not None:
        told = list(range(len(finding.shown)))
        sentences += _step(phrases, voice, finding)
    else:
        others = _others(finding)
        told = [0, *others]
        sentences += _seen(phrases, voice, question, finding)
        if others:
            sentences.append(phrases.also.format(places=voice.places([finding.shown[i].evidence for i in others])))
    if question.sort in phrases.beyond and not finding.quotes:
        sentences.append(phrases.beyond[question.sort].format(label=voice.label(first)))
    return sentences, [cite(finding.shown[i], finding.support[i], least=FOUND) for i in told]


def _gap(phrases: Phrases, finding: Finding) -> str:
    if finding.gap is Gap.EMPTY:
        return phrases.empty
    return phrases.filtered if finding.gap is Gap.FILTERED else phrases.nothing.format(question=finding.query)


def _seen(phrases: Phrases, voice: Voice, question: Question, finding: Finding) -> list[str]:
    first = finding.shown[0]
    label = voice.label(first.evidence)
    sentences = []
    if question.kind is not None and first.kinds[question.kind].weight >= SEEN:
        kind = kind_names()[question.kind][voice.column].split(",")[0]
        names = voice.names([first.kinds[question.kind]])
        sentences.append(phrases.likely.format(kind=kind, names=names, label=label))
    if first.evidence.sees:
        sentences.append(phrases.looks.format(names=voice.names(first.evidence.sees), label=label))
    return sentences


def _others(finding: Finding) -> list[int]:
    least = max(FOUND, OTHER_SHARE * finding.support[0])
    return [i for i in range(1, len(finding.shown)) if finding.support[i] >= least][:MOST_OTHERS]


def _step(phrases: Phrases, voice: Voice, finding: Finding) -> list[str]:
    shown = [each.evidence for each in finding.shown]
    after = finding.step is Step.AFTER
    neighbours = shown[1:] if finding.anchored else shown
    if not neighbours or finding.at_the_end:
        return [(phrases.ends if after else phrases.begins).format(place=voice.place(shown[0]))]
    sentences = [(phrases.next if after else phrases.previous).format(places=voice.places(neighbours))]
    for evidence in neighbours:
        if evidence.sees:
            sentences.append(phrases.looks.format(names=voice.names(evidence.sees), label=voice.label(evidence)))
    return sentences


class Voice:
    """How files, times, labels and words for things are written in one language."""

    def __init__(self, language: str, evidence: Sequence[Evidence]) -> None:
        self.language = language
        self.phrases = PHRASES[language]
        self.column = COLUMNS.index(language) if language in COLUMNS else 0
        self._words = {word.english: word for word in vocabulary()}
        paths = {each.hit.path for each in evidence}
        names = [path.name for path in paths]
        self._doubled = {name for name in names if names.count(name) > 1}

    def place(self, evidence: Evidence) -> str:
        """``clip.mp4 (0:12–0:19) [1]``; an image has no times."""
        path = evidence.hit.path
        text = f"{path.parent.name}/{path.name}" if path.name in self._doubled else path.name
        # A name must not break the sentence, nor steer a terminal.
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
        if evidence.hit.kind is MediaKind.VIDEO:
            text += f" ({clock(math.floor(evidence.start_s))}–{clock(math.ceil(evidence.end_s))})"
        return self._isolated(f"{text} [{evidence.label}]")

    def places(self, evidence: Sequence[Evidence]) -> str:
        return self.phrases.semicolon.join(self.place(each) for each in evidence)

    def label(self, evidence: Evidence) -> str:
        return self._isolated(f"[{evidence.label}]")

    def names(self, concepts: Sequence[Concept]) -> str:
        known = (self._words.get(concept.name) for concept in concepts)
        return self.phrases.comma.join(
            word.name(self.language) if word else concept.name for word, concept in zip(known, concepts, strict=True)
        )

    def quoted(self, words: str) -> str:
        """Words of any language, on one line; they must not break the sentence, nor steer a terminal."""
        return f"{FIRST_STRONG}{printable(words)}{POP}" if self._turns(words) else printable(words)

    def _turns(self, words: str) -> bool:
        """Whether they run the other way, or might."""
        backwards = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in words)
        return backwards or self.language in RIGHT_TO_LEFT

    def _isolated(self, text: str) -> str:
        return f"{ISOLATE}{text}{POP}" if self.language in RIGHT_TO_LEFT else text
