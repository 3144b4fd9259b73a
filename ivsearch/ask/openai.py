"""A chat model on a server with OpenAI's API: pictures go out as JPEG, each after its time, words come back."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ivsearch.ask.budget import Shot, share
from ivsearch.ask.chat import Look, Reply
from ivsearch.ask.endpoint import EXAMPLES, Endpoint, Patience, Prompt, key_at_hand, read_url
from ivsearch.ask.message_parts import FRAME_SIDE, PHOTO_SIDE, picture_part, pictures_in, text_part
from ivsearch.ask.prompts import messages
from ivsearch.ask.script import earlier, script
from ivsearch.ask.table import ChatRequest, server_of
from ivsearch.domain import Evidence, Frame, Turn
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.excerpt import excerpt
from ivsearch.media.official_frames import official_frames
from ivsearch.pictures import Transparency
from ivsearch.plain_text import printable
from ivsearch.settings import load_settings

log = logging.getLogger(__name__)

MOST_FRAMES = 512
# Times are rounded; half a millisecond keeps each on its own frame.
HAIR_S = 0.0005


class OpenAIChat:
    """The ChatModel and Watcher; ``load`` makes one.

    ``watches`` False: the model takes no pictures.
    """

    languages: frozenset[str] | None = None
    missed: frozenset[int] = frozenset()

    def __init__(self, model: str, endpoint: Endpoint, *, watches: bool = True, n_frames: int = 32) -> None:
        self.name = f"openai:{model}"
        self.watches = watches
        self.endpoint = endpoint
        self._model = model
        self._n_frames = n_frames

    def generate(
        self,
        *,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Reply:
        """As ``Watcher.generate``. The server keeps its token ids to itself: there are none in the Reply.

        Raises UsageError, MediaError, and what ``Endpoint.stream`` raises; ``AnswerCut`` holds what had come.
        """
        prompt, frames = self._prompt(
            question, images, video, n_frames, history, max_new_tokens, max_tiles, temperature, top_p, seed
        )
        return Reply("".join(self._say(prompt)).strip(), (), frames)

    def stream(
        self,
        *,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """As ``generate``, in pieces as they come."""
        prompt, _ = self._prompt(
            question, images, video, n_frames, history, max_new_tokens, max_tiles, temperature, top_p, seed
        )
        return self._say(prompt)

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        """One that watches is shown frames of every clip, one that does not the names of what the encoder sees."""
        if not self.watches:
            return self._say(Prompt(self._model, messages(turns, evidence), 0, max_new_tokens))
        frames = self._frames(share(evidence, n_frames=self._n_frames))
        self.missed = frozenset(each.label for each in evidence) - frames.keys()
        if evidence and not frames:
            return iter(())
        parts = [
            text_part(part)
            if isinstance(part, str)
            else picture_part(_at(frames[part.label][1], part.time_s), FRAME_SIDE)
            for part in script(turns, [shot for shot, _ in frames.values()])
        ]
        said = [message for turn in earlier(turns) for message in _exchange(*turn)]
        asked = [*said, {"role": "user", "content": parts}]
        return self._say(Prompt(self._model, asked, pictures_in(parts), max_new_tokens))

    def _prompt(
        self,
        question: str,
        images: Sequence[Image.Image],
        video: Path | None,
        n_frames: int | None,
        history: Sequence[tuple[str, str]],
        max_new_tokens: int,
        max_tiles: int | Sequence[int] | None,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> tuple[Prompt, tuple[Look, ...]]:
        """What is shown stands before the first question of the conversation."""
        if max_tiles is not None:
            raise UsageError(f"{self.name}: the server cuts pictures as it sees fit: leave --max-tiles out")
        of_video, frames = self._video(video, n_frames)
        shown = [*self._photos(images), *of_video]
        asked = [message for turn in history for message in _exchange(*turn)] + [_message("user", question)]
        if shown:
            asked[0] = {"role": "user", "content": [*shown, text_part(asked[0]["content"])]}
        prompt = Prompt(self._model, asked, pictures_in(shown), max_new_tokens, temperature, top_p, seed)
        return prompt, frames

    def _say(self, prompt: Prompt) -> Iterator[str]:
        for delta in self.endpoint.stream(prompt):
            if delta.text:
                yield delta.text
            if delta.finish == "length":
                log.warning("%s stopped at the limit of %d tokens or of its context", self.name, prompt.max_new_tokens)
            elif delta.finish == "content_filter":
                log.warning("%s: a filter of the server cut the answer short", self.name)

    def _photos(self, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
        """One photo as it is; several are numbered."""
        self._check_pictures(len(images))
        parts = []
        for number, image in enumerate(images, 1):
            if len(images) > 1:
                parts.append(text_part(f"Image {number}:"))
            parts.append(picture_part(image, PHOTO_SIDE))
        return parts

    def _video(self, video: Path | None, n_frames: int | None) -> tuple[list[dict[str, Any]], tuple[Look, ...]]:
        """The frames the official rule chooses, each after its real time. One that is chosen twice is sent once."""
        if video is None:
            return [], ()
        self._check_pictures(1)
        n_frames = self._n_frames if n_frames is None else n_frames
        if not 1 <= n_frames <= MOST_FRAMES:
            raise UsageError(f"{n_frames} frames cannot be shown: from 1 to {MOST_FRAMES} (--frames)")
        frames = official_frames(video, n_frames)
        parts = [text_part(f"A video of {frames.duration_s:.1f} s, in frames after their times:")]
        looks: list[Look] = []
        for index, frame in zip(frames.indices, frames, strict=True):
            if not looks or looks[-1].index != index:
                looks.append(Look(index, frame.pts_s))
                parts += [text_part(f"{frame.pts_s:.1f} s:"), picture_part(Image.fromarray(frame.pixels), FRAME_SIDE)]
        return parts, tuple(looks)

    def _check_pictures(self, n: int) -> None:
        if n and not self.watches:
            raise UsageError(
                f"{self.name} was said to take no pictures (--no-pictures): ask it without, or leave that out"
            )

    def _frames(self, shots: Sequence[Shot]) -> dict[int, tuple[Shot, list[Frame]]]:
        """label → its Shot and what it shows. A file that cannot be read any more drops out."""
        found: dict[int, tuple[Shot, list[Frame]]] = {}
        for shot in shots:
            try:
                found[shot.label] = shot, excerpt(shot.path, shot.times_s, transparency=Transparency.ON_WHITE)
            except MediaError as error:
                log.warning("%s is not shown to the chat model: %s", printable(str(shot.path)), error)
        return found


def load(request: ChatRequest) -> OpenAIChat:
    """Asks nothing of the server yet. Raises UsageError without a model or an address, or with what a server has no use
    for."""
    server = request.server or server_of(load_settings())
    if not request.variant:
        raise UsageError("name the model as the server does: --chat openai:MODEL")
    if request.weights is not None:
        raise UsageError("the server has its weights already: leave --weights out with --chat openai:MODEL")
    if not server.url:
        raise UsageError(
            f"chat model 'openai:{request.variant}' needs the address of its server: --endpoint URL or "
            f"IVSEARCH_CHAT_ENDPOINT, such as {EXAMPLES}"
        )
    endpoint = Endpoint(read_url(server.url), key_at_hand(), Patience(silence_s=server.silence_s))
    return OpenAIChat(request.variant, endpoint, watches=server.pictures, n_frames=server.n_frames)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _exchange(question: str, answer: str) -> list[dict[str, Any]]:
    return [_message("user", question), _message("assistant", answer)]


def _at(frames: Sequence[Frame], time_s: float) -> Image.Image:
    """The one shown then."""
    times_s = [frame.pts_s for frame in frames]
    return Image.fromarray(frames[max(0, bisect_right(times_s, time_s + HAIR_S) - 1)].pixels)
