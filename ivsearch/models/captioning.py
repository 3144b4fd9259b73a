"""Greedy and beam decoding of captions, as transformers' ``generate`` does them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ivsearch.errors import NotFinite, UsageError
from ivsearch.models.internvl import InternVL
from ivsearch.models.qllama import Cache


@dataclass(frozen=True, slots=True)
class Decoding:
    """``beams`` 1 is greedy. Fewer than ``min_new_tokens`` cannot end; after ``max_new_tokens`` decoding stops."""

    beams: int = 5
    min_new_tokens: int = 8
    max_new_tokens: int = 19

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise UsageError(f"the number of beams must be at least 1, not {self.beams}")
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise UsageError(
                f"captions cannot have {self.min_new_tokens} new tokens at least and {self.max_new_tokens} at most"
            )


@dataclass(slots=True, eq=False)
class _Beams:
    """The hypotheses of one picture that have ended: (mean log-probability, ids), the best ``n`` of them."""

    n: int
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    done: bool = False

    def add(self, log_probability: float, ids: list[int], length: int) -> None:
        """``length`` counts the end token, which the ids lack."""
        self.ended.append((log_probability / length, ids))
        self.ended.sort(key=lambda each: -each[0])
        del self.ended[self.n :]

    def settle(self, best_running: float, length: int) -> None:
        """Done when full and even the best running hypothesis could not get in if it ended now."""
        self.done = self.done or (len(self.ended) == self.n and self.ended[-1][0] >= best_running / length)


def caption(model: InternVL, pixels: Tensor, prompt_ids: list[int], decoding: Decoding) -> list[list[int]]:
    """Pictures (b, 3, h, w) → the new ids of each caption, the end token included where one came.

    Raises NotFinite when the network gives NaN or infinity.
    """
    if decoding.max_new_tokens == 0:
        return [[] for _ in pixels]
    prompt = torch.tensor(prompt_ids, device=pixels.device).expand(len(pixels), -1)
    cache = Cache.empty()
    logits = model.begin(pixels, prompt, cache)
    if not torch.isfinite(logits).all():
        raise NotFinite(f"captions have no finite numbers in {logits.dtype}")
    start = model.config.qllama.num_query_token + len(prompt_ids)
    if decoding.beams == 1:
        return _greedy(model, logits, start, cache, decoding)
    return _beam(model, logits, start, cache, decoding)


def _greedy(model: InternVL, logits: Tensor, start: int, cache: Cache, decoding: Decoding) -> list[list[int]]:
    eos = model.config.qllama.eos_token_id
    rows: list[list[int]] = [[] for _ in logits]
    for step in range(decoding.max_new_tokens):
        if step < decoding.min_new_tokens:
            logits[:, eos] = -torch.inf
        chosen = logits.argmax(-1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if not row or row[-1] != eos:
                row.append(token)
        if step + 1 == decoding.max_new_tokens or all(row[-1] == eos for row in rows):
            break
        logits = model.go_on(chosen, start + step, cache)
    return rows


def _beam(model: InternVL, logits: Tensor, start: int, cache: Cache, decoding: Decoding) -> list[list[int]]:
    """Beam search with a length penalty of 1 and no early stopping: transformers' defaults."""
    eos, n, pictures = model.config.qllama.eos_token_id, decoding.beams, len(logits)
    searches = [_Beams(n) for _ in range(pictures)]
    cache.select(torch.arange(pictures).repeat_interleave(n))
    logits = logits.repeat_interleave(n, 0)
    # All beams of a picture are the same at first: only one may run.
    totals = torch.full((pictures, n), -1e9, device=logits.device)
    totals[:, 0] = 0
    running: list[list[int]] = [[] for _ in range(pictures * n)]
    for step in range(decoding.max_new_tokens):
        scores = logits.log_softmax(-1)
        if step < decoding.min_new_tokens:
            scores[:, eos] = -torch.inf
        scores = (scores.view(pictures, n, -1) + totals[:, :, None]).flatten(1)
        # Twice as many as beams: so many are left even if every beam could end.
        best, places = scores.topk(2 * n, dim=1)
        length = step + 1
        parents, tokens, sums = [], [], []
        for picture, search in enumerate(searches):
            kept = _advance(
                search, best[picture], places[picture], scores.shape[1] // n, running, picture * n, eos, length
            )
            parents += [picture * n + beam for beam, _, _ in kept]
            tokens += [token for _, token, _ in kept]
            sums += [total for _, _, total in kept]
            search.settle(float(best[picture].max()), length)
        running = [[*running[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        totals = torch.tensor(sums, device=totals.device).view(pictures, n)
        if all(search.done for search in searches) or length == decoding.max_new_tokens:
            break
        cache.select(torch.tensor(parents))
        logits = model.go_on(torch.tensor(tokens, device=totals.device), start + step, cache)
    for picture, search in enumerate(searches):
        if not search.done:
            for beam in range(n):
                ids = running[picture * n + beam]
                search.add(float(totals[picture, beam]), ids, len(ids))
    return [_with_end(search.ended[0][1], eos, decoding.max_new_tokens) for search in searches]


def _advance(
    search: _Beams,
    best: Tensor,
    places: Tensor,
    vocabulary: int,
    running: list[list[int]],
    first: int,
    eos: int,
    length: int,
) -> list[tuple[int, int, float]]:
    """The next ``n`` beams of one picture as (parent beam, token, total); those that end here go to ``search``."""
    kept: list[tuple[int, int, float]] = []
    for rank, (total, place) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
        beam, token = divmod(place, vocabulary)
        if token == eos:
            if rank < search.n and not search.done:
                search.add(total, running[first + beam], length)
        elif len(kept) < search.n:
            kept.append((beam, token, total))
    return kept


def _with_end(ids: list[int], eos: int, limit: int) -> list[int]:
    return [*ids, eos] if len(ids) < limit else ids
