"""Choosing tokens, against probabilities worked out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivsearch.errors import UsageError
from ivsearch.models.decoding import Sampling, choose

LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
DRAWS = 20_000


def drawn(sampling: Sampling) -> np.ndarray:
    """How often each token is chosen, in as many rows."""
    rows = torch.tensor(LOGITS, dtype=torch.float32).expand(DRAWS, -1)
    chosen, top = choose(rows, sampling, torch.Generator().manual_seed(7))
    assert (top == 2.0).all()
    return np.bincount(chosen.numpy(), minlength=len(LOGITS)) / DRAWS


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max())
    return np.asarray(powers / powers.sum())


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Within five standard deviations of a binomial."""
    return bool((np.abs(found - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / DRAWS) + 1e-12).all())


def test_without_temperature_the_likeliest_is_chosen() -> None:
    assert drawn(Sampling()).tolist() == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("temperature", [1e-38, 0.5, 1.0, 2.0])
def test_temperature_divides_the_scores(temperature: float) -> None:
    assert close(drawn(Sampling(temperature=temperature)), softmax((LOGITS - 2.0) / temperature))


def test_top_k_leaves_the_likeliest_k() -> None:
    wanted = softmax(np.where(np.arange(6) < 3, LOGITS, -np.inf))
    assert close(drawn(Sampling(temperature=1.0, top_k=3)), wanted)
    assert close(drawn(Sampling(temperature=1.0, top_k=99)), softmax(LOGITS))


@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.6, 0.8, 0.97, 1.0])
def test_top_p_leaves_the_fewest_that_hold_so_much_probability(top_p: float) -> None:
    kept = np.searchsorted(softmax(LOGITS).cumsum(), top_p) + 1
    wanted = softmax(np.where(np.arange(6) < kept, LOGITS, -np.inf))
    assert close(drawn(Sampling(temperature=1.0, top_p=top_p)), wanted)


def test_the_seed_decides() -> None:
    rows = torch.zeros(50, 1000)
    one, two, other = (
        choose(rows, Sampling(1.0, seed=seed), torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert (one == two).all() and (one != other).any()


def test_nan_shows_in_the_highest_score() -> None:
    rows = torch.tensor([[1.0, float("nan"), 0.0]])
    for sampling in (Sampling(), Sampling(temperature=1.0)):
        assert torch.isnan(choose(rows, sampling, torch.Generator().manual_seed(0))[1]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 .* or above, not -1.0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, not 1.5"),
        ({"seed": 2**70}, "seed must be from 0 to 9223372036854775807, not 1180591620717411303424"),
        ({"top_k": -1}, "top_k must be 0 .* or above, not -1"),
    ],
)
def test_impossible_sampling_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampling(**wrong)  # type: ignore[arg-type]
