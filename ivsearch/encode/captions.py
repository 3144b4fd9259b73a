"""Image files → captions, for encoders that can write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ivsearch.domain import Skipped
from ivsearch.encode.encoder import Caption, Captioner, Encoder
from ivsearch.encode.picture_files import read_batches
from ivsearch.errors import MediaError, UsageError


def captioner_of(encoder: Encoder) -> Captioner:
    """``encoder`` as one that captions. Raises UsageError when it cannot."""
    if isinstance(encoder, Captioner):
        return encoder
    raise UsageError(
        f"encoder {encoder.space.encoder!r} cannot caption pictures; internvl-g and internvl-c "
        "can: --encoder internvl-g --weights DIR|HUB_ID"
    )


def caption_files(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    prompt: str = "English caption:",
    beams: int = 5,
    min_new_tokens: int = 8,
    max_new_tokens: int = 19,
) -> Iterator[tuple[Path, Caption] | Skipped]:
    """A caption a readable image file, in order, as batches are done. Raises UsageError when the encoder cannot."""
    captioner = captioner_of(encoder)
    for each in read_batches(captioner, paths, captioner.batch_size):
        if isinstance(each, Skipped):
            yield each
            continue
        captions = captioner.caption(
            each.batch, prompt=prompt, beams=beams, min_new_tokens=min_new_tokens, max_new_tokens=max_new_tokens
        )
        yield from ((paths[place], caption) for place, caption in zip(each.places, captions, strict=True))


def caption_images(
    encoder: Encoder,
    paths: Sequence[str | Path],
    *,
    prompt: str = "English caption:",
    beams: int = 5,
    min_new_tokens: int = 8,
    max_new_tokens: int = 19,
) -> list[Caption]:
    """Image files to captions, in the order of ``paths``; ``beams`` 1 is greedy decoding.

    The first unreadable file raises MediaError; an encoder that cannot caption, UsageError.
    """
    captions = []
    files = [Path(path) for path in paths]
    for each in caption_files(
        encoder, files, prompt=prompt, beams=beams, min_new_tokens=min_new_tokens, max_new_tokens=max_new_tokens
    ):
        if isinstance(each, Skipped):
            raise MediaError(f"{each.path}: {each.reason}")
        captions.append(each[1])
    return captions
