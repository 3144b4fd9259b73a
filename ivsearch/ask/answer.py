"""answer_question: look, compose, and let a chat model say it better if it keeps to the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.citations import check_reply
from ivsearch.ask.compose import compose
from ivsearch.ask.finder import Finder
from ivsearch.ask.finding import Finding, look
from ivsearch.ask.question import ANSWERABLE, Question, read_question
from ivsearch.ask.support import CLEAR
from ivsearch.domain import Answer, Filters, Turn
from ivsearch.errors import UsageError

MAX_NEW_TOKENS = 512


def answer_question(
    question: str,
    finder: Finder,
    *,
    chat: ChatModel | None,
    k: int = 8,
    filters: Filters | None = None,
    history: Sequence[Turn] = (),
) -> Answer:
    """An Answer from the ``k`` best hits, with every citation checked.

    ``chat`` None: composed plainly. ``history``: earlier turns of the conversation, oldest first. Raises UsageError for
    an empty question.
    """
    text = question.strip()
    if not text:
        raise UsageError("an empty question has no answer: ask something, such as 'where is the dog?'")
    asked = read_question(text)
    finding = look(asked, finder, k, filters or Filters(), history)
    composed = compose(asked, finding)
    if chat is None or finding.gap is not None or not _may_speak(chat, asked, finding):
        return composed
    return _worded(asked, finding, composed, chat, finder, history) or composed


def _may_speak(chat: ChatModel, asked: Question, finding: Finding) -> bool:
    """Whether there is anything it could say and be right. One that has not looked knows words for what is seen."""
    if chat.languages is not None and asked.language not in chat.languages:
        return False
    return chat.watches or (asked.sort in ANSWERABLE and finding.step is None and finding.support[0] >= CLEAR)


def _worded(
    asked: Question, finding: Finding, composed: Answer, chat: ChatModel, finder: Finder, history: Sequence[Turn]
) -> Answer | None:
    """What the chat model says of the Evidence, as far as it holds; None when nothing of it does."""
    evidence = [each.evidence for each in finding.shown]
    reply = "".join(chat.reply([*history, Turn(asked.text, "")], evidence, max_new_tokens=MAX_NEW_TOKENS))
    checked = check_reply(reply, asked, finding, chat, finder.encoder)
    if not checked.cited:
        return None
    if chat.watches:
        return Answer(asked.text, checked.text, checked.cited, grounded=True, composed=False, chat=chat.name)
    # One that has not looked adds a sentence, it replaces none: where to look is the better half of the answer.
    cited = {each.label: each for each in (*checked.cited, *composed.cited)}
    text = f"{checked.text} {composed.text}"
    grounded = all(each.verified for each in cited.values())
    return Answer(asked.text, text, tuple(cited[i] for i in sorted(cited)), grounded, composed=False, chat=chat.name)
