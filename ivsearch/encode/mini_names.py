"""What the classes of the ``mini`` encoder are called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class ClassName:
    """One ImageNet-1k class: WordNet id, readable name, WordNet's synonyms, hypernyms (nearest first) and gloss."""

    wordnet_id: str
    name: str
    synonyms: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str


@cache
def class_names() -> tuple[ClassName, ...]:
    """The 1,000 classes in the order of the classifier's outputs."""
    text = files("ivsearch.encode").joinpath("data/imagenet1k.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        ClassName(wordnet_id, name, tuple(synonyms.split("; ")), tuple(hypernyms.split("; ")), gloss)
        for wordnet_id, name, synonyms, hypernyms, gloss in rows
    )


def readable_names() -> tuple[str, ...]:
    """The readable name of every class, in the order of the classifier's outputs."""
    return tuple(row.name for row in class_names())
