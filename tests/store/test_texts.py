from __future__ import annotations

import math
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ivsearch.domain import Filters, MediaKind, Modality, TextLine
from ivsearch.store.catalog import Catalog
from ivsearch.store.text_tokens import Word, query_words, tokens
from ivsearch.store.texts import MOST_LINES, Texts, TextTrack

from .conftest import SPACE, add, media_of

LEXICON = {
    "en": [
        "the",
        "a",
        "of",
        "in",
        "captain",
        "ship",
        "night",
        "storm",
        "light",
        "keeper",
        "tower",
        "harbour",
        "letter",
        "train",
        "station",
        "winter",
    ],
    "fr": [
        "le",
        "la",
        "de",
        "dans",
        "capitaine",
        "été",
        "nuit",
        "tempête",
        "phare",
        "clé",
        "gardien",
        "forêt",
        "hiver",
    ],
    "ar": ["في", "على", "البحر", "القطة", "سفينة", "ليلة", "عاصفة", "منارة", "حارس", "رسالة", "محطة", "شتاء"],
    "ru": ["в", "на", "и", "корабль", "ночь", "буря", "маяк", "смотритель", "письмо", "вокзал", "зима"],
}
CHINESE = "我你他在有人大海船夜风暴灯塔守信车站冬天猫狗上下来去"
JAPANESE = "私は船が夜に嵐の灯台を守る人です猫カメラ駅冬"


def a_line(rng: random.Random) -> str:
    kind = rng.choice([*LEXICON, "zh", "ja"])
    if kind in LEXICON:
        return " ".join(rng.choice(LEXICON[kind]) for _ in range(rng.randint(1, 8)))
    return "".join(rng.choice(CHINESE if kind == "zh" else JAPANESE) for _ in range(rng.randint(1, 12)))


def track_of(seed: int, source: Modality = Modality.SUBTITLE, name: str = "a.srt") -> TextTrack:
    return TextTrack(media_of(seed).media_id, source, "", Path("/texts") / name)


@pytest.fixture
def texts(catalog: Catalog, store) -> Texts:
    add(catalog, store, [1, 2, 3])
    return Texts(catalog)


def scanned(of_lines: dict[str, list[str]], query: str) -> dict[str, float]:
    """The slow way: every line read, the share of the query's weight it has; BM25's inverse document frequency."""
    wanted = query_words(query).words

    def has(text: str, word: Word) -> bool:
        return any(token == word.token or (word.prefix and token.startswith(word.token)) for token in of_lines[text])

    n = len(of_lines)
    counts = {word: max(1, sum(has(text, word) for text in of_lines)) for word in wanted}
    idf = {word: math.log(1 + max(0.0, n - count + 0.5) / (count + 0.5)) for word, count in counts.items()}
    total = sum(idf.values())
    shares = {text: sum(idf[word] for word in wanted if has(text, word)) / total for text in of_lines}
    return {text: share for text, share in shares.items() if share > 0}


def put_many(texts: Texts, rng: random.Random) -> dict[str, list[str]]:
    """Puts lines of several scripts far apart, so that none is read together with the next; their tokens."""
    lines = sorted({a_line(rng) for _ in range(300)})
    rng.shuffle(lines)
    for seed, some in enumerate((lines[0::3], lines[1::3], lines[2::3]), 1):
        texts.put([(track_of(seed), [TextLine(10 * at, 10 * at + 1, text) for at, text in enumerate(some)])])
    return {text: tokens(text) for text in lines}


def queries(rng: random.Random) -> list[str]:
    return [a_line(rng) for _ in range(20)] + ["猫", "зима*", "cap*", "grdn", "CAPITAINE de L'ETE", "قطه"]


def test_finding_agrees_with_reading_every_line(texts: Texts) -> None:
    rng = random.Random(11)
    of_lines = put_many(texts, rng)
    compared = 0
    for query in queries(rng):
        for min_coverage in (0.3, 0.7):
            expected = {text: share for text, share in scanned(of_lines, query).items() if share >= min_coverage}
            found = texts.find(query_words(query), min_coverage=min_coverage, limit=1000)
            assert {each.fit.line.text: each.fit.coverage for each in found} == pytest.approx(expected), query
            assert [each.fit.coverage for each in found] == pytest.approx(sorted(expected.values(), reverse=True))
            compared += len(found)
    assert compared > 200


def test_postgresql_finds_what_sqlite_finds(texts: Texts, store, postgres_url: str) -> None:
    catalog = Catalog(postgres_url)
    try:
        catalog.add_space(SPACE)
        add(catalog, store, [1, 2, 3])
        others = Texts(catalog)
        put_many(texts, random.Random(5))
        put_many(others, random.Random(5))
        for query in [*queries(random.Random(6)), '"the captain"', "' \\ | & ! :*"]:
            expected = texts.find(query_words(query), min_coverage=0.4, limit=1000)
            assert others.find(query_words(query), min_coverage=0.4, limit=1000) == expected, query
        assert others.totals() == texts.totals()
        assert others.lines(media_of(1).media_id, 0, 100) == texts.lines(media_of(1).media_id, 0, 100)
        catalog.remove_paths([Path(f"/videos/{seed}.mp4") for seed in (1, 2, 3)])
        assert others.totals() == {}
    finally:
        catalog.close()


def test_the_word_that_is_rare_counts_most(texts: Texts) -> None:
    common = [TextLine(10 * at, 10 * at + 1, f"the ship number {at}") for at in range(200)]
    texts.put([(track_of(1), [*common, TextLine(9000, 9001, "an albatross")])])
    (found,) = texts.find(query_words("the albatross"), min_coverage=0.6)
    assert found.fit.line.text == "an albatross"
    assert found.fit.coverage > 0.9
    assert texts.find(query_words("the ship"), min_coverage=0.6)[0].fit.rarity < 0.1


def test_a_sentence_over_two_lines_is_one_find_and_one_over_a_pause_is_not(texts: Texts) -> None:
    lines = [
        TextLine(0, 1, "She sold the lighthouse"),
        TextLine(1.5, 2, "to the harbour master"),
        TextLine(60, 61, "no"),
    ]
    texts.put(
        [(track_of(1), lines), (track_of(2), [TextLine(0, 1, "sold the lighthouse"), TextLine(9, 10, "harbour")])]
    )
    (found, *_) = texts.find(query_words("lighthouse harbour"), min_coverage=0.9)
    assert (found.fit.line.start_s, found.fit.line.end_s) == (0, 2)
    assert found.fit.line.text == "She sold the lighthouse to the harbour master"
    assert {each.media_id for each in texts.find(query_words("lighthouse harbour"), min_coverage=0.9)} == {
        media_of(1).media_id
    }


@pytest.mark.parametrize(
    ("query", "is_there"),
    [
        ('"abandon ship"', True),
        ('"ship abandon"', False),
        ('"the captain" "abandon ship"', True),
        ('"弃船"', True),
        ('"船弃"', False),
        ('"مغادرة السفينة"', True),
        ('"السفينة مغادرة"', False),
    ],
)
def test_phrases(texts: Texts, query: str, is_there: bool) -> None:
    lines = ["the captain said abandon ship", "船长说弃船", "قال القبطان مغادرة السفينة"]
    texts.put([(track_of(1), [TextLine(10 * at, 10 * at + 1, text) for at, text in enumerate(lines)])])
    assert bool(texts.find(query_words(query), min_coverage=0.5)) is is_there


@pytest.mark.parametrize(
    ("line", "there", "not_there"),
    [
        ("大家你好，世界很大。", ["你好，世界", "你好 世界", "好，世", "大家你好"], ["世界，你好", "你好世界"]),
        ("我在学习Python编程", ["学习Python", "Python编程", "习Python编"], ["Python学习"]),
        ("これはペンです。ありがとう", ["ペンです。ありがとう", "です ありがと"], ["ありがとう。ペンです"]),
        ("新しいカメラはUSBで動く", ["カメラはUSB", "USBで動く"], ["USBカメラ"]),
        ("안녕 하세요, 여러분", ["안녕 하세요", "하세요, 여러"], ["하세요 안녕"]),
        ("오늘은 GPU를 봅니다", ["오늘은 GPU를", "GPU를 봅"], ["GPU 오늘은"]),
        ("สวัสดี ครับ OK นะ", ["สวัสดี ครับ", "ครับ OK นะ"], ["ครับ สวัสดี"]),
    ],
)
def test_phrases_over_punctuation_spaces_and_scripts(
    texts: Texts, line: str, there: list[str], not_there: list[str]
) -> None:
    texts.put([(track_of(1), [TextLine(0, 1, line)])])
    found = [each for each in (*there, *not_there) if texts.find(query_words(f'"{each}"'), min_coverage=0.1)]
    assert found == there


def test_only_among_the_media_that_are_wanted(texts: Texts) -> None:
    texts.put([(track_of(seed), [TextLine(0, 1, "storm")]) for seed in (1, 2, 3)])
    # The last two are such as the database cannot tell exactly.
    for glob in ("/videos/2.mp4", "2.*", "/videos/[2].mp4"):
        found = texts.find(query_words("storm"), min_coverage=0.5, filters=Filters((glob,)))
        assert {each.media_id for each in found} == {media_of(2).media_id}, glob


@pytest.mark.parametrize("globs", [("/videos/2.mp4",), ("/videos/[2].mp4",), ("sea.*", "2.*")])
def test_filters_lose_no_lines_of_a_common_word(texts: Texts, globs: tuple[str, ...]) -> None:
    """Two thousand lines elsewhere that fit as well as those that pass, and come before them."""
    many = [TextLine(10 * at, 10 * at + 1, "storm") for at in range(2 * MOST_LINES)]
    texts.put([(track_of(1), many), (track_of(2), many[:30])])
    found = texts.find(query_words("storm"), min_coverage=0.5, filters=Filters(globs), limit=100)
    assert [(each.media_id, each.fit.line) for each in found] == [(media_of(2).media_id, line) for line in many[:30]]


def test_filters_agree_on_both_databases(texts: Texts, store, postgres_url: str) -> None:
    catalog = Catalog(postgres_url)
    try:
        catalog.add_space(SPACE)
        add(catalog, store, [1, 2, 3])
        for each in (texts, Texts(catalog)):
            put_many(each, random.Random(5))
            for glob, seeds in (("[12].mp4", {1, 2}), ("3.mp4", {3}), ("/videos/?.mp4", {1, 2, 3}), ("no", set())):
                found = each.find(query_words("captain"), min_coverage=0.5, filters=Filters((glob,)), limit=1000)
                assert {one.media_id for one in found} == {media_of(seed).media_id for seed in seeds}, glob
            photos = Filters(kind=MediaKind.IMAGE, before=datetime(2030, 1, 1, tzinfo=UTC))
            assert each.find(query_words("captain"), min_coverage=0.5, filters=photos) == []
            videos = replace(photos, kind=MediaKind.VIDEO)
            assert each.find(query_words("captain"), min_coverage=0.5, filters=videos)
    finally:
        catalog.close()


def test_a_track_from_the_same_place_is_replaced(texts: Texts) -> None:
    texts.put([(track_of(1), [TextLine(0, 1, "old words")])])
    texts.put(
        [(track_of(1), [TextLine(0, 1, "new words")]), (track_of(1, Modality.SPEECH), [TextLine(0, 1, "spoken")])]
    )
    assert not texts.find(query_words("old"), min_coverage=0.5)
    assert texts.find(query_words("new"), min_coverage=0.5)
    assert texts.totals() == {Modality.SUBTITLE: (1, 1), Modality.SPEECH: (1, 1)}


def test_texts_go_with_their_media_and_leave_nothing_in_the_index(
    texts: Texts, catalog: Catalog, tmp_path: Path
) -> None:
    texts.put([(track_of(1), [TextLine(0, 1, "storm at sea")]), (track_of(2), [TextLine(0, 1, "calm sea")])])
    texts.put_reading(media_of(1).media_id, "screen", "1", [(track_of(1, Modality.SCREEN), [TextLine(0, 1, "exit")])])
    catalog.remove_paths([Path("/videos/1.mp4")])
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        assert connection.execute("SELECT text FROM text_line").fetchall() == [("calm sea",)]
        assert connection.execute("SELECT term FROM text_terms ORDER BY term").fetchall() == [("calm",), ("sea",)]
        assert connection.execute("SELECT count(*) FROM text_reading").fetchone() == (0,)
        # FTS5 compares its index with the lines, and fails when they differ.
        connection.execute("INSERT INTO text_index(text_index) VALUES ('integrity-check')")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("insert into text_index(text_index) values ('delete-all')", "lacks 2 lines and has 0 that are gone"),
        ("drop trigger text_line_removed; delete from text_line where line_id = 1", "lacks 0 lines and has 1"),
    ],
)
def test_an_index_that_does_not_fit_the_lines_is_told(
    texts: Texts, catalog: Catalog, tmp_path: Path, change: str, complaint: str
) -> None:
    texts.put([(track_of(1), [TextLine(0, 1, "storm"), TextLine(1, 2, "light")])])
    assert list(catalog.complaints()) == []
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript(change)
    assert [each for each in catalog.complaints() if complaint in each]


def test_texts_survive_encoding_again_and_another_space(texts: Texts, catalog: Catalog, store) -> None:
    texts.put([(track_of(1), [TextLine(0, 1, "storm")])])
    add(catalog, store, [1])
    catalog.drop_encodings(SPACE, [media_of(1).media_id])
    assert texts.find(query_words("storm"), min_coverage=0.5)


def test_lines_of_a_span(texts: Texts) -> None:
    lines = [TextLine(at, at + 1, str(at)) for at in range(10)]
    texts.put([(track_of(1), lines), (track_of(2), [TextLine(0, 0, "sign")])])
    shown = texts.lines(media_of(1).media_id, 2.5, 4.0)
    assert [(source, line.text) for source, line in shown] == [(Modality.SUBTITLE, "2"), (Modality.SUBTITLE, "3")]
    assert [line.text for _, line in texts.lines(media_of(2).media_id, 0, 0)] == ["sign"]
    assert texts.lines(media_of(3).media_id, 0, 100) == []


def test_what_was_read_is_known(texts: Texts) -> None:
    texts.put_reading(media_of(1).media_id, "screen", "reader 1", [])
    texts.put_reading(media_of(1).media_id, "screen", "reader 2", [])
    assert texts.readings("screen") == {media_of(1).media_id: "reader 2"}
    assert texts.readings("speech") == {}


def test_nothing_is_found_where_there_is_no_text(texts: Texts) -> None:
    assert texts.find(query_words("storm"), min_coverage=0.5) == []
    texts.put([(track_of(1), [])])
    assert texts.find(query_words(""), min_coverage=0.5) == []
    assert texts.find(query_words("…"), min_coverage=0.5) == []
