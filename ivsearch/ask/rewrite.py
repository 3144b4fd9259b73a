"""A question that leans on the conversation, put by the chat model so that it can be understood alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.question import Question, read_question
from ivsearch.ask.script import LABEL, plain
from ivsearch.domain import Aim, Turn
from ivsearch.errors import AnswerCut

# With room for what some say before it.
MAX_NEW_TOKENS = 128
MOST_TURNS = 4
LONGEST = 300
# Letters that words of the same stem begin with, as far as they have so many.
STEM = 3
# Characters of Chinese and Japanese with which anything is asked.
FUNCTION = frozenset("的了着是在有什么麼哪里裡它他她谁誰吗嗎呢这這那个個何色颜顏人ー・")
QUOTES = "\"'“”«»「」* "
# What a model thinks aloud, also when it came to no end.
THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)|\A.*</think>", re.DOTALL)
# "Rewritten question: …"
PREAMBLE = re.compile(
    r"^[*\s]*(?:the\s+)?(?:(?:rewritten|standalone|last|new)\s+)?(?:question|answer)[*\s]*[:：]", re.IGNORECASE
)


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
    try:
        reply = "".join(chat.reply([Turn(asked, "", Aim.REWRITE)], [], max_new_tokens=MAX_NEW_TOKENS))
    except AnswerCut:
        return None
    known = f"{said} {question.text}"
    lines = (plain(line).strip(QUOTES) for line in THOUGHT.sub("", reply).splitlines())
    return next((alone for line in lines if (alone := _alone(line, question, known)) is not None), None)


def _alone(line: str, question: Question, known: str) -> Question | None:
    """The line as a question; None for one that is none, or that is about something nobody has spoken of."""
    text = PREAMBLE.sub("", line).strip(QUOTES)
    if not text or text.endswith((":", "：")) or len(text) > LONGEST:
        return None
    alone = read_question(text)
    if not alone.content or alone.leans or alone.language != question.language:
        return None
    return alone if _stems(alone.content, alone.language) & _stems(known, alone.language) else None


def _stems(text: str, language: str) -> set[str]:
    """What words are known by: how they begin, as endings differ; where words are not set apart, their characters."""
    if language in ("zh", "ja"):
        return set(re.findall(r"[\u30a0-\u9fff]", text)) - FUNCTION
    words = (word.removeprefix("ال") for word in re.findall(r"\w+", text.lower()))
    return {word[: 1 if language == "ko" else STEM] for word in words}


def _writes(chat: ChatModel) -> bool:
    """Whether it is a language model of its own, rather than one on a leash."""
    return chat.watches or chat.languages is None
