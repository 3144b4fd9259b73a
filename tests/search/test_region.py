from __future__ import annotations

import numpy as np
import pytest

from ivsearch.domain import Region
from ivsearch.errors import UsageError
from ivsearch.search.region import crop, read_region

PIXELS = np.arange(20 * 40 * 3, dtype=np.uint16).reshape(20, 40, 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("0.25,0.5,0.5,0.25", slice(10, 15), slice(10, 30)),
        ("25%,50%,50%,25%", slice(10, 15), slice(10, 30)),
        ("10, 10, 20, 5", slice(10, 15), slice(10, 30)),
        ("0,0,1,1", slice(0, 20), slice(0, 40)),
        ("0,0,40,20", slice(0, 20), slice(0, 40)),
        ("0.9,0.9,0.1,0.1", slice(18, 20), slice(36, 40)),
        ("0.5,0.5,0.001,0.001", slice(10, 11), slice(20, 21)),  # never nothing
        ("0.999,0.999,0.001,0.001", slice(19, 20), slice(39, 40)),
    ],
)
def test_the_region_is_what_slicing_gives(text: str, rows: slice, columns: slice) -> None:
    np.testing.assert_array_equal(crop(PIXELS, read_region(text)), PIXELS[rows, columns])


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "10%,0,50%,100%", "nan,0,1,1", "0,0,inf,1"])
def test_what_is_no_region(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a region: write x,y,w,h: shares .* percentages .* or pixels"):
        read_region(text)


@pytest.mark.parametrize("text", ["-1,0,10,10", "0,0,0,1", "0,0,1,-1", "0,-5%,1,1".replace("-5%", "-0.05")])
def test_a_region_that_is_empty_or_begins_outside(text: str) -> None:
    with pytest.raises(UsageError, match="is empty or begins outside the picture"):
        read_region(text)


@pytest.mark.parametrize("region", [Region(0.5, 0, 0.6, 1), Region(0, 0, 41, 20, in_pixels=True), Region(0, 1, 1, 1)])
def test_a_region_that_ends_outside(region: Region) -> None:
    with pytest.raises(UsageError, match="outside the picture of 40 × 20 pixels"):
        crop(PIXELS, region)
