"""The seeing half of ``mini``: classifier and colours, in torch. Loaded at the first picture; texts need none of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from ivsearch.encode.mini_colours import colour_shares
from ivsearch.encode.mini_geometry import geometry
from ivsearch.encode.mini_packages import CLASSIFIER_FILE, CLASSIFIER_PACKAGE
from ivsearch.encode.mini_recipe import COLOUR_WEIGHT, EMPTY_POWER, EVIDENCE_POWER
from ivsearch.models.efficientnet_lite import read_efficientnet_lite

CHUNK = 4
"""Pictures that go through the network at once: more of them no longer fit the processor's caches."""


def keep_to_one_thread() -> None:
    """Have torch compute on the calling thread alone, from now on."""
    threadpool_limits(limits=1, user_api="openmp")


class Sight:
    """Preprocessed pictures to vectors, on one device."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.network = read_efficientnet_lite("lite2", CLASSIFIER_PACKAGE.file(CLASSIFIER_FILE))
        self.network.fold_batch_norms()
        self.network.to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fixed = geometry()
        self.class_vectors = torch.from_numpy(fixed.class_vectors).to(self.device)
        self.colour_vectors = torch.from_numpy(fixed.colour_vectors).to(self.device)
        self.content_free = torch.from_numpy(fixed.content_free).to(self.device)
        # Workers of one thread each, instead of threads inside each layer: the network's layers are small, and threads
        # that meet after every one of them spin away most of their time as soon as the machine has other work.
        self.n_workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.workers = ThreadPoolExecutor(self.n_workers, "mini", initializer=keep_to_one_thread)

    def look(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """(n, 3, 260, 260) to blocks of (…, 256) unit vectors, in order."""
        size = max(1, min(CHUNK, math.ceil(len(batch) / self.n_workers)))
        chunks = [batch[start : start + size] for start in range(0, len(batch), size)]
        return list(self.workers.map(self.encode_chunk, chunks))

    def encode_chunk(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """A few preprocessed pictures to (n, 256) unit vectors, on the calling thread."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(chunk)).to(self.device)
            logits = self.network(pixels.contiguous(memory_format=torch.channels_last))
            vectors: NDArray[np.float32] = self.place(logits, colour_shares((pixels * 128 + 127) / 255)).cpu().numpy()
        return vectors

    def place(self, logits: Tensor, colours: Tensor) -> Tensor:
        """Class logits (n, 1000) and shares of colours (n, 11) to unit vectors (n, 256)."""
        centred = logits - logits.mean(dim=1, keepdim=True)
        shown = functional.normalize(centred.clamp(min=0) ** EVIDENCE_POWER @ self.class_vectors)
        shown = functional.normalize(shown + COLOUR_WEIGHT * colours.sqrt() @ self.colour_vectors)
        # How much the classifier answers as it does for empty pictures (compare the content-free calibration of Zhao
        # et al., "Calibrate Before Use", 2021). Pictures of things stay below 0.6, blank frames and cards of text are
        # at 0.7 to 1; the power leaves the former as they are.
        empty = functional.cosine_similarity(centred, self.content_free, dim=1).clamp(0, 1) ** EMPTY_POWER
        full = 1 - empty
        return torch.cat([full[:, None] * shown, (1 - full.square()).clamp(min=0).sqrt()[:, None]], dim=1)
