"""Frames shared out over clips: the rules of the docstring, and Sainte-Laguë's own example numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivsearch.ask.budget import affordable, share
from ivsearch.domain import Evidence, Hit, MediaKind, Moment
from ivsearch.errors import UsageError


def evidence(
    label: int, score: float, span: tuple[float, float], media: str = "", kind: MediaKind = MediaKind.VIDEO
) -> Evidence:
    media = media or f"m{label}"
    start_s, end_s = span
    hit = Hit(label, score, Path(f"/v/{media}.mp4"), media, kind, label, start_s, end_s, Moment(start_s, end_s, score))
    return Evidence(label, hit, start_s, end_s, ())


def counts(shots: object) -> dict[int, int]:
    return {shot.label: len(shot.times_s) for shot in shots}  # type: ignore[attr-defined]


def test_equal_clips_get_equal_shares() -> None:
    shots = share([evidence(i, 0.3, (0, 60)) for i in (1, 2, 3, 4)], n_frames=32)
    assert counts(shots) == {1: 8, 2: 8, 3: 8, 4: 8}


def test_the_rest_goes_by_sainte_lague() -> None:
    # Weights 53 : 24 : 23 for 7 seats give 3, 2, 2: a well-known example of the method.
    scores = [53**0.5, 24**0.5, 23**0.5]
    shots = share([evidence(i, score, (0, 60)) for i, score in enumerate(scores, 1)], n_frames=7)
    assert counts(shots) == {1: 3, 2: 2, 3: 2}


def test_every_clip_is_shown_while_frames_last_then_the_best_ones() -> None:
    clips = [evidence(1, 0.9, (0, 60)), evidence(2, 0.01, (0, 60)), evidence(3, 0.3, (0, 60))]
    assert set(counts(share(clips, n_frames=3))) == {1, 2, 3}
    assert set(counts(share(clips, n_frames=2))) == {1, 3}


def test_groups_are_of_one_clip() -> None:
    shots = share([evidence(1, 0.4, (0, 9)), evidence(2, 0.3, (4, 5))], n_frames=30, multiple=4)
    assert all(n % 4 == 0 for n in counts(shots).values())
    assert sum(counts(shots).values()) <= 30
    for shot in shots:
        assert all(shot.start_s <= time_s < shot.end_s for time_s in shot.times_s)
        assert list(shot.times_s) == sorted(shot.times_s)


def test_a_photo_is_repeated_to_fill_its_group_and_no_further() -> None:
    photo = evidence(1, 0.9, (0, 0), kind=MediaKind.IMAGE)
    assert share([photo], n_frames=32)[0].times_s == (0.0,)
    assert share([photo], n_frames=32, multiple=4)[0].times_s == (0.0,) * 4


def test_a_short_clip_is_not_filled_with_the_same_picture() -> None:
    assert len(share([evidence(1, 0.9, (2.0, 2.5))], n_frames=32)[0].times_s) == 2


def test_what_is_shown_already_counts_less() -> None:
    overlapping = [evidence(1, 0.3, (0, 60), "a"), evidence(2, 0.3, (10, 70), "a"), evidence(3, 0.3, (0, 60), "b")]
    given = counts(share(overlapping, n_frames=24))
    assert given[3] > given[2]
    assert given[1] > given[2]


def test_files_in_the_order_of_their_best_clip_and_clips_by_time() -> None:
    clips = [evidence(1, 0.4, (30, 40), "b"), evidence(2, 0.3, (5, 9), "a"), evidence(3, 0.2, (1, 4), "b")]
    assert [shot.label for shot in share(clips, n_frames=9)] == [3, 1, 2]


def test_negative_scores_share_evenly() -> None:
    assert counts(share([evidence(1, -0.1, (0, 60)), evidence(2, -0.2, (0, 60))], n_frames=8)) == {1: 4, 2: 4}


def test_no_clip_no_shot() -> None:
    assert share([], n_frames=8) == ()


def test_a_budget_below_one_group_is_refused() -> None:
    with pytest.raises(UsageError, match="3 frames hold no group of 4: allow at least 4 frames"):
        share([evidence(1, 0.3, (0, 1))], n_frames=3, multiple=4)


@pytest.mark.parametrize(
    ("n_frames", "n_tokens", "per_frame", "multiple", "wanted"),
    [
        (32, 8192, 256, 1, 32),
        (128, 8192, 256, 1, 32),
        (512, 8192, 16, 4, 512),
        (10, 8192, 16, 4, 8),
        (8, 100, 256, 1, 0),
    ],
)
def test_what_fits(n_frames: int, n_tokens: int, per_frame: float, multiple: int, wanted: int) -> None:
    assert affordable(n_frames, n_tokens=n_tokens, tokens_per_frame=per_frame, multiple=multiple) == wanted
