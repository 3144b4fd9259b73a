"""Tiles of pictures against those of the official code."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivsearch.errors import UsageError
from ivsearch.models.tiling import grid, tiles, to_pixels
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


@pytest.mark.parametrize(("least", "most"), [(1, 0), (3, 2), (1, 1001), (0, 4)])
def test_numbers_of_tiles_that_make_no_sense(least: int, most: int) -> None:
    with pytest.raises(UsageError, match="max_tiles must be from"):
        grid(10, 10, image_size=28, min_tiles=least, max_tiles=most)


def test_pixels_are_those_that_torch_computes() -> None:
    import torch

    drawn = np.random.default_rng(1).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    # torchvision's ToTensor and Normalize, step by step.
    values = torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous().to(torch.float32).div(255)
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    np.testing.assert_array_equal(to_pixels(torch.from_numpy(drawn)).numpy(), values.sub_(mean).div_(std).numpy())
