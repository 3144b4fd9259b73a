"""Texts and pictures → the parts of a message in OpenAI's API."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

# Longest sides. Frames come by the dozen, and servers cut photos into tiles of about this size anyway.
FRAME_SIDE = 448
PHOTO_SIDE = 768
QUALITY = 90


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def picture_part(picture: Image.Image, side: int) -> dict[str, Any]:
    """A JPEG whose longest side is at most ``side`` pixels, in the message itself: no server fetches anything."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def pictures_in(parts: list[dict[str, Any]]) -> int:
    return sum(part["type"] == "image_url" for part in parts)
