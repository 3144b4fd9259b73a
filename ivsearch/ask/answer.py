"""answer_question: look, compose, and let a chat model say it better if it keeps to the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.compose import compose
from ivsearch.ask.finder import Finder
from ivsearch.ask.finding import look
from ivsearch.ask.question import read_question
from ivsearch.domain import Answer, Filters, Turn
from ivsearch.errors import UsageError


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
    return compose(asked, finding)
