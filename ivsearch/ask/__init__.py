"""Hits and a question to an Answer whose citations were checked."""

from __future__ import annotations

from ivsearch.ask.answer import answer_question
from ivsearch.ask.chat import ChatModel

__all__ = ["ChatModel", "answer_question"]
