from __future__ import annotations

import numpy as np

from ivsearch.media.gate import Gate

RANDOM = np.random.default_rng(7)
SCENE = RANDOM.integers(60, 180, (360, 640, 3)).astype(np.uint8)


def test_first_is_kept_and_the_same_is_not() -> None:
    gate = Gate()
    assert gate.keep(SCENE)
    assert not gate.keep(SCENE.copy())


def test_noise_is_not_news() -> None:
    gate = Gate()
    gate.keep(SCENE)
    noisy = np.clip(SCENE.astype(int) + RANDOM.normal(0, 6, SCENE.shape), 0, 255).astype(np.uint8)
    assert not gate.keep(noisy)


def test_a_small_object_is_news() -> None:
    gate = Gate()
    gate.keep(SCENE)
    moved = SCENE.copy()
    moved[200:240, 300:320] = 20  # 0.35 % of the picture
    assert gate.keep(moved)


def test_slow_drift_adds_up() -> None:
    gate = Gate()
    base = np.full((90, 160, 3), 100, np.uint8)
    kept = [step for step in range(12) if gate.keep(base + np.uint8(step))]
    assert kept == [0, 2, 4, 6, 8, 10]


def test_colour_alone_is_news() -> None:
    gate = Gate()
    red, blue = np.zeros((2, 40, 40, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 90
    gate.keep(red)
    assert gate.keep(blue)


def test_a_picture_of_one_pixel() -> None:
    assert Gate().keep(np.zeros((1, 1, 3), np.uint8))
