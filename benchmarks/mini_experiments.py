"""How the data files of the encoder ``mini`` are made, and how it scores.

    python benchmarks/mini_experiments.py names WORDNET_DICT IMAGENET_CLASSES   # ivsearch/encode/data/imagenet1k.tsv
    python benchmarks/mini_experiments.py geometry                              # ivsearch/encode/data/mini.npz
    python benchmarks/mini_experiments.py score MEDIA_DIR                       # prints figures, writes the JSON beside

WORDNET_DICT is the folder of WordNet 3.0's ``data.noun`` (Debian: wordnet-base), IMAGENET_CLASSES the installed folder
of the package imagenet-classes 0.2.1. MEDIA_DIR holds dev/ and queries.jsonl.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ivsearch.encode import Encoder, load_encoder
from ivsearch.encode.mini_colours import COLOUR_NAMES
from ivsearch.encode.mini_names import class_names
from ivsearch.encode.mini_packages import CLASSIFIER_FILE, CLASSIFIER_PACKAGE
from ivsearch.encode.mini_sentences import E5Sentences, UseSentences
from ivsearch.models.efficientnet_lite import read_efficientnet_lite

DATA = Path(__file__).parent.parent / "ivsearch" / "encode" / "data"
SHRINKAGE = 0.3
E5_WEIGHT = 0.7
NAME_DIM = 255

Matrix = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Matrix:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


# --- names ---------------------------------------------------------------------------------------------------------

NAMES_HEADER = """\
# The 1,000 classes of ImageNet-1k in the order of the classifier's outputs, tab-separated: WordNet id, readable name,
# synonyms (WordNet lemmas), hypernyms (nearest first), gloss. Synonyms, hypernyms and glosses: WordNet 3.0, Copyright
# 2006 by Princeton University, all rights reserved, WordNet licence. Readable names: package imagenet-classes 0.2.1,
# MIT, Copyright (c) 2025 Illia Volkov, Nikita Kisel. Written by benchmarks/mini_experiments.py.
"""


@dataclass(frozen=True, slots=True)
class Synset:
    lemmas: list[str]
    hypernyms: list[str]
    gloss: str


def read_nouns(path: Path) -> dict[str, Synset]:
    """WordNet's ``data.noun`` by synset offset (format: man page wndb(5))."""
    synsets = {}
    for line in path.read_text(encoding="latin1").splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        n_lemmas = int(fields[3], 16)
        lemmas = [fields[4 + 2 * i].replace("_", " ") for i in range(n_lemmas)]
        pointers = fields[5 + 2 * n_lemmas :]
        hypernyms = [pointers[i + 1] for i in range(0, 4 * int(fields[4 + 2 * n_lemmas]), 4) if pointers[i] in "@i"]
        definition = re.split(r'; "|; (?=[A-Z"])', gloss.strip())[0].strip()
        synsets[fields[0]] = Synset(lemmas, hypernyms, definition)
    return synsets


def write_names(wordnet: Path, imagenet_classes: Path) -> None:
    nouns = read_nouns(wordnet / "data.noun")
    readable = json.loads((imagenet_classes / "imagenet1k_clean_names.json").read_text())
    wordnet_ids = json.loads((imagenet_classes / "imagenet1k_to_21k.json").read_text())
    rows = []
    for index, name in enumerate(readable):
        synset = nouns[wordnet_ids[str(index)][1:]]
        chain, above = [], synset.hypernyms
        while above:
            chain.append(nouns[above[0]].lemmas[0])
            above = nouns[above[0]].hypernyms
        row = (wordnet_ids[str(index)], name, "; ".join(synset.lemmas), "; ".join(chain), synset.gloss)
        rows.append("\t".join(row))
    (DATA / "imagenet1k.tsv").write_text(NAMES_HEADER + "\n".join(rows) + "\n", encoding="utf-8")


# --- geometry ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whitened:
    """One sentence encoder's names after centring and shrunk whitening: ``names`` (1000, d), ``rotation`` (d, d)."""

    mean: Matrix
    rotation: Matrix
    names: Matrix


def whitened(names: Matrix) -> Whitened:
    """Centre the names and flatten their spectrum: covariance, shrunk to its mean eigenvalue, to the power -1/4.

    Names and queries are both rotated so, which makes the metric between them covariance to the power -1/2.
    """
    mean = names.mean(axis=0)
    _, singular, axes = np.linalg.svd(names - mean, full_matrices=False)
    variance = singular**2 / len(names)
    rotation = (axes.T * (variance + SHRINKAGE * variance.mean()) ** -0.25) @ axes
    rotated = (names - mean) @ rotation
    scale = 1 / np.sqrt((rotated**2).sum(axis=1).mean())
    return Whitened(mean, rotation * scale, rotated * scale)


def write_geometry() -> None:
    """Place names, colours and both sentence encoders in one space of 255 dimensions."""
    use, e5 = UseSentences(), E5Sentences()
    readable = [row.name for row in class_names()]
    glosses = [row.gloss for row in class_names()]
    parts = [whitened(unit(encoder.encode(readable) + encoder.encode(glosses))) for encoder in (use, e5)]
    stacked = np.hstack([parts[0].names, E5_WEIGHT * parts[1].names])
    axes = np.linalg.svd(stacked, full_matrices=False)[2][:NAME_DIM].T
    use_map, e5_map = parts[0].rotation @ axes[:512], parts[1].rotation @ axes[512:]
    use_colours = unit((use.encode(COLOUR_NAMES) - parts[0].mean) @ use_map)
    e5_colours = unit((e5.encode(COLOUR_NAMES) - parts[1].mean) @ e5_map)
    colours = unit(use_colours + 0.5 * e5_colours)
    network = read_efficientnet_lite("lite2", CLASSIFIER_PACKAGE.file(CLASSIFIER_FILE))
    side = network.scale.image_size
    greys = torch.tensor([0.0, 128.0, 255.0])[:, None, None, None].expand(3, 3, side, side)
    with torch.inference_mode():
        logits = network((greys - 127) / 128)
    content_free = (logits - logits.mean(dim=1, keepdim=True)).mean(dim=0).numpy()
    np.savez(
        DATA / "mini.npz",
        class_vectors=(stacked @ axes).astype(np.float16),
        colour_vectors=(colours - colours.mean(axis=0)).astype(np.float16),
        content_free=content_free.astype(np.float32),
        use_mean=parts[0].mean.astype(np.float32),
        use_map=use_map.astype(np.float16),
        e5_mean=parts[1].mean.astype(np.float32),
        e5_map=e5_map.astype(np.float16),
    )


# --- score ---------------------------------------------------------------------------------------------------------

LANGUAGES = ("en", "zh", "ja", "fr", "es", "de", "ru", "ar")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SPLIT_SEED = 20261122
CUT_BELOW = 0.5
LONGEST_CLIP = 60


@dataclass(frozen=True, slots=True, eq=False)
class FileVectors:
    """The vectors of one file's frames, a frame a second."""

    name: str
    vectors: Matrix


def one_frame_a_second(path: Path) -> Iterator[NDArray[np.uint8]]:
    if path.suffix.lower() in PICTURES:
        with Image.open(path) as image:
            yield np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        return
    with av.open(str(path)) as container:
        wanted = 0.0
        for frame in container.decode(video=0):
            if frame.time is None or frame.time >= wanted - 1e-6:
                wanted += 1.0
                yield frame.to_ndarray(format="rgb24")


def encode_file(encoder: Encoder, path: Path) -> FileVectors:
    vectors = []
    frames = iter(one_frame_a_second(path))
    while batch := list(islice(frames, 16)):
        vectors.append(encoder.encode_images(encoder.preprocess(batch)).vectors)
    return FileVectors(path.name, np.concatenate(vectors))


def clip_vectors(vectors: Matrix) -> Matrix:
    """Normalised means over runs of frames, cut where neighbours are less alike than CUT_BELOW."""
    clips = [[vectors[0]]]
    for before, vector in pairwise(vectors):
        if before @ vector < CUT_BELOW or len(clips[-1]) >= LONGEST_CLIP:
            clips.append([])
        clips[-1].append(vector)
    return np.stack([unit(np.mean(clip, axis=0)) for clip in clips])


def recalls(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Percent of ranks (1 = first) within 1, 5 and 10, and the mean reciprocal rank in percent."""
    figures = {f"R@{k}": round(100 * float((ranks <= k).mean()), 1) for k in (1, 5, 10)}
    return {**figures, "MRR": round(100 * float((1 / ranks).mean()), 1)}


def score(media: Path) -> None:
    """File queries over every file of ``media``/dev: by best frame, by best clip, and by the mean of both."""
    encoder = load_encoder("mini")
    files = [encode_file(encoder, path) for path in sorted((media / "dev").iterdir())]
    lines = (media / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = [query for query in map(json.loads, lines) if query["kind"] == "file" and query["split"] == "dev"]
    texts = np.concatenate([encoder.encode_texts([query["text"]]).vectors for query in queries])
    frame = np.stack([(file.vectors @ texts.T).max(axis=0) for file in files])
    clip = np.stack([(clip_vectors(file.vectors) @ texts.T).max(axis=0) for file in files])
    names = [file.name for file in files]
    right = np.array([names.index(Path(query["relevant"][0]).name) for query in queries])
    chosen_on = np.random.default_rng(SPLIT_SEED).permutation(np.unique(right))[: len(np.unique(right)) // 2]
    languages = np.array([query["lang"] for query in queries])
    report: dict[str, dict[str, dict[str, float]]] = {}
    for way, scores in (("best frame", frame), ("best clip", clip), ("mean of both", (frame + clip) / 2)):
        ranks = 1 + (scores > scores[right, np.arange(len(queries))]).sum(axis=0)
        half = np.isin(right, chosen_on)
        report[way] = {
            "half chosen on": recalls(ranks[half]),
            "other half": recalls(ranks[~half]),
            "all": recalls(ranks),
            **{language: recalls(ranks[languages == language]) for language in LANGUAGES},
        }
        for part, figures in report[way].items():
            print(f"{way:14s} {part:16s}", figures)
    found = {"space": encoder.space.key, "n_files": len(files), "n_queries": len(queries), "figures": report}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    verb, arguments = sys.argv[1], [Path(argument) for argument in sys.argv[2:]]
    if verb == "names":
        write_names(*arguments)
    elif verb == "geometry":
        write_geometry()
    elif verb == "score":
        score(*arguments)
    else:
        sys.exit(__doc__)
