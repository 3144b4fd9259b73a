"""How the chat model of a library is loaded: as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ivsearch.settings import Settings
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS
from ivsearch.store.visual_tokens import VisualTokens

if TYPE_CHECKING:
    from ivsearch.ask.chat import ChatModel

COMPOSED = ("", "mini", "composed")
"""Names of the chat that is no language model: its answers are put together from the evidence."""


def load_chat_of(folder: Path, settings: Settings) -> ChatModel | None:
    """The chat model that the settings name, with what it has seen of the library in ``folder``; None: answers are
    composed plainly. Raises WeightsError when it cannot be had, UsageError when its name makes no sense."""
    from ivsearch.ask.table import load_chat, server_of

    if settings.chat in COMPOSED:
        return None

    def visual_tokens(model_key: str) -> VisualTokens:
        return VisualTokens(folder / VISUAL_TOKENS, model_key, settings.visual_tokens_bytes)

    return load_chat(
        settings.chat,
        weights=settings.chat_weights or None,
        device=settings.chat_device or settings.device,
        dtype=settings.chat_dtype,
        attention=settings.attention,
        visual_tokens=visual_tokens if settings.visual_tokens_bytes else None,
        server=server_of(settings),
        evidence_frames=settings.chat_frames or None,
    )


def is_watching(settings: Settings) -> bool:
    """Whether that chat model is shown the footage that was found; it need not be loaded for that."""
    from ivsearch.ask.table import chat_row

    if settings.chat in COMPOSED:
        return False
    row = chat_row(settings.chat)
    return row.watches and (settings.chat_pictures or row.name != "openai")


def chat_when_needed(settings: Settings, load: Callable[[], ChatModel | None]) -> ChatModel | None:
    """What ``load`` gives, without loading it yet."""
    from ivsearch.ask.lazy_chat import LazyChat

    if settings.chat in COMPOSED:
        return None

    def loaded() -> ChatModel:
        chat = load()
        assert chat is not None
        return chat

    return LazyChat(settings.chat, is_watching(settings), loaded)
