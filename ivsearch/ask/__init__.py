"""Hits and a question to an Answer whose citations were checked."""

from __future__ import annotations

from ivsearch.ask.answer import answer_question
from ivsearch.ask.chat import ChatModel
from ivsearch.ask.table import ChatRow, describe_chats, load_chat

__all__ = ["ChatModel", "ChatRow", "answer_question", "describe_chats", "load_chat"]
