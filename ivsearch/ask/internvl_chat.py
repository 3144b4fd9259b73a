"""``internvideo2.5``, ``internvl2.5`` and ``internvl2``: the official chat models, which look at the footage itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, get_ident

from PIL import Image

from ivsearch.ask.budget import Shot, affordable, share
from ivsearch.ask.chat import Look, Reply
from ivsearch.ask.script import Part, earlier, script
from ivsearch.ask.sights import Sights
from ivsearch.ask.table import ChatRequest, chat_row
from ivsearch.domain import Evidence, Turn
from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.chat_config import ChatConfig, chat_config
from ivsearch.models.chat_template import IMAGE, Conversation, expand, number_frames, place, prompt_text, template_named
from ivsearch.models.chat_tokens import ChatTokens, open_chat_tokens
from ivsearch.models.decoding import Sampling
from ivsearch.models.features import Features
from ivsearch.models.hub import locate
from ivsearch.models.layout import read_object
from ivsearch.models.loaded_chat import LoadedChat, open_internvl_chat
from ivsearch.models.replier import Replier

# Beside its picture, a frame of Evidence takes about so many tokens for its time and its marks.
TOKENS_BESIDE = 10


@dataclass(frozen=True, slots=True)
class Habits:
    """What the model's card does where nothing is said.

    ``frame_line`` stands before each frame of a video, ``n_frames`` None: by its length. ``evidence_frames``: how many
    frames of Evidence are shown for one answer (not of the card: about 2,000 to 4,000 tokens).
    """

    max_tiles: int
    frame_line: str
    n_frames: int | None
    evidence_frames: int


HABITS = {
    "internvideo2.5": Habits(max_tiles=1, frame_line=f"Frame{{}}: {IMAGE}", n_frames=None, evidence_frames=64),
    "internvl2.5": Habits(max_tiles=12, frame_line=f"Frame-{{}}: {IMAGE}", n_frames=8, evidence_frames=16),
    "internvl2": Habits(max_tiles=6, frame_line=f"Frame{{}}: {IMAGE}", n_frames=8, evidence_frames=16),
}


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """``features`` in the order of the context tokens among ``ids``; ``frames`` of the video they are of."""

    ids: list[int]
    features: Features | None
    frames: tuple[Look, ...] = ()


class InternVLWatcher:
    """The ChatModel and Watcher; ``load`` makes one. Threads take turns."""

    watches = True
    languages: frozenset[str] | None = None
    missed: frozenset[int] = frozenset()

    def __init__(
        self, name: str, loaded: LoadedChat, tokens: ChatTokens, sights: Sights, evidence_frames: int | None = None
    ) -> None:
        """``evidence_frames``: how many frames of Evidence are shown for one answer; None: as its Habits say."""
        self.name, self.habits = name, HABITS[name]
        self.evidence_frames = evidence_frames or self.habits.evidence_frames
        self.config: ChatConfig = loaded.config
        self.template = template_named(self.config.template)
        self.tokens, self.sights = tokens, sights
        self.replier = Replier(
            loaded.model.language_model,
            context_id=tokens.context_id,
            stop_ids=frozenset({tokens.stop_id}),
            pad_id=tokens.end_pad_id,
        )
        self._lock = Lock()
        self._speaking: int | None = None

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
        """As Watcher says. Greedy ids are those of the official ``chat()`` in float32."""
        sampling = _sampling(max_new_tokens, temperature, top_p, seed)
        with self._turn():
            prompt = self.prompt(question, images, video, n_frames, history, max_tiles, max_new_tokens)
            ids = list(
                self.replier.stream(prompt.ids, prompt.features, max_new_tokens=max_new_tokens, sampling=sampling)
            )
        return Reply(self.tokens.decode(ids), tuple(ids), prompt.frames)

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
        """As Watcher says. The pieces joined are the text of ``generate``."""
        sampling = _sampling(max_new_tokens, temperature, top_p, seed)
        with self._turn():
            prompt = self.prompt(question, images, video, n_frames, history, max_tiles, max_new_tokens)
            yield from self._said(prompt, max_new_tokens, sampling)

    def generate_batch(
        self,
        questions: Sequence[str],
        images: Sequence[Sequence[Image.Image]] = (),
        *,
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Reply]:
        """A reply to each question about its own ``images`` (none at all: to texts alone), in one pass of the model.

        ``max_tiles``: one number for all, or one for the pictures of each question. As in the official
        ``batch_chat()``, ``token_ids`` are all as long as the longest, filled up with the model's padding.
        """
        sampling = _sampling(max_new_tokens, temperature, top_p, seed)
        with self._turn():
            prompts = self.batch_prompts(questions, images, max_tiles, max_new_tokens)
            rows = self.replier.batch(
                [prompt.ids for prompt in prompts],
                [prompt.features for prompt in prompts],
                max_new_tokens=max_new_tokens,
                sampling=sampling,
            )
        return [Reply(self.tokens.decode(row), tuple(row)) for row in rows]

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        """As ChatModel says: frames of all the Evidence are shown, each after its clip's label and its own time."""
        with self._turn():
            prompt = self.evidence_prompt(turns, evidence)
            if evidence and prompt.features is None:
                return
            yield from self._said(prompt, max_new_tokens, Sampling())

    def prompt(
        self,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_tiles: int | Sequence[int] | None = None,
        max_new_tokens: int = 1,
    ) -> Prompt:
        """What the network reads for a question, as ``generate`` takes it. What is too much is refused before anything
        is looked at."""
        if images and video is not None:
            raise UsageError("there are pictures and a video: ask about either, one at a time")
        if video is None:
            glance = self.sights.of_images(images, self.most_tiles(max_tiles, len(images)))
        else:
            n_frames = self.habits.n_frames if n_frames is None else n_frames
            self._check_length((n_frames or 0) * self.config.tokens_per_tile() + max_new_tokens)
            glance = self.sights.of_video(video, n_frames)
            question, history = number_frames(question, history, len(glance.n_tiles), self.habits.frame_line)
        ids = self._ids(place(question, history, glance.n_tiles))
        self._check_length(len(ids) + max_new_tokens)
        sight = glance.look()
        return Prompt(ids, sight.features, sight.frames)

    def batch_prompts(
        self,
        questions: Sequence[str],
        images: Sequence[Sequence[Image.Image]] = (),
        max_tiles: int | Sequence[int] | None = None,
        max_new_tokens: int = 1,
    ) -> list[Prompt]:
        """What the network reads for each question, as ``generate_batch`` takes them."""
        if images and len(images) != len(questions):
            raise UsageError(
                f"there are {len(questions)} questions and pictures for {len(images)}: "
                "give a list of pictures for each question, an empty one where there are none"
            )
        shown: Sequence[Sequence[Image.Image]] = images or [()] * len(questions)
        most = self.most_tiles(max_tiles, len(shown))
        glances = [self.sights.of_images(each, [n] * len(each)) for each, n in zip(shown, most, strict=True)]
        rows = [self._ids(place(asked, (), each.n_tiles)) for asked, each in zip(questions, glances, strict=True)]
        self._check_length(max(map(len, rows), default=0) + max_new_tokens)
        return [Prompt(ids, glance.look().features) for ids, glance in zip(rows, glances, strict=True)]

    def evidence_prompt(self, turns: Sequence[Turn], evidence: Sequence[Evidence]) -> Prompt:
        """What the network reads for an answer from Evidence."""
        shots = self.shots(evidence)
        seen = self.sights.of_shots(shots, {each.label: each.hit.media_id for each in evidence})
        shots = tuple(shot for shot in shots if shot.label in seen)
        self.missed = frozenset(each.label for each in evidence) - seen.keys()
        parts = script(turns, shots)
        n_pictures = sum(not isinstance(part, str) for part in parts)
        features = Features.join([seen[shot.label] for shot in shots]) if shots else None
        question = "".join(map(self._written, parts))
        history = tuple((self._written(asked), self._written(answered)) for asked, answered in earlier(turns))
        return Prompt(self._ids(Conversation(question, history, (1,) * n_pictures)), features)

    def shots(self, evidence: Sequence[Evidence]) -> tuple[Shot, ...]:
        """The frames of Evidence that are shown: as many as fit into half of what the language model reads."""
        group = self.sights.group
        n_frames = affordable(
            self.evidence_frames,
            n_tokens=self.config.language.max_position_embeddings // 2,
            tokens_per_frame=self.config.tokens_per_tile() + TOKENS_BESIDE,
            multiple=group,
        )
        return share(evidence, n_frames=max(n_frames, group), multiple=group)

    def _written(self, part: Part) -> str:
        """A text as nothing but text: what was found, and what files are called, was written by others."""
        return self.tokens.neutral(part) if isinstance(part, str) else IMAGE

    def _ids(self, conversation: Conversation) -> list[int]:
        text = prompt_text(self.template, conversation.question, conversation.history, self.config.system_message)
        return self.tokens.encode(expand(text, conversation.n_tiles, self.config.tokens_per_tile()))

    def _check_length(self, n_tokens: int) -> None:
        most = self.config.language.most_tokens
        if most is not None and n_tokens > most:
            raise UsageError(
                f"pictures, texts and reply take {n_tokens} tokens or more, and the model reads {most}: take "
                "fewer frames, pictures or tiles, or begin a new conversation"
            )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """There is one conversation in memory. A thread that would wait for itself is told so."""
        if self._speaking == get_ident():
            raise UsageError("a reply is still being streamed: read it to its end, or close() it, before you ask again")
        with self._lock:
            self._speaking = get_ident()
            try:
                yield
            finally:
                self._speaking = None

    def _said(self, prompt: Prompt, max_new_tokens: int, sampling: Sampling) -> Iterator[str]:
        ids = self.replier.stream(prompt.ids, prompt.features, max_new_tokens=max_new_tokens, sampling=sampling)
        for piece in self.tokens.stream(ids):
            yield piece
            # Another thread may read on than the one that began.
            self._speaking = get_ident()

    def most_tiles(self, max_tiles: int | Sequence[int] | None, n: int) -> Sequence[int]:
        """The most tiles of each of ``n`` pictures (in a batch: of each question's)."""
        whole = not self.config.dynamic_image_size or self.config.hico is not None
        if max_tiles is None:
            return [1 if whole else self.habits.max_tiles] * n
        most = list(max_tiles) if isinstance(max_tiles, Iterable) else [max_tiles] * n
        if len(most) != n:
            raise UsageError(f"max_tiles has {len(most)} numbers for {n}: give one for each, or one for all")
        if whole and any(each != 1 for each in most):
            raise UsageError(f"chat model {self.name!r} looks at whole pictures: leave max_tiles out, or 1")
        return most


def load(request: ChatRequest) -> InternVLWatcher:
    """One of the three, with weights from a folder or the hub.

    Raises UsageError for a device, dtype or attention there is not, WeightsError for files that are missing, damaged or
    of another model.
    """
    folder = locate(request.weights or chat_row(request.chat).hub_id or "")
    path = folder / "config.json"
    config = chat_config(read_object(path), str(path))
    _check_name(request.chat, config, folder)
    # Quickly read, so that what is wrong with them is said before gigabytes are.
    tokens = open_chat_tokens(folder, config)
    loaded = open_internvl_chat(folder, device=request.device, dtype=request.dtype, attention=request.attention)
    store = request.visual_tokens(loaded.digest) if request.visual_tokens else None
    return InternVLWatcher(request.chat, loaded, tokens, Sights(loaded, store), request.evidence_frames)


def _check_name(name: str, config: ChatConfig, folder: Path) -> None:
    if config.hico and name != "internvideo2.5":
        raise WeightsError(f"{folder} is of InternVideo2.5, which merges frames: load it as 'internvideo2.5'")
    if not config.hico and name == "internvideo2.5":
        raise WeightsError(
            f"{folder} is of InternVL2.5 or InternVL2, not of InternVideo2.5: load it as 'internvl2.5' or 'internvl2'"
        )


def _sampling(max_new_tokens: int, temperature: float, top_p: float, seed: int) -> Sampling:
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be 1 or more, not {max_new_tokens}")
    return Sampling(temperature=temperature, top_p=top_p, seed=seed)
