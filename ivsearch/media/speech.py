"""What is said in a video → lines of text, by faster-whisper from a folder of weights. Nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path

import av

from ivsearch.domain import TextLine
from ivsearch.errors import MediaError, UsageError, WeightsError
from ivsearch.media.container import READ_FAULTS, choose_stream, open_container
from ivsearch.media.faults import explain
from ivsearch.media.subtitles import plain

NEEDED = ("model.bin", "config.json")
"""What a folder of weights converted for CTranslate2 holds at least."""
# Stretches that the model itself takes for silence more likely than for speech (whisper's own default).
NO_SPEECH = 0.6


def check_speech(weights: str) -> Path:
    """The folder of weights. Raises UsageError or WeightsError that say what to do, before any work is done."""
    if not weights:
        raise UsageError(
            "--speech needs weights: --speech-weights DIR, a folder with a whisper model for faster-whisper. "
            "Without one, put transcripts beside the videos: film.transcript.srt, or film.json as whisper writes it"
        )
    folder = Path(weights).expanduser()
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{folder} is no whisper model for faster-whisper: it has no {' and no '.join(missing)}. Convert one with "
            "ct2-transformers-converter, or copy one that is converted"
        )
    if importlib.util.find_spec("faster_whisper") is None:
        raise UsageError("--speech needs the package faster-whisper: pip install 'ivsearch[speech]'")
    return folder


class Transcriber:
    """Hears videos with one model, loaded at once. Raises as ``check_speech`` does."""

    def __init__(self, weights: str, *, device: str = "cpu") -> None:
        folder = check_speech(weights)
        from faster_whisper import WhisperModel

        self.reading = f"faster-whisper {version('faster-whisper')} {folder.name}"
        try:
            self._model = WhisperModel(
                str(folder), device=device.split(":")[0], compute_type="default", local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise WeightsError(f"the whisper model in {folder} cannot be loaded: {error}") from error

    def hear(self, path: Path) -> tuple[str, list[TextLine]]:
        """Language and lines; none where a video has no sound. Raises MediaError in plain words."""
        offset_s = _sound_offset_s(path)
        if offset_s is None:
            return "", []
        try:
            segments, info = self._model.transcribe(str(path), vad_filter=False)
            lines = [
                TextLine(max(0.0, each.start + offset_s), each.end + offset_s, plain(each.text))
                for each in segments
                if each.no_speech_prob < NO_SPEECH and each.end + offset_s > 0 and each.text.strip()
            ]
        except (*READ_FAULTS, RuntimeError, ValueError) as error:
            raise MediaError(f"its sound cannot be heard: {explain(path, error)}") from error
        return info.language, lines


def _sound_offset_s(path: Path) -> float | None:
    """How much later than the first presented frame the sound begins, in seconds; None when there is no sound."""
    with open_container(path) as container:
        if not container.streams.audio:
            return None
        sound_s = _begin_s(container.streams.audio[0])
        try:
            return sound_s - _begin_s(choose_stream(container))
        except MediaError:
            return 0.0  # no pictures but a cover


def _begin_s(stream: av.stream.Stream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)
