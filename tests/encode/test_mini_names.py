"""Class names against what is publicly known about ImageNet-1k."""

from __future__ import annotations

from ivsearch.encode.mini_names import class_names, readable_names


def test_there_are_a_thousand_distinct_classes() -> None:
    rows = class_names()
    assert len(rows) == 1000
    assert len({row.wordnet_id for row in rows}) == 1000
    assert all(row.name and row.gloss and row.synonyms for row in rows)


def test_well_known_indices_have_their_names() -> None:
    names = readable_names()
    assert (names[0], names[281], names[999]) == ("tench", "tabby cat", "toilet paper")


def test_wordnet_ids_are_in_imagenets_order() -> None:
    ids = [row.wordnet_id for row in class_names()]
    assert ids == sorted(ids)
    assert ids[0] == "n01440764"


def test_hypernyms_lead_up_to_the_root() -> None:
    tabby = class_names()[281]
    assert tabby.hypernyms[0] == "domestic cat"
    assert {"feline", "mammal", "animal"} <= set(tabby.hypernyms)
    assert tabby.hypernyms[-1] == "entity"
