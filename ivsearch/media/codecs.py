"""Which video codecs the FFmpeg inside PyAV can decode and encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from av.codec import Codec
from av.codec.codec import UnknownCodecError


def decodable(names: Sequence[str]) -> list[str]:
    """Those of the codec ``names`` (FFmpeg's, such as ``h264``) that have a decoder."""
    return [name for name in names if _knows(name, "r")]


def encoders(names: Sequence[str]) -> list[str]:
    """Those of the encoders ``names`` (FFmpeg's, such as ``libx264``) that are there."""
    return [name for name in names if _knows(name, "w")]


def _knows(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True
