"""The points are counted by hand: 1 / (60 + rank), times the weight (Cormack et al. 2009)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ivsearch.domain import Hit, Hits, MediaKind, Modality, Moment, Query, Space
from ivsearch.search.fuse import Fusion, fuse
from ivsearch.search.texts import TextHit

SPACE = Space("test", "0" * 64, 16)
FUSION = Fusion(constant=60, whole_coverage=0.9, whole_rarity=4, whole_weight=2, part_weight=0.05)


def hit(media_id: str, start_s: float, end_s: float, rank: int = 0, score: float = 0.5) -> Hit:
    path = Path(f"/{media_id}.mp4")
    moment = Moment(start_s, end_s, score)
    return Hit(rank, score, path, media_id, MediaKind.VIDEO, 7, start_s, end_s, moment)


def words(
    media_id: str,
    start_s: float,
    *,
    coverage: float = 1.0,
    rarity: float = 8.0,
    modality: Modality = Modality.SUBTITLE,
) -> TextHit:
    return TextHit(hit(media_id, start_s, start_s + 1), modality, f"words at {start_s:g}", coverage, rarity, 9.0)


def pictures(*hits: Hit, matched: bool = True) -> Hits:
    return Hits(Query("x"), SPACE, hits, matched)


SEEN = pictures(hit("a", 0, 10, 1, 0.9), hit("b", 0, 10, 2, 0.8), hit("c", 0, 10, 3, 0.7))


def test_without_words_the_pictures_are_untouched() -> None:
    assert fuse(SEEN, [], FUSION) is SEEN


def test_all_the_words_come_before_the_pictures() -> None:
    fused = fuse(SEEN, [words("d", 30)], FUSION)
    assert [each.media_id for each in fused] == ["d", "a", "b", "c"]
    assert [each.rank for each in fused] == [1, 2, 3, 4]
    (said,) = fused[0].contributions
    assert (said.modality, said.rank, said.score, said.share, said.text) == (
        Modality.SUBTITLE,
        1,
        1.0,
        1.0,
        "words at 30",
    )
    assert (fused[0].start_s, fused[0].end_s) == (30, 31)
    assert [each.modality for each in fused[1].contributions] == [Modality.PICTURE]


def test_a_part_of_the_words_only_moves_up_what_pictures_found() -> None:
    alone = fuse(SEEN, [words("d", 30, coverage=0.7)], FUSION)
    assert [each.media_id for each in alone] == ["a", "b", "c", "d"]
    with_pictures = fuse(SEEN, [words("c", 4, coverage=0.7)], FUSION)
    assert [each.media_id for each in with_pictures] == ["c", "a", "b"]
    by_picture, by_words = 1 / 63, 0.05 / 61
    assert [each.share for each in with_pictures[0].contributions] == pytest.approx(
        [by_picture / (by_picture + by_words), by_words / (by_picture + by_words)]
    )
    many = pictures(*[hit(str(at), 0, 10, at) for at in range(1, 20)])
    moved = fuse(many, [words("15", 4, coverage=0.7)], FUSION)
    assert 5 < [each.media_id for each in moved].index("15") < 14


def test_words_that_are_everywhere_do_not_count_as_all() -> None:
    assert [each.media_id for each in fuse(SEEN, [words("d", 30, rarity=1.5)], FUSION)] == ["a", "b", "c", "d"]


def test_scores_order_the_hits_and_stay_below_one() -> None:
    said = [words(media, at, modality=modality) for modality in Modality for media, at in (("a", 3), ("d", 30))]
    scores = [each.score for each in fuse(SEEN, [each for each in said if each.modality != "picture"], FUSION)]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < scores[0] <= 1


def test_what_is_said_and_shown_in_the_same_moment_is_one_hit() -> None:
    said = [words("d", 30), words("d", 30.5, modality=Modality.SCREEN), words("d", 50)]
    fused = fuse(SEEN, said, FUSION)
    assert [(each.media_id, each.start_s) for each in fused][:2] == [("d", 30), ("d", 50)]
    assert {each.modality for each in fused[0].contributions} == {Modality.SUBTITLE, Modality.SCREEN}
    assert sum(each.share for each in fused[0].contributions) == pytest.approx(1)


def test_all_the_words_say_where_in_the_span_it_is() -> None:
    unlikely = pictures(*(replace(each, likely=0.01) for each in SEEN))
    (best, *_) = fuse(unlikely, [words("a", 4)], FUSION)
    assert best.likely is None  # 0.01 is what its picture has
    assert (best.start_s, best.end_s) == (0, 10)
    assert (best.moment.start_s, best.moment.end_s) == (4, 5)
    (part, *_) = fuse(unlikely, [words("a", 4, coverage=0.7)], FUSION)
    assert part.likely == 0.01
    assert (part.moment.start_s, part.moment.end_s) == (0, 10)


def test_an_image_is_one_moment() -> None:
    image = pictures(hit("a", 0, 0, 1), hit("b", 0, 0, 2))
    sign = TextHit(hit("b", 0, 0), Modality.SCREEN, "exit", 1.0, 8.0, 9.0)
    fused = fuse(image, [sign], FUSION)
    assert [each.media_id for each in fused] == ["b", "a"]


@pytest.mark.parametrize(
    ("likely", "rarity", "order"),
    [(None, 8.0, "dab"), (0.5, 8.0, "dab"), (0.95, 8.0, "adb"), (0.95, 13.0, "dab")],
)
def test_a_word_or_two_come_after_a_picture_that_is_clear(likely: float | None, rarity: float, order: str) -> None:
    seen = pictures(replace(hit("a", 0, 10, 1), likely=likely), hit("b", 0, 10, 2))
    assert "".join(each.media_id for each in fuse(seen, [words("d", 30, rarity=rarity)], FUSION)) == order
    # Also when pictures found something in the same video, far behind.
    both = replace(seen, hits=(*seen.hits, hit("d", 25, 35, 3)))
    assert "".join(each.media_id for each in fuse(both, [words("d", 30, rarity=rarity)], FUSION)) == order


@pytest.mark.parametrize(
    ("text", "matched"),
    [(words("d", 30), True), (words("d", 30, coverage=0.7), False), (words("d", 30, rarity=1.0), False)],
)
def test_all_the_words_count_as_matched(text: TextHit, matched: bool) -> None:
    nothing = pictures(hit("a", 0, 10, 1), matched=False)
    assert fuse(nothing, [text], FUSION).matched is matched
