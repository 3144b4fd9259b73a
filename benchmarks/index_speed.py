"""How fast a library is made: realtime factor end to end, and where the time goes.

    python benchmarks/index_speed.py [--media DIR] [--json OUT]

``bare`` is the baseline of the same run: a plain sequential PyAV loop, one thread, that decodes everything and turns
the same samples (1 frame/s) into RGB; no rotation, no colour care, no error handling. ``decode`` is what our workers
spend on the same files, in processor seconds (machines are shared and wall times noisy). The goal is 1.3 × bare.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import av

import ivsearch
from ivsearch.domain import Ingested, MediaKind
from ivsearch.pipeline import Progress
from ivsearch.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo.sample_media import make


def bare_decode_s(paths: list[Path], fps: float) -> float:
    """Processor seconds of the plain loop over ``paths``."""
    started = time.process_time()
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            wanted_s, first_s, held = 0.0, None, None
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                first_s = frame.time if first_s is None else first_s
                while held is not None and frame.time - first_s > wanted_s:
                    held.to_ndarray(format="rgb24")
                    wanted_s += 1 / fps
                held = frame
            if held is not None:
                held.to_ndarray(format="rgb24")
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, help="a folder of videos (default: the demo's sample media)")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        media = arguments.media or Path(temporary) / "media"
        if arguments.media is None:
            make(media)
        progress = Progress()
        library = ivsearch.open_library(Path(temporary) / "library", settings=Settings())
        _ = library.encoder  # loading the model is not indexing

        def note(now: Progress) -> None:
            nonlocal progress
            progress = now

        started, cpu_s = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        events = list(library.index([media], fps=arguments.fps, on_progress=note))
        wall_s = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_SELF)
        library.close()
        videos = [e.path for e in events if isinstance(e, Ingested) and e.media.kind is MediaKind.VIDEO]
        bare_s = bare_decode_s(videos, arguments.fps)

    document = {
        "files": len(events),
        "video_s": round(progress.media_s, 1),
        "samples": progress.samples,
        "frames_encoded": progress.frames,
        "wall_s": round(wall_s, 2),
        "realtime_factor": round(progress.media_s / wall_s, 2),
        "frames_per_s": round(progress.frames / wall_s, 2),
        "decode_cpu_s": round(progress.decode_s, 2),
        "gate_and_thumbnails_cpu_s": round(progress.gate_s, 2),
        "encode_wall_s": round(progress.encode_s, 2),
        "store_wall_s": round(progress.store_s, 2),
        "main_process_cpu_s": round(usage.ru_utime + usage.ru_stime - cpu_s.ru_utime - cpu_s.ru_stime, 2),
        "bare_decode_cpu_s": round(bare_s, 2),
        "decode_to_bare": round(progress.decode_s / bare_s, 2),
    }
    for name, value in document.items():
        print(f"{name:<28}{value:>10}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
