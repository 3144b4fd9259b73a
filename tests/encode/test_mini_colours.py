"""Colours against scikit-image's colour conversion and against pictures whose colours are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivsearch.encode.mini_colours import COLOUR_NAMES, COLOURS, colour_shares, lab


def test_lab_is_that_of_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(lab(torch.from_numpy(rgb)).numpy(), color.rgb2lab(rgb), atol=0.02)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((255, 0, 0), "red"),
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((0, 128, 0), "green"),
        ((255, 165, 0), "orange"),
    ],
)
def test_css_colours_have_their_names(rgb: tuple[int, int, int], name: str) -> None:
    picture = torch.tensor(rgb, dtype=torch.float32)[None, :, None, None].expand(1, 3, 40, 60) / 255
    assert COLOUR_NAMES[int(colour_shares(picture)[0].argmax())] == name


def test_shares_are_areas() -> None:
    picture = torch.empty(1, 3, 64, 64)
    picture[:, :, :16] = torch.tensor(COLOURS["red"])[:, None, None] / 255
    picture[:, :, 16:] = torch.tensor(COLOURS["blue"])[:, None, None] / 255
    shares = dict(zip(COLOUR_NAMES, colour_shares(picture)[0].tolist(), strict=True))
    assert shares["red"] == pytest.approx(0.25)
    assert shares["blue"] == pytest.approx(0.75)
