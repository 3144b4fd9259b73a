"""Pictures and texts to unit vectors of one Space, and to words where an encoder can."""

from __future__ import annotations

from ivsearch.encode.captions import caption_images
from ivsearch.encode.encoder import Caption, Captioner, Encoder, Matcher
from ivsearch.encode.picture_files import embed_images, read_picture
from ivsearch.encode.table import EncoderRow, describe_encoders, load_encoder

__all__ = [
    "Caption",
    "Captioner",
    "Encoder",
    "EncoderRow",
    "Matcher",
    "caption_images",
    "describe_encoders",
    "embed_images",
    "load_encoder",
    "read_picture",
]
