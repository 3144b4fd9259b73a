"""``ivsearch embed text | image | video``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ivsearch import wire
from ivsearch.commands.options import SOME_SKIPPED, echo_json, encoder_options, json_option, loaded_encoder, readable
from ivsearch.commands.progress import CountProgress
from ivsearch.render import short_path, skipped_text
from ivsearch.settings import load_settings

if TYPE_CHECKING:
    from ivsearch.embed import Embedded
    from ivsearch.encode import Encoder

NOTHING_FOUND = 1
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(
    epilog="""\b
Examples:
  ivsearch embed text "a photo" "一张照片" -o texts.npz
  ivsearch embed image ./photos cat.jpg --encoder internvl-c --weights DIR -o images.npz
  ivsearch embed video holiday.mp4 --fps 2 -o frames.npz
  ivsearch embed video ./videos --pooled -o videos.npz

\b
The file holds the arrays `embeddings` (n, dim) float32, unit rows, and `inputs` (n,),
what each row is of; `encoder` and `revision` name the space. Videos: `media` (n,),
the content id of the video a row is of, and `pts_s` (n,), its time in seconds.
"""
)
def command() -> None:
    """Write the vectors of texts, images or videos to a NumPy file (.npz). Needs no library."""


def shared_options(command: Command) -> Command:
    for option in (
        json_option,
        click.option("--batch", type=click.IntRange(1), help="How many at once (default: what suits the encoder)."),
        encoder_options,
        click.option("--output", "-o", required=True, metavar="FILE", help="Where to write the .npz file."),
    ):
        command = option(command)
    return command


@command.command(
    epilog="""\b
Examples:
  ivsearch embed text "a photo" "一张照片" -o out.npz
  ivsearch embed text --from queries.txt -o out.npz   # one a line; - reads standard input
"""
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--from", "source", metavar="FILE", help="Read texts from a file, one a line; - is standard input.")
@shared_options
def text(
    texts: tuple[str, ...],
    source: str | None,
    output: str,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    batch: int | None,
    as_json: bool,
) -> None:
    """Texts in any language, a row each."""
    wanted = [*texts, *(_lines(source) if source else ())]
    if not wanted:
        raise click.UsageError('name the texts: ivsearch embed text "a photo" -o out.npz, or --from FILE')
    for each in wanted:
        readable(each)
    from ivsearch.embed import check_output, embed_texts

    check_output(Path(output))
    loaded, size = _loaded(encoder, weights, device, dtype, preprocess, batch)
    with CountProgress("texts", shown=sys.stderr.isatty()) as progress:
        embedded = embed_texts(loaded, wanted, batch=size, told=progress.update)
    _finish(output, loaded, embedded, as_json)


@command.command(
    epilog="""\b
Examples:
  ivsearch embed image a.jpg b.png -o out.npz
  ivsearch embed image ./photos -o out.npz
"""
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@shared_options
def image(
    paths: tuple[str, ...],
    output: str,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    batch: int | None,
    as_json: bool,
) -> None:
    """Image files and folders of them, a row each. What cannot be read is skipped, and the exit code is 3."""
    from ivsearch.embed import check_output, embed_image_files

    check_output(Path(output))
    loaded, size = _loaded(encoder, weights, device, dtype, preprocess, batch)
    with CountProgress("images", shown=sys.stderr.isatty()) as progress:
        embedded = embed_image_files(loaded, paths, batch=size, told=progress.update)
    _finish(output, loaded, embedded, as_json)


@command.command(
    epilog="""\b
Examples:
  ivsearch embed video v.mp4 w.mkv -o out.npz
  ivsearch embed video ./videos --fps 0.5 --pooled -o out.npz
"""
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--fps", type=float, help="Frames sampled from each second of video (default: 1).")
@click.option("--pooled", is_flag=True, help="One vector a video: the mean of its frames' vectors.")
@shared_options
def video(
    paths: tuple[str, ...],
    fps: float | None,
    pooled: bool,
    output: str,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    batch: int | None,
    as_json: bool,
) -> None:
    """Video files and folders of them, a row a sampled frame; one that nearly equals the one before is left out.

    What cannot be read is skipped, and the exit code is 3.
    """
    from ivsearch.embed import check_output, embed_video_files
    from ivsearch.media.grid import check_rate

    check_output(Path(output))
    rate = load_settings({"fps": fps}).fps
    check_rate(rate)
    loaded, size = _loaded(encoder, weights, device, dtype, preprocess, batch)
    with CountProgress("frames", shown=sys.stderr.isatty()) as progress:
        embedded = embed_video_files(loaded, paths, batch=size, fps=rate, pooled=pooled, told=progress.update)
    _finish(output, loaded, embedded, as_json)


def _loaded(
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    batch: int | None,
) -> tuple[Encoder, int]:
    """The encoder, and how many inputs to give it at once."""
    flags = {"encoder": encoder, "weights": weights, "device": device, "dtype": dtype, "preprocess": preprocess}
    settings = load_settings({**flags, "batch": batch})
    loaded = loaded_encoder(settings)
    return loaded, settings.batch or loaded.batch_size


def _lines(source: str) -> list[str]:
    """The lines of a file that hold something."""
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise click.UsageError(f"--from {source}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--from {source}: is not UTF-8 text; save it as UTF-8") from error


def _finish(output: str, encoder: Encoder, embedded: Embedded, as_json: bool) -> None:
    from ivsearch.embed import write_npz

    n, dim = embedded.vectors.shape
    for each in embedded.skipped:
        click.echo(skipped_text(each), err=True)
    if n:
        write_npz(Path(output), encoder, embedded)
    else:
        click.echo(f"ivsearch: nothing to embed was found: {short_path(Path(output))} is not written", err=True)
    if as_json:
        echo_json(
            {
                "output": output,
                "space": wire.space(encoder.space),
                "n": n,
                "dim": dim,
                "skipped": [wire.skipped(each) for each in embedded.skipped],
            }
        )
    else:
        click.echo(f"{n} vectors of {dim} dimensions in {short_path(Path(output))}" if n else "0 vectors")
    if embedded.skipped:
        sys.exit(SOME_SKIPPED)
    if not n:
        sys.exit(NOTHING_FOUND)
