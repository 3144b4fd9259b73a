"""One token after another: greedy or sampled, with stop rules."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ivsearch.errors import UsageError
from ivsearch.models.fused import has_kernels
from ivsearch.models.kv_cache import KVCache
from ivsearch.models.language_model import LanguageModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """``temperature`` 0 is greedy. Else from the ``top_k`` likeliest tokens (0: all), of them from the fewest that
    together have the probability ``top_p`` (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020)."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 (always the likeliest word) or above, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed must be from 0 to {2**63 - 1}, not {self.seed}")
        if self.top_k < 0:
            raise UsageError(f"top_k must be 0 (no limit) or above, not {self.top_k}")


GREEDY = Sampling()


class Steps:
    """Steps of one place a row. On one CUDA device in half precision they are recorded once as a CUDA graph: at one
    row a launch from Python takes longer than many of the kernels it launches."""

    def __init__(self, model: LanguageModel, cache: KVCache) -> None:
        self.model, self.cache = model, cache
        self._recorded: torch.cuda.CUDAGraph | None = None
        self._ids: Tensor | None = None
        self._logits: Tensor | None = None
        self._warm = False
        self._recordable = self._can_record()

    def __call__(self, ids: Tensor) -> Tensor:
        """The ids (b,) chosen last → logits (b, vocabulary) float32 of what follows; good until the next call."""
        if not self._recordable or not self._warm:
            # The first step compiles the kernels, which a recording must not.
            self._warm = True
            return self._step(ids)
        if self._recorded is None and not self._record(ids):
            return self._step(ids)
        assert self._recorded is not None and self._ids is not None and self._logits is not None
        self._ids.copy_(ids)
        self._recorded.replay()
        self.cache.length += 1
        return self._logits

    def _can_record(self) -> bool:
        config = self.model.config
        longer = self.cache.capacity > config.max_position_embeddings and config.rope_factor is not None
        devices = {*self.model.devices, self.model.head.weight.device, self.model.model.words.weight.device}
        # Beyond the length it was made for, positions turn by the number of places: that is not in a recording.
        kernels = has_kernels(self.model.model.norm.weight) and self.model.blocks()[0].attending.heads.suit_kernels
        return len(devices) == 1 and kernels and not longer

    def _step(self, ids: Tensor) -> Tensor:
        return self.model.logits(self.model(self.model.embed(ids[:, None]), self.cache)[:, -1])

    def _record(self, ids: Tensor) -> bool:
        """Whether it went well. Another thread on the same GPU may get in its way."""
        length = self.cache.length
        self._ids = ids.clone()
        recorded = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(ids.device), torch.cuda.graph(recorded, capture_error_mode="thread_local"):
                self._logits = self._step(self._ids)
        except RuntimeError as error:
            log.warning("steps of the language model are not recorded, and slower: %s", error)
            self._recordable = False
            self.cache.keep(length)
            return False
        self.cache.length = length  # recording only counts
        self._recorded = recorded
        return True


def decode(
    steps: Steps, logits: Tensor, *, stop_ids: frozenset[int], pad_id: int, max_new_tokens: int, sampling: Sampling
) -> Iterator[list[int]]:
    """The next id of every row, step by step, from the ``logits`` (b, vocabulary) of the first.

    The stop id is given, too; a row that has ended goes on with ``pad_id`` until all have. Raises NotFinite when the
    network gives NaN or infinity.
    """
    device = logits.device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    stops = torch.tensor(sorted(stop_ids), device=device)
    ended = torch.zeros(len(logits), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        chosen, top = choose(logits, sampling, generator)
        chosen = torch.where(ended, pad_id, chosen)
        ended = ended | torch.isin(chosen, stops)
        told = Told(torch.stack([chosen.double(), ended.double(), top.double()]))
        last = step + 1 == max_new_tokens
        if device.type == "cuda" and not last:
            # The GPU goes on while this step's ids are on their way; at the end of a reply one step was for nothing.
            logits = steps(chosen)
        ids, ends, tops = told.read()
        if not all(abs(each) < float("inf") for each in tops):
            raise steps.model.not_finite()
        yield [int(each) for each in ids]
        if all(ends):
            return
        if device.type != "cuda" and not last:
            logits = steps(chosen)


class Told:
    """A small tensor on its way to the host."""

    def __init__(self, values: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(values.device))
        else:
            self._values = values

    def read(self) -> list[list[float]]:
        if self._arrived is not None:
            self._arrived.synchronize()
        rows: list[list[float]] = self._values.tolist()
        return rows


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids (b,), and the highest logit of each row: NaN if there is one anywhere."""
    top, likeliest = logits.max(-1)
    if sampling.temperature == 0:
        return likeliest, top
    # Less the highest, so that a temperature near 0 makes the others impossible and nothing infinite.
    scaled = (logits - top[:, None]) / sampling.temperature
    if sampling.top_k and sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = scaled.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        ordered = ordered.masked_fill(before >= sampling.top_p, -torch.inf)
        scaled = torch.empty_like(scaled).scatter_(-1, order, ordered)
    # NaN would make torch end the process's use of the GPU; what is chosen then is never used.
    probabilities = torch.nan_to_num(scaled.softmax(-1), nan=1.0)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0], top
