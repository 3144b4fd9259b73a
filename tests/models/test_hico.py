"""HiCo's merging against the arrays of the official code and against a slow reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ivsearch.models.hico import add_up, assign, average, compared_by, merge, pair, schedule, sizes_of

IV25 = ("iv25_168", "iv25_448")


def slow(tokens: torch.Tensor, heads: int, target: int) -> torch.Tensor:
    """One group (t, c), token by token, as SPEC and the ToMe paper describe it."""
    x, sizes = tokens.double(), torch.ones(len(tokens), 1, dtype=torch.double)
    while len(x) > target:
        merged = min(len(x) // 2, len(x) - target)
        metric = x.view(len(x), heads, -1).mean(1)
        metric = metric / metric.norm(dim=-1, keepdim=True)
        scores = metric[::2] @ metric[1::2].T
        best, partner = scores.max(-1)
        order = best.argsort(descending=True, stable=True).tolist()
        sums, counts = (x * sizes)[1::2].clone(), sizes[1::2].clone()
        for even in order[:merged]:
            sums[partner[even]] += (x * sizes)[2 * even]
            counts[partner[even]] += sizes[2 * even]
        kept = [2 * even for even in order[merged:]]
        sums, sizes = torch.cat([(x * sizes)[kept], sums]), torch.cat([sizes[kept], counts])
        x = sums / sizes
    return x


@pytest.mark.parametrize(
    ("tokens", "rounds"),
    [(1024, [512, 256, 128, 64]), (256, [128, 64]), (324, [162, 81, 17]), (144, [72, 8]), (65, [1]), (64, [])],
)
def test_schedule(tokens: int, rounds: list[int]) -> None:
    assert schedule(tokens, 64) == rounds


@pytest.mark.parametrize("name", IV25)
def test_every_round_of_the_merge_cases_is_the_official_one(shared: Path, name: str) -> None:
    folder = shared / "parity" / name
    arrays = dict(np.load(folder / "hico_merge.npz"))
    cases = json.loads((folder / "fixture.json").read_text())["hico_merge"]["cases"]
    assert cases
    for case in cases:
        prefix, heads, target = f"c{case['case']}", case["heads"], case["target"]
        tokens = torch.from_numpy(arrays[f"{prefix}_x"])
        assert schedule(tokens.shape[1], target) == case["r_list"]
        sums = compared_by(tokens, heads)
        owners = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
        for stage, merged in enumerate(case["r_list"]):
            key = f"{prefix}_s{stage}"
            count = sums.shape[1] - merged
            paired = pair(sums, merged)
            np.testing.assert_array_equal(paired.partners, arrays[f"{key}_node_idx"])
            keeps = merged < paired.partners.shape[1]
            assert (paired.order is not None) is keeps
            if paired.order is not None:
                np.testing.assert_array_equal(paired.order, arrays[f"{key}_order"])
            sums, owners = add_up(sums, paired.places, count), paired.places.gather(1, owners)
            np.testing.assert_array_equal(sizes_of(owners, count), arrays[f"{key}_size"])
            np.testing.assert_allclose(average(tokens, owners, count), arrays[f"{key}_x"], atol=1e-4)
        np.testing.assert_allclose(merge(tokens, heads=heads, target=target), arrays[f"{prefix}_y"], atol=1e-4)


@pytest.mark.parametrize(("count", "heads", "target"), [(144, 3, 64), (163, 2, 64), (40, 4, 5), (12, 1, 12)])
def test_groups_do_not_see_each_other(count: int, heads: int, target: int) -> None:
    tokens = torch.randn(5, count, 12 * heads, generator=torch.Generator().manual_seed(count))
    merged = merge(tokens, heads=heads, target=target)
    for group, found in zip(tokens, merged, strict=True):
        np.testing.assert_allclose(found, slow(group, heads, target), atol=1e-5)


def test_frames_of_a_still_scene_merge_the_same_way_every_time() -> None:
    frame = torch.randn(1, 36, 48, generator=torch.Generator().manual_seed(3))
    tokens = frame.repeat(2, 4, 1)
    merged = merge(tokens, heads=3, target=64)
    np.testing.assert_array_equal(merged[0], merged[1])
    np.testing.assert_allclose(merged[0], slow(tokens[0], 3, 64), atol=1e-5)


def test_in_bfloat16_the_same_tokens_meet_and_their_means_are_rounded_once() -> None:
    tokens = torch.randn(2, 256, 96, generator=torch.Generator().manual_seed(4)).bfloat16()
    owners = assign(compared_by(tokens, 4), 64)
    np.testing.assert_array_equal(owners, assign(compared_by(tokens.float(), 4), 64))
    exact = average(tokens.double(), owners, 64)
    error = (average(tokens, owners, 64).double() - exact).abs()
    # The share of each token and the mean itself are rounded: half a unit in the last of 8 places each.
    assert (error <= exact.abs() * 2**-8 * 1.5 + 1e-3).all()
