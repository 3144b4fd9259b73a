"""Clips the tests make themselves: each picture carries its number, so a decoded picture proves which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 16


def draw(number: int, width: int = 320, height: int = 180) -> NDArray[np.uint8]:
    """A moving ramp with 16 black or white cells in the top twelfth, lowest bit left."""
    ramp = (np.arange(width)[None, :] + np.arange(height)[:, None] + 5 * number) % 256
    pixels = np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        pixels[: height // 12, left:right] = 255 * (number >> bit & 1)
    return pixels


def read(pixels: NDArray[np.uint8]) -> int:
    height, width = pixels.shape[:2]
    row = pixels[int(height * 0.0235)].mean(axis=1)
    return sum(int(row[int((2 * bit + 1) / (2 * BITS) * width)] > 128) << bit for bit in range(BITS))


def encode(
    path: Path,
    pts: Sequence[int],
    time_base: Fraction = Fraction(1, 30),
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (320, 180),
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    rate: int = 30,
) -> Path:
    """Picture ``i`` is shown at ``pts[i] * time_base`` seconds and carries number ``i``."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options=options or {"preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        for number, moment in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = moment, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def paint(
    path: Path,
    planes: Sequence[int],
    *,
    pix_fmt: str,
    matrix: int,
    full: bool,
    transfer: int = 1,
    primaries: int = 1,
    size: tuple[int, int] = (64, 64),
) -> Path:
    """A lossless one-picture Matroska file of one flat colour, given as code values of its planes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        context.color_trc, context.color_primaries = transfer, primaries
        frame = av.VideoFrame(*size, pix_fmt)
        deep = "10" in pix_fmt
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(np.full(plane.buffer_size // (1 + deep), value, np.uint16 if deep else np.uint8).tobytes())
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        frame.color_trc, frame.color_primaries = transfer, primaries
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
