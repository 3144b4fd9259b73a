"""``ivsearch index``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from ivsearch import wire
from ivsearch.commands.options import (
    SOME_SKIPPED,
    echo_json,
    echo_jsonl,
    encoder_options,
    json_option,
    library_option,
    one_format,
    opened,
    warn,
)
from ivsearch.commands.progress import IndexProgress
from ivsearch.domain import Ingested, Outcome, Removed, Skipped, TextRead, TextRemoved
from ivsearch.render import IndexSummary, summary_text

if TYPE_CHECKING:
    from ivsearch.ingest import IngestEvent


@click.command(
    epilog="""\b
Examples:
  ivsearch index ./videos                     # folders are searched through
  ivsearch index holiday.mp4 ./photos --fps 2
  ivsearch index                              # look again at all that was ever given
  ivsearch index --ocr                        # also read the words on screen

\b
Run it as often as you like: unchanged files cost nothing, moved ones keep their
vectors, deleted ones are forgotten. Stop it when you like: it goes on from there.
"""
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@library_option
@encoder_options
@click.option("--fps", type=float, help="Frames sampled from each second of video (default: 1, or the library's).")
@click.option("--workers", type=click.IntRange(1), help="Decoding processes (default: one a core, at most 8).")
@click.option("--batch", type=click.IntRange(1), help="Frames encoded at once (default: what suits the encoder).")
@click.option("--stall-s", type=click.FloatRange(1), help="Give up a decoder that sends nothing for so long.")
@click.option("--max-pixels", type=click.IntRange(1), help="Skip pictures with more pixels.")
@click.option(
    "--subtitles/--no-subtitles", default=None, help="Read subtitles beside and inside videos (default: yes)."
)
@click.option("--ocr/--no-ocr", default=None, help="Read words on screen: Latin, Chinese, Japanese (extra: ocr).")
@click.option("--speech/--no-speech", default=None, help="Write down what is said (extra: speech).")
@click.option("--speech-weights", metavar="DIR", help="Folder of a whisper model for --speech.")
@click.option("--strict-hash", is_flag=True, default=None, help="Fingerprint whole files, not samples of them.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no summary; skipped files are still named.")
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object a file, as it happens.")
def command(
    paths: tuple[str, ...],
    library: str | None,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    fps: float | None,
    workers: int | None,
    batch: int | None,
    stall_s: float | None,
    max_pixels: int | None,
    subtitles: bool | None,
    ocr: bool | None,
    speech: bool | None,
    speech_weights: str | None,
    strict_hash: bool | None,
    quiet: bool,
    as_json: bool,
    jsonl: bool,
) -> None:
    """Bring the library up to date with files and folders.

    Videos are sampled, every frame is encoded once, clips are cut and indexed. A file that cannot be read is
    skipped, named with its reason, and the exit code is 3.
    """
    one_format(as_json, jsonl)
    started = time.monotonic()
    events: list[IngestEvent] = []
    with (
        opened(
            create=bool(paths),
            library=library,
            encoder=encoder,
            weights=weights,
            device=device,
            dtype=dtype,
            preprocess=preprocess,
            workers=workers,
            batch=batch,
            stall_s=stall_s,
            max_pixels=max_pixels,
            subtitles=subtitles,
            ocr=ocr,
            speech=speech,
            speech_weights=speech_weights,
            strict_hash=strict_hash,
        ) as lib,
        IndexProgress(shown=not quiet and sys.stderr.isatty()) as progress,
    ):
        for event in lib.index(
            paths, fps=fps, on_progress=progress.update, tell=lambda line: warn([] if quiet else [line])
        ):
            events.append(event)
            if jsonl:
                echo_jsonl([_event(event)])
        summary = IndexSummary.of(events, lib.folder, time.monotonic() - started)
        if as_json:
            echo_json(_document(summary, events, wire.space(lib.encoder.space)))
    if not as_json and not jsonl:
        text = summary_text(summary, quiet=quiet)
        if text:
            click.echo(text)
    if summary.skipped:
        sys.exit(SOME_SKIPPED)


def _event(event: IngestEvent) -> dict:
    if isinstance(event, Ingested):
        return wire.ingested(event)
    if isinstance(event, TextRead):
        return wire.text_read(event)
    if isinstance(event, TextRemoved):
        return wire.text_removed(event)
    return wire.skipped(event) if isinstance(event, Skipped) else wire.removed(event)


def _document(summary: IndexSummary, events: list[IngestEvent], space: dict) -> dict:
    removed = [event for event in events if isinstance(event, TextRemoved)]
    return {
        "library": str(summary.folder),
        "space": space,
        **{outcome.value: summary.counts[outcome] for outcome in Outcome},
        "files": [wire.ingested(event) for event in events if isinstance(event, Ingested)],
        "skipped": [wire.skipped(event) for event in events if isinstance(event, Skipped)],
        "removed": [wire.removed(event) for event in events if isinstance(event, Removed)],
        **({"texts": [wire.text_read(each) for each in summary.texts]} if summary.texts else {}),
        **({"texts_removed": [wire.text_removed(each) for each in removed]} if removed else {}),
        "video_s": round(summary.video_s, 1),
        "elapsed_s": round(summary.elapsed_s, 1),
    }
