"""Tiles of pictures against those of the official code."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ivsearch.errors import UsageError
from ivsearch.models.tiling import count, grid, tiles, to_pixels
from tests.parity import Parity

CHATS = ("chat_internlm2", "chat_qwen2", "chat_llama")


def cut(picture: object, **numbers: int) -> np.ndarray:
    asked = {"image_size": 28, "max_tiles": 12, **numbers}
    return tiles(picture, use_thumbnail=True, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CHATS)
def test_every_tile_is_the_official_one(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    side = parity.notes["image_size"]
    cases = json.loads((parity.folder / "tiling.json").read_text())
    assert len(cases) == 15
    for case in cases:
        image = Image.open(parity.folder / parity.notes["images_dir"] / case["image"])
        assert list(grid(*image.size, image_size=side, max_tiles=case["max_num"])) == case["cols_rows"]
        for picture in (image, np.asarray(image.convert("RGB"))):
            found = tiles(picture, image_size=side, max_tiles=case["max_num"], use_thumbnail=True)
            assert len(found) == case["tiles"]
            digests = [hashlib.sha256(tile.tobytes()).hexdigest() for tile in found]
            assert digests == case["tile_sha256_uint8_rgb_hwc"]
            np.testing.assert_allclose(found.mean((1, 2)), case["tile_mean"], atol=1e-4)


@pytest.mark.parametrize("name", CHATS)
def test_grids_and_tiles_of_the_arrays(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    side = parity.notes["image_size"]
    table = parity.expected["ratio_table"][:, :4]
    found = [grid(w, h, image_size=side, min_tiles=least, max_tiles=most) for w, h, least, most in table.tolist()]
    parity.check("ratio_table", np.hstack([table, np.array(found)]))
    chats = {each["name"]: each for each in json.loads((parity.folder / "chats.json").read_text())}
    ((file, most),) = chats["single_turn1"]["images"]
    image = Image.open(parity.folder / parity.notes["images_dir"] / file)
    cutting = tiles(image, image_size=side, max_tiles=most, use_thumbnail=True)
    parity.check("tiles0_stride", cutting[:, ::16, ::16])


def test_no_thumbnail_where_there_is_one_tile_or_none_is_wanted() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    assert len(cut(wide)) == 4 and len(cut(wide, max_tiles=1)) == 1
    assert len(tiles(wide, image_size=28, max_tiles=12, use_thumbnail=False)) == 3


def test_tiles_are_cut_row_by_row_and_the_thumbnail_is_last() -> None:
    picture = np.zeros((56, 84, 3), np.uint8)
    for index in range(6):
        picture[28 * (index // 3) :, 28 * (index % 3) :] = 0
        picture[28 * (index // 3) : 28 * (index // 3 + 1), 28 * (index % 3) : 28 * (index % 3 + 1)] = 40 * index
    found = cut(picture, max_tiles=6)
    assert found[:6, 14, 14, 0].tolist() == [0, 40, 80, 120, 160, 200]
    whole = Image.fromarray(picture).resize((28, 28), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found[6], np.asarray(whole))


def test_min_tiles() -> None:
    assert grid(100, 100, image_size=28, min_tiles=2, max_tiles=4) == (2, 2)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_pictures_of_every_mode_become_rgb_as_pillow_does(mode: str) -> None:
    ramp = Image.fromarray(np.arange(0, 224, dtype=np.uint8).reshape(14, 16).repeat(4, 0).repeat(4, 1))
    image = ramp.convert("I").convert("I;16") if mode == "I;16" else ramp.convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = np.asarray(image.convert("RGB").resize((28, 28), Image.Resampling.BICUBIC))
        warnings.simplefilter("error")
        np.testing.assert_array_equal(cut(image, max_tiles=1)[0], wanted)


def test_a_line_needs_no_more_room_than_its_tiles() -> None:
    assert cut(np.zeros((1, 100_000, 3), np.uint8)).shape == (13, 28, 28, 3)


MOST = "max_tiles must be a whole number from 1 to 1000, not {}"


@pytest.mark.parametrize(
    ("least", "most", "message"),
    [
        (1, 0, MOST.format(0)),
        (0, 0, MOST.format(0)),
        (-1, -1, MOST.format(-1)),
        (1, 1001, MOST.format(1001)),
        (1, 1.5, MOST.format(1.5)),
        (3, 2, "min_tiles must be from 1 to max_tiles, 2, not 3"),
        (0, 4, "min_tiles must be from 1 to max_tiles, 4, not 0"),
    ],
)
def test_numbers_of_tiles_that_make_no_sense(least: int, most: int, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        grid(10, 10, image_size=28, min_tiles=least, max_tiles=most)


ARRAY = "a picture must be an array (height, width, 3) of uint8, not {} of {}: convert it to 8-bit RGB"
NO_PICTURES = {
    "no width": (Image.new("RGB", (0, 5)), "a picture of 0 x 5 pixels shows nothing: leave it out"),
    "no height": (np.zeros((0, 5, 3), np.uint8), "a picture of 5 x 0 pixels shows nothing: leave it out"),
    "grey": (np.zeros((5, 5), np.uint8), ARRAY.format("(5, 5)", "uint8")),
    "four channels": (np.zeros((5, 5, 4), np.uint8), ARRAY.format("(5, 5, 4)", "uint8")),
    "channels first": (np.zeros((3, 5, 5), np.uint8), ARRAY.format("(3, 5, 5)", "uint8")),
    "floats": (np.zeros((5, 5, 3), np.float32), ARRAY.format("(5, 5, 3)", "float32")),
    "La": (Image.new("LA", (5, 5)).convert("La"), "a picture of mode 'La' does not turn into RGB: give it in RGB"),
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_is_refused(what: str) -> None:
    picture, message = NO_PICTURES[what]
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        cut(picture)


def test_tiles_are_counted_without_being_cut() -> None:
    chance = np.random.default_rng(2)
    for width, height, most in chance.integers(1, 200, (40, 3)) % [200, 200, 12] + 1:
        picture = np.zeros((height, width, 3), np.uint8)
        for thumbnail in (True, False):
            asked: dict[str, Any] = {"image_size": 28, "max_tiles": int(most), "use_thumbnail": thumbnail}
            assert count(picture, **asked) == len(tiles(picture, **asked))
            assert count(Image.fromarray(picture), **asked) == len(tiles(picture, **asked))


def test_pixels_are_those_that_torch_computes() -> None:
    import torch

    drawn = np.random.default_rng(1).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    # torchvision's ToTensor and Normalize, step by step.
    values = torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous().to(torch.float32).div(255)
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    np.testing.assert_array_equal(to_pixels(torch.from_numpy(drawn)).numpy(), values.sub_(mean).div_(std).numpy())
