"""A question that leans on the conversation, put by the chat model so that it can be understood alone."""

from __future__ import annotations

from collections.abc import Sequence

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.question import Question, read_question
from ivsearch.ask.script import LABEL, plain
from ivsearch.domain import Aim, Turn

MAX_NEW_TOKENS = 64
MOST_TURNS = 4
LONGEST = 300


def rewritten(question: Question, history: Sequence[Turn], chat: ChatModel | None) -> Question | None:
    """None when it need not be, when it only steps in time, when nobody can, or when what came back is no question of
    the same language: the conversation is then read plainly."""
    if chat is None or not history or not question.leans or question.step or not _writes(chat):
        return None
    said = "\n".join(
        f"Question: {plain(turn.question)} Answer: {plain(LABEL.sub('', turn.answer))[:LONGEST]}"
        for turn in history[-MOST_TURNS:]
    )
    asked = (
        f"Rewrite the last question so that it can be understood without the conversation. Keep its language. "
        f"Reply with the question alone. Conversation: {said} Last question: {plain(question.text)}"
    )
    reply = "".join(chat.reply([Turn(asked, "", Aim.REWRITE)], [], max_new_tokens=MAX_NEW_TOKENS))
    text = plain(reply.strip().partition("\n")[0]).strip("\"'“”«»「」 ")
    alone = read_question(text[:LONGEST])
    if not alone.content or alone.leans or alone.language != question.language or len(text) > LONGEST:
        return None
    return alone


def _writes(chat: ChatModel) -> bool:
    """Whether it is a language model of its own, rather than one on a leash."""
    return chat.watches or chat.languages is None
