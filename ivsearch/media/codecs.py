"""Which video codecs the FFmpeg inside PyAV can decode."""

from __future__ import annotations

from collections.abc import Sequence

from av.codec import Codec
from av.codec.codec import UnknownCodecError


def decodable(names: Sequence[str]) -> list[str]:
    """Those of the codec ``names`` (FFmpeg's, such as ``h264``) that have a decoder."""
    return [name for name in names if _has_decoder(name)]


def _has_decoder(name: str) -> bool:
    try:
        Codec(name, "r")
    except UnknownCodecError:
        return False
    return True
