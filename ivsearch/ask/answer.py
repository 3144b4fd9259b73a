"""answer_events: look, ask the chat model, check sentence by sentence, and fall back on what the encoder sees."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.citations import Checked, check_sentence, denial_in, without_names
from ivsearch.ask.cites import LONGEST_SENTENCE, sentences_of, without_cites
from ivsearch.ask.compose import NAME, compose
from ivsearch.ask.finder import Finder
from ivsearch.ask.finding import Finding, look
from ivsearch.ask.phrases import PHRASES
from ivsearch.ask.question import ANSWERABLE, Question, read_question
from ivsearch.ask.rewrite import rewritten
from ivsearch.ask.script import NOT_SHOWN
from ivsearch.ask.support import FOUND
from ivsearch.ask.verdict import confirms
from ivsearch.domain import Answer, Citation, Evidence, Filters, Piece, Sentence, Turn, Verdict
from ivsearch.errors import AnswerCut, UsageError
from ivsearch.plain_text import one_line

MAX_NEW_TOKENS = 512
# All of a sentence, with what models put round it.
DENIAL = re.compile(rf"[\W_]*(?:answer\s*[:：]?\s*)?[\W_]*{NOT_SHOWN}[\W_]*", re.IGNORECASE)


class Unsupported(StrEnum):
    """What becomes of sentences that failed the check."""

    WITHHOLD = "withhold"
    MARK = "mark"


class Verify(StrEnum):
    """How sentences are checked."""

    ENCODER = "encoder"
    """Labels, times, language, and the encoder's score."""
    STRICT = "strict"
    """That, and the chat model itself is asked about each, with the cited clip alone before it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer is wanted: from the ``k`` best hits, each sentence checked and shown as said."""

    k: int = 8
    filters: Filters = field(default_factory=Filters)
    verify: Verify = Verify.ENCODER
    unsupported: Unsupported = Unsupported.WITHHOLD


Way = TypeVar("Way", bound=StrEnum)


def manner_of(k: int, filters: Filters, verify: str, unsupported: str) -> Manner:
    """A Manner from the names of its ways. Raises UsageError for one that there is not."""
    return Manner(k, filters, _named(Verify, verify), _named(Unsupported, unsupported))


def _named(ways: type[Way], wanted: str) -> Way:
    known = [way.value for way in ways]
    if wanted not in known:
        raise UsageError(f"unknown way {wanted!r} to answer; known: {', '.join(known)}")
    return ways(wanted)


def answer_question(
    question: str,
    finder: Finder,
    *,
    chat: ChatModel | None,
    k: int = 8,
    filters: Filters | None = None,
    history: Sequence[Turn] = (),
    verify: Verify = Verify.ENCODER,
    unsupported: Unsupported = Unsupported.WITHHOLD,
) -> Answer:
    """An Answer from the ``k`` best hits, with every citation checked.

    ``chat`` None: composed plainly. ``history``: earlier turns of the conversation, oldest first. Raises UsageError for
    an empty question, or for strict verification with a chat model that does not look.
    """
    manner = Manner(k, filters or Filters(), verify, unsupported)
    *_, answer = answer_events(question, finder, chat=chat, manner=manner, history=history)
    assert isinstance(answer, Answer)
    return answer


def answer_events(
    question: str, finder: Finder, *, chat: ChatModel | None, manner: Manner, history: Sequence[Turn] = ()
) -> Iterator[Piece | Answer]:
    """The Answer's text in Pieces, each as soon as it is checked, then the Answer itself."""
    text = question.strip()
    if not text:
        raise UsageError("an empty question has no answer: ask something, such as 'where is the dog?'")
    if manner.verify is Verify.STRICT and not (chat and chat.watches):
        raise UsageError(
            f"--verify strict asks the chat model to look again, and {chat.name if chat else NAME!r} does not look: "
            "choose one that watches (`ivsearch models` lists them), or leave --verify strict out"
        )
    asked = read_question(text)
    alone = rewritten(asked, history, chat)
    finding = look(alone or asked, finder, manner.k, manner.filters, () if alone else history)
    if chat is None or finding.gap is not None or not _may_speak(chat, asked, finding):
        yield from _whole(compose(asked, finding))
    elif chat.watches:
        yield from _watched(asked, finding, chat, finder, manner, history)
    else:
        yield from _whole(_worded(asked, finding, chat, finder, history))


def _whole(answer: Answer) -> Iterator[Piece | Answer]:
    yield Piece(answer.text)
    yield answer


def _may_speak(chat: ChatModel, asked: Question, finding: Finding) -> bool:
    """Whether there is anything it could say and be right. One that has not looked knows words for what is seen."""
    if chat.languages is not None and asked.language not in chat.languages:
        return False
    return chat.watches or (asked.sort in ANSWERABLE and finding.step is None and finding.clear)


def _watched(
    asked: Question, finding: Finding, chat: ChatModel, finder: Finder, manner: Manner, history: Sequence[Turn]
) -> Iterator[Piece | Answer]:
    """What a chat model says that looks, sentence by sentence; what is composed when none of it holds."""
    evidence = [each.evidence for each in finding.shown]
    heard = _heard(chat.reply([*history, Turn(asked.text, "")], evidence, max_new_tokens=MAX_NEW_TOKENS))
    if manner.verify is Verify.STRICT:
        # It holds one conversation at a time: it is asked about its sentences when it has said all of them.
        heard = iter(list(heard))
    space = PHRASES[asked.language].space
    shown: list[str] = []
    checked: list[Checked] = []
    missed: frozenset[int] | None = None
    denied, error = False, ""
    for each in heard:
        # Asked again about a clip, it would tell what it missed of that.
        missed = chat.missed if missed is None else missed
        if isinstance(each, AnswerCut):
            error = str(each)
        elif _denies(each):
            denied = any(one.label not in missed for one in evidence)
        else:
            checked.append(_checked(each, asked, finding, chat, finder, manner, missed))
            if said := _to_show(checked[-1], asked, manner):
                shown.append(said)
                yield Piece(f"{space}{said}" if len(shown) > 1 else said)
    told = tuple(each.sentence for each in checked)
    seen = [each for each in checked if _to_show(each, asked, manner)]
    cited = [one for each in seen for one in each.cited]
    if any(each.verdict is Verdict.SUPPORTED for each in told):
        grounded = all(each.sentence.verdict is Verdict.SUPPORTED for each in seen)
        answer = Answer(asked.text, space.join(shown), _merged(cited), grounded, False, chat.name)
        yield dataclasses.replace(answer, sentences=told, searched=finding.query, error=error)
        return
    # Nothing of it holds: what the encoder sees is said instead, and that nothing shows it when the model says so.
    composed = compose(asked, dataclasses.replace(finding, denied=denied))
    yield Piece(f"{space}{composed.text}" if shown else composed.text)
    answer = dataclasses.replace(composed, sentences=told, error=error)
    if shown:
        text, cited = space.join([*shown, composed.text]), [*cited, *composed.cited]
        answer = dataclasses.replace(answer, text=text, cited=_merged(cited), grounded=False, composed=False)
    yield dataclasses.replace(answer, chat=chat.name) if shown or denied else answer


def _heard(reply: Iterator[str]) -> Iterator[str | AnswerCut]:
    """Its sentences, and at last why it broke off, if it did. What was begun then is left out."""
    try:
        yield from (one_line(each, LONGEST_SENTENCE) for each in sentences_of(reply))
    except AnswerCut as cut:
        yield cut
    finally:
        # One that is not read to its end would keep its model waiting.
        if isinstance(reply, Generator):
            reply.close()


def _worded(asked: Question, finding: Finding, chat: ChatModel, finder: Finder, history: Sequence[Turn]) -> Answer:
    """What one says that has not looked is put before the composed answer. It adds a sentence, it replaces none: where
    to look is the better half of the answer. What fails is never shown: it would be an invention."""
    composed = compose(asked, finding)
    likely = zip(finding.shown, finding.support, strict=True)
    evidence: list[Evidence] = [each.evidence for i, (each, support) in enumerate(likely) if i == 0 or support >= FOUND]
    heard = list(_heard(chat.reply([*history, Turn(asked.text, "")], evidence, max_new_tokens=MAX_NEW_TOKENS)))
    checked = [check_sentence(each, asked, finding, chat, finder) for each in heard if isinstance(each, str)]
    error = next((str(each) for each in heard if isinstance(each, AnswerCut)), "")
    told = tuple(each.sentence for each in checked)
    good = [each for each in checked if each.sentence.verdict is Verdict.SUPPORTED]
    if not good:
        return dataclasses.replace(composed, sentences=told, error=error)
    cited = {each.label: each for each in (*_merged(one for each in good for one in each.cited), *composed.cited)}
    space = PHRASES[asked.language].space
    return dataclasses.replace(
        composed,
        text=space.join([*(each.sentence.text for each in good), composed.text]),
        cited=tuple(cited[label] for label in sorted(cited)),
        grounded=all(each.verified for each in cited.values()),
        composed=False,
        chat=chat.name,
        sentences=told,
        error=error,
    )


def _denies(sentence: str) -> bool:
    """Whether it says that the clips do not show it, and nothing else."""
    return DENIAL.fullmatch(" ".join(without_cites(sentence).split())) is not None


def _checked(
    sentence: str,
    asked: Question,
    finding: Finding,
    chat: ChatModel,
    finder: Finder,
    manner: Manner,
    missed: frozenset[int],
) -> Checked:
    checked = check_sentence(sentence, asked, finding, chat, finder, missed)
    if checked.sentence.verdict is not Verdict.SUPPORTED:
        return checked
    if manner.verify is not Verify.STRICT:
        denial = denial_in(sentence, asked, finding)
        return _refused(checked, f"{denial!r}: an encoder cannot check what is not there") if denial else checked
    known = {each.evidence.label: each for each in finding.shown}
    said = re.sub(r"\s+([.!?])", r"\1", " ".join(without_names(sentence, finding).split()))
    for one in checked.cited:
        shown = known[one.label]
        span = dataclasses.replace(shown.evidence, start_s=one.start_s, end_s=one.end_s)
        if not confirms(said, dataclasses.replace(shown, evidence=span), asked.language, chat):
            return _refused(checked, "asked again, the chat model did not confirm it")
    return checked


def _refused(checked: Checked, reason: str) -> Checked:
    sentence = dataclasses.replace(checked.sentence, verdict=Verdict.UNSUPPORTED, reason=reason)
    cited = tuple(dataclasses.replace(each, verified=False, reason=reason) for each in checked.cited)
    return Checked(sentence, cited)


def _to_show(checked: Checked, asked: Question, manner: Manner) -> str:
    """The sentence, marked where it failed; empty where it is withheld."""
    sentence: Sentence = checked.sentence
    if sentence.verdict is Verdict.SUPPORTED:
        return sentence.text
    if manner.unsupported is Unsupported.WITHHOLD:
        return ""
    return f"{sentence.text} ({PHRASES[asked.language].unverified})"


def _merged(cited: Iterable[Citation]) -> tuple[Citation, ...]:
    """Every cited span once, with the sentence it supports least, by label and time."""
    spans: dict[tuple[int, float, float], Citation] = {}
    for one in cited:
        key = (one.label, one.start_s, one.end_s)
        known = spans.get(key)
        if known is None or (one.verified, one.support) < (known.verified, known.support):
            spans[key] = one
    return tuple(spans[key] for key in sorted(spans))
