from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Clip, Moment
from ivsearch.scoring.gallery import Gallery, Sample, measure
from ivsearch.scoring.hubness import Hubness, Usual
from ivsearch.scoring.likelihood import chance_lead, lead
from ivsearch.search.calibrate import by_pictures, by_words
from ivsearch.search.refine import FoundSpan


@pytest.mark.parametrize("n", [6, 30, 400])
def test_the_lead_by_chance_is_that_of_random_numbers(n: int) -> None:
    """Against twenty thousand draws."""
    draws = np.sort(np.random.default_rng(7).normal(size=(20_000, n)), axis=1)[:, ::-1]
    assert chance_lead(n) == pytest.approx((draws[:, 0] - draws[:, 1:6].mean(axis=1)).mean(), abs=0.03)


def test_the_lead_is_over_the_five_best_others() -> None:
    assert lead(0.9, [0.1, 0.5, 0.4, 0.3, 0.2, 0.6], 0.1) == pytest.approx(0.9 - 0.4 - 0.1)
    assert lead(0.9, [], 0.1) == 0


def gallery(random: np.random.Generator, n: int) -> tuple[Gallery, np.ndarray, np.ndarray]:
    clips, words = (random.normal(size=(size, 24)) for size in (n, 40))
    clips, words = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (clips, words))
    owners = np.array([str(i // 2) for i in range(n)])
    return measure((words @ clips.T).astype(np.float32), Sample.of(clips.astype(np.float32), owners, n)), clips, words


@pytest.mark.parametrize("seed", range(3))
def test_the_background_is_what_slow_loops_say(seed: int) -> None:
    found, clips, words = gallery(np.random.default_rng(seed), 20)
    pairs = [(i, j) for i in range(20) for j in range(20) if i // 2 != j // 2]
    assert found.sample.apart == pytest.approx(np.mean([clips[i] @ clips[j] for i, j in pairs]), abs=1e-4)
    nearest = [max(clips[i] @ clips[j] for a, j in pairs if a == i) for i in range(20)]
    above = (10 * (np.median(nearest) - found.sample.apart) + 8 * 0.75 * (1 - found.sample.apart)) / 18  # ten Media
    assert found.sample.near == pytest.approx(found.sample.apart + above, abs=1e-4)
    hubs = [np.mean(sorted(words @ clip)[-10:]) for clip in clips]
    np.testing.assert_allclose(found.hubs, hubs, atol=1e-4)
    above_usual = np.array(hubs) - np.median(hubs)
    turn = -2 * 1.4826 * np.median(abs(above_usual))
    expected = [0.4 * (each if each >= turn else turn + 5 * (turn - each)) for each in above_usual]
    scores = clips @ words[0] - expected
    fits = (scores - found.floor) / found.unit
    np.testing.assert_allclose(found.fits(words[0].astype(np.float32)), fits, atol=1e-3)
    assert found.fit(float(clips[3] @ words[0]), hubs[3]) == pytest.approx(fits[3], abs=1e-3)
    off = Hubness(words.astype(np.float32), found.usual_hub).taken_off(clips.astype(np.float32))
    np.testing.assert_allclose(off, expected, atol=1e-4)


def test_what_is_near_to_no_word_gains_nothing_by_it() -> None:
    usual = Usual.of(np.float32([0.25, 0.27, 0.3, 0.33, 0.35, 0.0]))
    blank, dull, common, hub = usual.taken_off(np.float32([0.0, 0.2, 0.3, 0.4]))
    assert dull < common < hub < blank


def test_clips_of_one_file_have_no_neighbours() -> None:
    clips = np.eye(4, dtype=np.float32)
    assert Sample.of(clips, np.array(["a"] * 4), 4).near is None


def unit_rows(random: np.random.Generator, n: int, common: float = 0.0) -> NDArray[np.float32]:
    rows = random.normal(size=(n, 64)) + common * np.eye(64)[0]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("n_copies", [1, 6])
def test_a_picture_is_found_in_a_library_with_copies(n_copies: int) -> None:
    """Each picture stands there as often again, a little changed."""
    random = np.random.default_rng(n_copies)
    originals = unit_rows(random, 30)
    copies = [originals + random.normal(size=originals.shape).astype(np.float32) * 0.01 for _ in range(n_copies)]
    clips = np.concatenate([originals, *copies])
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    shown = by_pictures(Sample.of(clips, np.arange(len(clips)).astype(str), len(clips)))
    assert shown is not None
    assert shown.likely("0", 1.0) > 0.85 and shown.likely("0", float(originals[0] @ clips[30])) > 0.85
    strangers = (unit_rows(random, 20) @ clips.T).max(axis=1)
    assert shown.likely("0", float(np.median(strangers))) < 0.25


def test_a_picture_itself_is_found_where_all_are_alike() -> None:
    shown = by_pictures(Sample.of(unit_rows(np.random.default_rng(5), 40, common=25.0), np.arange(40).astype(str), 40))
    assert shown is not None and shown.apart > 0.85
    assert shown.likely("0", 1.0) > 0.85 and shown.likely("0", shown.apart) < 0.01


@pytest.mark.parametrize("n", [2, 3, 8])
def test_in_a_small_library_a_little_more_or_less_decides_nothing(n: int) -> None:
    shown = by_pictures(Sample.of(unit_rows(np.random.default_rng(n), n), np.arange(n).astype(str), n))
    assert shown is not None
    likely = np.array([shown.likely("0", score) for score in np.linspace(shown.apart - 0.1, 1.0, 200)])
    assert likely[0] < 0.01 and likely[-1] > 0.85
    assert np.diff(likely).max() < 0.1 and (np.diff(likely) >= 0).all()


def test_copies_of_what_is_found_are_no_rivals_of_it() -> None:
    background = gallery(np.random.default_rng(2), 20)[0]
    wanted = background.clips[0]
    best, poor = (FoundSpan(Clip(0, "", 0, 1, 0, 1), 0, 1, score, Moment(0, 1, score)) for score in (0.9, 0.1))
    alone = by_words(wanted, {"best": [best], "poor": [poor]}, background, True)
    copied = {f"copy {i}": [best] for i in range(7)}
    with_copies = by_words(wanted, {"best": [best], "poor": [poor], **copied}, background, True, copied.keys())
    assert with_copies.likely("best", 0.9) == alone.likely("best", 0.9)
    assert alone.likely("best", 0.9) > 0.5
