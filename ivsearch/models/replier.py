"""Prompts and what is seen → ids of replies. What a prompt shares with the conversation before is read only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivsearch.errors import UsageError
from ivsearch.models.decoding import GREEDY, Sampling, Steps, decode
from ivsearch.models.features import Features
from ivsearch.models.kv_cache import KVCache
from ivsearch.models.language_model import LanguageModel

# Room is taken in such pieces, so that the next turn finds its cache, and its recorded step, in place.
CPU_PLACES = 256
GPU_PLACES = 4096


class Replier:
    """The language model with the keys and values of its last conversation. For one thread at a time."""

    def __init__(self, model: LanguageModel, *, context_id: int, stop_ids: frozenset[int], pad_id: int) -> None:
        """``context_id`` stands in a prompt where features go; ``pad_id`` fills rows of a batch, before and after."""
        self.model = model
        self.context_id, self.stop_ids, self.pad_id = context_id, stop_ids, pad_id
        self.reused = 0
        """How many places of the last prompt had been read before."""
        self._turn = 0
        self._read: list[int] = []
        self._seen: Tensor | None = None
        self._steps: Steps | None = None

    @torch.inference_mode()
    def stream(
        self, ids: Sequence[int], features: Features | None, *, max_new_tokens: int, sampling: Sampling = GREEDY
    ) -> Iterator[int]:
        """The ids of a reply as they come, the stop id as the last if it came.

        ``features`` in the order of the context tokens in ``ids``. Raises UsageError when their numbers differ, for a
        prompt too long for the model, when there is no room, and when another reply was begun before this one ended;
        NotFinite when the network gives NaN.
        """
        seen = self._rows(ids, features)
        if max_new_tokens < 1:
            return
        self._turn += 1
        turn = self._turn
        logits, steps = self._begin(list(ids), seen, max_new_tokens)
        before: list[int] = []
        for (token,) in decode(
            steps,
            logits,
            stop_ids=self.stop_ids,
            pad_id=self.pad_id,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        ):
            # Only what another came after has been read.
            self._read += before
            before = [token]
            yield token
            if turn != self._turn:
                raise UsageError("another question was asked before this reply had ended: ask this one again")

    @torch.inference_mode()
    def batch(
        self,
        prompts: Sequence[Sequence[int]],
        features: Sequence[Features | None],
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> list[list[int]]:
        """The ids of a reply to each prompt, all of the length of the longest: after a stop id comes ``pad_id``."""
        if not prompts or max_new_tokens < 1:
            return [[] for _ in prompts]
        cache, logits = self._read_batch(prompts, features, max_new_tokens)
        steps = decode(
            Steps(self.model, cache),
            logits,
            stop_ids=self.stop_ids,
            pad_id=self.pad_id,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        )
        return [list(row) for row in zip(*steps, strict=True)]

    @torch.inference_mode()
    def first_logits(
        self, prompts: Sequence[Sequence[int]], features: Sequence[Features | None]
    ) -> NDArray[np.float32]:
        """(prompts, vocabulary): the scores of the first new id."""
        return np.asarray(self._read_batch(prompts, features, 1)[1].cpu().numpy(), np.float32)

    def forget(self) -> None:
        """Gives the memory of the last conversation back."""
        self._read, self._seen, self._steps = [], None, None

    def _begin(self, ids: list[int], seen: Tensor | None, max_new_tokens: int) -> tuple[Tensor, Steps]:
        """Reads what is new in the prompt → the logits (1, vocabulary) of its last place."""
        self._check_length(len(ids) + max_new_tokens)
        try:
            found = self._try(ids, seen, max_new_tokens)
            if found is None and self._steps is not None:
                # Here, where the error and with it the states it held are gone: without the conversation before.
                self.forget()
                torch.cuda.empty_cache()
                found = self._try(ids, seen, max_new_tokens)
        except BaseException:
            self.forget()
            raise
        if found is None:
            self.forget()
            raise UsageError(_no_room(len(ids)))
        self._read = ids
        return found

    def _try(self, ids: list[int], seen: Tensor | None, max_new_tokens: int) -> tuple[Tensor, Steps] | None:
        """None when there is no room."""
        # Of a prompt known throughout, the last place is read again for its logits.
        self.reused = min(self._common(ids, seen), len(ids) - 1)
        self._read, self._seen = self._read[: self.reused], seen
        try:
            steps = self._room(len(ids) + max_new_tokens)
            steps.cache.keep(self.reused)
            x = self._embed([ids], seen)[:, self.reused :]
            return self._finite(self.model.logits(self.model(x, steps.cache)[:, -1])), steps
        except torch.OutOfMemoryError:
            return None

    def _common(self, ids: list[int], seen: Tensor | None) -> int:
        """How many places the prompt has in common with what is in the cache, by id and by what is seen there."""
        config = self.model.config
        if config.most_tokens is None and max(len(ids), len(self._read)) > config.max_position_embeddings:
            return 0  # beyond that length all keys turn by how many there are
        n = next((i for i, (a, b) in enumerate(zip(ids, self._read, strict=False)) if a != b), None)
        n = min(len(ids), len(self._read)) if n is None else n
        looks = [i for i, each in enumerate(ids[:n]) if each == self.context_id]
        if not looks:
            return n
        if seen is None or self._seen is None or self._seen.shape[1:] != seen.shape[1:]:
            return looks[0]
        # A model may say the context token itself: nothing was seen there.
        count = min(len(looks), len(seen), len(self._seen))
        same = (self._seen[:count] == seen[:count]).all(-1).tolist()
        alike = same.index(False) if False in same else count
        return n if alike == len(looks) else looks[alike]

    def _room(self, places: int) -> Steps:
        """Steps with a cache for so many places, its filled slots those that can be used again."""
        old = None if self._steps is None else self._steps.cache
        if old is not None and old.capacity >= places and self._steps is not None:
            return self._steps
        if not self.reused:
            # Before there is another one: they may be gigabytes.
            old = self._steps = None
        cache = self.model.cache(1, _rounded(places, self.model.devices[0]))
        if old is not None:
            for kept, before in zip([*cache.keys, *cache.values], [*old.keys, *old.values], strict=True):
                kept[:, :, : self.reused] = before[:, :, : self.reused]
        self._steps = Steps(self.model, cache)
        return self._steps

    def _read_batch(
        self, prompts: Sequence[Sequence[int]], features: Sequence[Features | None], max_new_tokens: int
    ) -> tuple[KVCache, Tensor]:
        seen = [self._rows(ids, each) for ids, each in zip(prompts, features, strict=True)]
        longest = max(len(ids) for ids in prompts)
        self._check_length(longest + max_new_tokens)
        missing = [longest - len(ids) for ids in prompts]
        padded = [[self.pad_id] * lack + list(ids) for lack, ids in zip(missing, prompts, strict=True)]
        looked = [rows for rows in seen if rows is not None]
        try:
            cache = self.model.cache(len(prompts), longest + max_new_tokens)
            cache.pad(missing)
            x = self._embed(padded, torch.cat(looked) if looked else None)
            return cache, self._finite(self.model.logits(self.model(x, cache)[:, -1]))
        except torch.OutOfMemoryError as error:
            raise UsageError(_no_room(longest * len(prompts))) from error

    def _finite(self, logits: Tensor) -> Tensor:
        if not torch.isfinite(logits).all():
            raise self.model.not_finite()
        return logits

    def _rows(self, ids: Sequence[int], features: Features | None) -> Tensor | None:
        """Features as rows (places, width), as many as there are context tokens."""
        if not len(ids):
            raise UsageError("an empty prompt has no reply")
        wanted = sum(each == self.context_id for each in ids)
        rows = None if features is None else features.tensor.flatten(0, 1)
        if wanted != (0 if rows is None else len(rows)):
            raise UsageError(
                f"the prompt has {wanted} places for what is seen, but {0 if rows is None else len(rows)} features "
                "came: leave <IMG_CONTEXT> out of the question"
            )
        return rows

    def _embed(self, prompts: list[list[int]], seen: Tensor | None) -> Tensor:
        """(b, n) ids, and features for all their context tokens in order → (b, n, width)."""
        ids = torch.tensor(prompts, device=self.model.model.words.weight.device)
        x = self.model.embed(ids)
        if seen is not None:
            x = x.clone() if x.is_inference() else x
            x[ids == self.context_id] = seen.to(x.device, x.dtype)
        return x

    def _check_length(self, places: int) -> None:
        most = self.model.config.most_tokens
        if most is not None and places > most:
            raise UsageError(
                f"prompt and reply have {places} tokens, and the model reads {most}: take "
                "fewer frames or pictures, or begin a new conversation"
            )


def _rounded(places: int, device: torch.device) -> int:
    piece = CPU_PLACES if device.type == "cpu" else GPU_PLACES
    return -(-places // piece) * piece


def _no_room(places: int) -> str:
    return (
        f"no room for {places} tokens at once on the device: take fewer frames or pictures, --dtype bfloat16 or fp8, "
        "or a larger or second GPU"
    )
