"""A then B: against trying every choice of frames, and on real scenes whose order is known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Clip, Filters, FrameVectors, MediaKind, Query, Reranking, Term, Then
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError
from ivsearch.library import Library
from ivsearch.scoring.hubness import Hubness, Usual
from ivsearch.search.compose import Composed
from ivsearch.search.sequence import Step, best_in_a_row, sequences
from tests.conftest import library_with


def by_trying_all(values: NDArray[np.float64], starts_s: NDArray, ends_s: NDArray, within_s: Sequence[float]) -> float:
    """The largest sum there is; minus infinity when nothing is allowed."""
    n_steps, n = values.shape
    sums = [-np.inf]
    for chosen in itertools.combinations(range(n), n_steps):
        gaps = [starts_s[b] - ends_s[a] for a, b in itertools.pairwise(chosen)]
        if all(gap <= within for gap, within in zip(gaps, within_s, strict=True)):
            sums.append(sum(values[step, frame] for step, frame in enumerate(chosen)))
    return max(sums)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_the_best_frames_in_a_row_are_those_that_trying_all_finds(n_steps: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 15))
    edges = np.cumsum(random.uniform(0.2, 4.0, n + 1))
    starts_s, ends_s = edges[:-1], edges[1:]
    values = random.normal(size=(n_steps, n))
    values[random.random(values.shape) < 0.3] = -np.inf  # steps that do not stand out there
    within_s = random.uniform(0.0, 6.0, n_steps - 1).tolist()
    expected = by_trying_all(values, starts_s, ends_s, within_s)
    chosen = best_in_a_row(values, starts_s, ends_s, within_s)
    if expected == -np.inf:
        assert chosen is None
        return
    assert chosen is not None and chosen == sorted(set(chosen))
    for before, after, within in zip(chosen, chosen[1:], within_s, strict=False):
        assert starts_s[after] - ends_s[before] <= within
    assert sum(values[step, frame] for step, frame in enumerate(chosen)) == pytest.approx(expected)


def test_no_frames_hold_nothing() -> None:
    assert best_in_a_row(np.empty((2, 0)), np.empty(0), np.empty(0), [30.0]) is None


def scene(*parts: tuple[int, int]) -> tuple[FrameVectors, list[Clip]]:
    """``(axis, seconds)`` one after the other: one frame a second along that axis, a Clip each."""
    rows = np.concatenate([np.tile(np.eye(4, dtype=np.float16)[axis], (length, 1)) for axis, length in parts])
    n = len(rows)
    starts = np.cumsum([0, *(length for _, length in parts)])
    clips = [
        Clip(i, "m", float(a), float(b), int(a), int(b - a)) for i, (a, b) in enumerate(itertools.pairwise(starts))
    ]
    return FrameVectors(np.arange(n, dtype=np.float64), np.arange(n, dtype=np.int32), rows), clips


def step(axis: int, within_s: float = 30.0) -> Step:
    return Step(Composed.of(np.eye(4, dtype=np.float32)[axis]), usual=0.0, spread=0.25, within_s=within_s)


def test_a_place_spans_its_steps_and_each_has_its_moment() -> None:
    frames, clips = scene((3, 4), (0, 5), (3, 6), (1, 5), (3, 5))
    (found,) = sequences([step(0), step(1, 6.0)], clips, frames, 25.0)
    assert [(moment.start_s, moment.end_s) for moment in found.steps] == [(4, 9), (15, 20)]
    assert (found.start_s, found.end_s, found.clip.clip_id) == (4, 20, 1)
    assert found.score == pytest.approx(1.0, abs=1e-3)
    assert sequences([step(0), step(1, 5.5)], clips, frames, 25.0) == []  # six seconds lie between
    assert sequences([step(1), step(0)], clips, frames, 25.0) == []  # the other way round


def test_three_steps_and_every_place_of_a_video() -> None:
    frames, clips = scene((0, 3), (1, 3), (2, 3), (3, 20), (0, 3), (1, 3), (2, 3))
    found = sequences([step(0), step(1, 5.0), step(2, 5.0)], clips, frames, 38.0)
    assert [[moment.start_s for moment in each.steps] for each in found] == [[0, 3, 6], [29, 32, 35]]


def test_a_step_that_does_not_stand_out_ends_it() -> None:
    frames, clips = scene((0, 5), (1, 5))
    unseen = Step(Composed.of(np.eye(4, dtype=np.float32)[2]), usual=0.0, spread=0.25, within_s=30.0)
    assert sequences([step(0), unseen], clips, frames, 10.0) == []


def test_real_scenes_are_found_in_their_order_only(sample_library: Library) -> None:
    """The compilation shows a cat at 0:17 and a cup of coffee from 0:24 on."""
    cat, coffee = (Term("a cat"),), (Term("a cup of coffee"),)
    (hit, *_) = sample_library.search("a cat", then=[Then(coffee)])
    assert hit.path.name == "compilation.mp4" and len(hit.steps) == 2
    assert 16 <= hit.steps[0].start_s <= hit.steps[0].end_s <= hit.steps[1].start_s <= 25
    assert (hit.start_s, hit.end_s) == (hit.steps[0].start_s, hit.steps[1].end_s)
    backwards = sample_library.search(terms=coffee, then=[Then(cat)])
    assert not any(h.path.name == "compilation.mp4" and h.steps[0].start_s > 23 for h in backwards)
    assert all(h.kind is MediaKind.VIDEO for h in backwards)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query("a cat", then=(Then(()),)), "say also what to look for"),
        (Query("a cat", then=(Then((Term("a dog"),), -1.0),)), "within 0 seconds or more, not -1"),
        (
            Query("a cat", filters=Filters(kind=MediaKind.IMAGE), then=(Then((Term("a dog"),)),)),
            "leave --kind image out",
        ),
    ],
)
def test_sequences_that_make_no_sense(sample_library: Library, query: Query, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sample_library.find(query)


def test_a_sequence_is_not_ranked_again(sample_library: Library) -> None:
    with pytest.raises(UsageError, match="not ranked again: leave --rerank out"):
        sample_library.search("a cat", then=[Then((Term("a dog"),))], rerank=Reranking("mini"))


@pytest.mark.parametrize("n_clips", [0, 1, 40])
def test_a_step_knows_what_is_usual(n_clips: int) -> None:
    random = np.random.default_rng(0)
    background = random.normal(size=(n_clips, 4)).astype(np.float32)
    wanted = np.eye(4, dtype=np.float32)[0]
    made = Step.of(Composed.of(wanted), background, 30.0, None)
    scores = [float(row[0]) for row in background]
    assert made.usual == pytest.approx(np.mean(scores) if scores else 0.0, abs=1e-6)
    assert made.spread == pytest.approx(max(float(np.std(scores)), 1e-6) if scores else 1.0, abs=1e-6)


def test_what_is_near_to_every_word_does_not_stand_out() -> None:
    """Two frames score alike; the one that is as near to the other words is no match."""
    words = np.concatenate([np.eye(4, dtype=np.float32)[[1]]] * 10)
    hub = np.array([0.6, 0.8, 0.0, 0.0], np.float16)
    plain = np.array([0.6, 0.0, 0.8, 0.0], np.float16)
    away = np.array([0.0, 0.0, 0.0, 1.0], np.float16)
    rows = np.stack([hub, hub, away, away, plain, plain])
    frames = FrameVectors(np.arange(6.0), np.arange(6, dtype=np.int32), rows)
    clips = [Clip(i, "m", 2.0 * i, 2.0 * i + 2, 2 * i, 2) for i in range(3)]
    wanted = Step(Composed.of(np.eye(4, dtype=np.float32)[0]), 0.0, 0.25, 30.0, Hubness(words, Usual(0.0, 1.0)))
    (found,) = sequences([wanted], clips, frames, 6.0)
    assert (found.start_s, found.end_s) == (4.0, 6.0)
    both = sequences([Step(wanted.composed, 0.0, 0.25, 30.0)], clips, frames, 6.0)
    assert len(both) == 2


@pytest.fixture(scope="module")
def scenes(shared_media: Path, mini: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A real compilation of twelve hard-cut scenes, indexed."""
    library = library_with(mini, tmp_path_factory.mktemp("scenes"))
    list(library.index([shared_media / "dev/c01.mp4"], fps=0.5))
    yield library
    library.close()


def test_neighbouring_scenes_are_found_in_their_order_and_not_in_the_other(scenes: Library, shared_media: Path) -> None:
    lines = (shared_media / "truth_moments.jsonl").read_text("utf-8").splitlines()
    truths = [truth for truth in map(json.loads, lines) if truth["file"] == "dev/c01.mp4"]
    truths.sort(key=lambda truth: truth["start"])
    pairs = list(itertools.pairwise(truths))
    assert len(pairs) >= 10

    def found(first: dict, second: dict) -> bool:
        """Whether one of the first five hits has the middles of its moments in these two scenes."""
        hits = scenes.search(first["query"]["en"], then=[Then((Term(second["query"]["en"]),))], k=5)
        return any(
            all(
                truth["start"] <= (m.start_s + m.end_s) / 2 <= truth["end"]
                for truth, m in zip((first, second), hit.steps, strict=True)
            )
            for hit in hits
        )

    assert sum(found(a, b) for a, b in pairs) >= 0.8 * len(pairs)
    assert not any(found(b, a) for a, b in pairs)
