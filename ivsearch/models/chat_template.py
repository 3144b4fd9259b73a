"""The prompt of an InternVL chat model: templates, a conversation, and where its pictures go.

Texts and rules are those of the official ``conversation.py`` and ``chat()`` (InternVL2, InternVL2.5, InternVideo2.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ivsearch.errors import UsageError, WeightsError

IMAGE = "<image>"
START, CONTEXT, END = "<img>", "<IMG_CONTEXT>", "</img>"

INTERNLM2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
INTERNVL2_5_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)


@dataclass(frozen=True, slots=True)
class Template:
    """How one conversation is written. ``separator`` follows each finished message."""

    system: str
    system_header: str
    user_header: str
    assistant_header: str
    separator: str

    @property
    def stop(self) -> str:
        """The text a reply ends at."""
        return self.separator.strip()


IM = ("<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n")
PHI3 = ("<|system|>\n", "<|user|>\n", "<|assistant|>\n")
TEMPLATES = {
    "internvl2_5": Template(INTERNVL2_5_SYSTEM, *IM, "<|im_end|>\n"),
    "internlm2-chat": Template(INTERNLM2_SYSTEM, *IM, "<|im_end|>"),
    "Hermes-2": Template(INTERNLM2_SYSTEM, *IM, "<|im_end|>"),
    "phi3-chat": Template(INTERNLM2_SYSTEM, *PHI3, "<|end|>"),
}


def template_named(name: str) -> Template:
    """Raises WeightsError for a template whose texts are not known."""
    if name not in TEMPLATES:
        raise WeightsError(
            f"the prompt template {name!r} is not known to this ivsearch; known: {', '.join(TEMPLATES)}: "
            "take InternVL2, InternVL2.5 or InternVideo2.5"
        )
    return TEMPLATES[name]


def prompt_text(
    template: Template, question: str, history: Sequence[tuple[str, str]] = (), system: str | None = None
) -> str:
    """The whole conversation up to the header of the answer. ``system`` None: the template's own."""
    text = template.system_header + (template.system if system is None else system) + template.separator
    for asked, answered in history:
        text += _message(template.user_header, asked, template) + _message(
            template.assistant_header, answered, template
        )
    return text + _message(template.user_header, question, template) + template.assistant_header


def _message(header: str, text: str, template: Template) -> str:
    """A message of no words is only its header, as the official code has it."""
    return header + text + template.separator if text else header


def expand(text: str, n_tiles: Sequence[int], tokens_per_tile: int) -> str:
    """Each ``<image>``, from the left, becomes a block of as many context tokens as its tiles take."""
    first, *rest = text.split(IMAGE)
    blocks = [START + CONTEXT * (tokens_per_tile * n) + END for n in n_tiles]
    blocks += [IMAGE] * (len(rest) - len(blocks))
    return first + "".join(block + part for block, part in zip(blocks, rest, strict=True))


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation whose texts hold one ``<image>`` for each number of ``n_tiles``."""

    question: str
    history: tuple[tuple[str, str], ...]
    n_tiles: tuple[int, ...]


def place(question: str, history: Sequence[tuple[str, str]], n_tiles: Sequence[int]) -> Conversation:
    """Find the ``<image>`` of every picture; ``n_tiles`` says how many tiles each picture has.

    As many placeholders as pictures: one each. One placeholder and several pictures: all tiles in one block, as the
    official code does without a ``num_patches_list``. None at all: one is written before the first question.
    Raises UsageError for any other number, for a question of no words, and for ``<IMG_CONTEXT>`` in a question.
    """
    _check(question, history)
    # An answer's "<image>" is a word the model said, and no place for a picture.
    history = tuple((asked, broken(broken(answered, IMAGE), CONTEXT)) for asked, answered in history)
    written = _placeholders(question, history)
    if n_tiles and not written:
        question, history = _before_first(f"{IMAGE}\n", question, history)
        written = 1
    if written == len(n_tiles):
        return Conversation(question, history, tuple(n_tiles))
    if written == 1 and n_tiles:
        return Conversation(question, history, (sum(n_tiles),))
    raise UsageError(
        f"the questions hold {written} {IMAGE} and there are {len(n_tiles)} pictures: "
        f"write one {IMAGE} for each picture, one for all of them, or none"
    )


def number_frames(
    question: str, history: Sequence[tuple[str, str]], n_frames: int, line: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A line for every frame of a video, before the first question, unless a question says itself where they go.

    ``line``: ``Frame{}: <image>`` with the place of the number.
    """
    if _placeholders(question, history):
        return question, tuple(history)
    lines = "".join(line.format(number) + "\n" for number in range(1, n_frames + 1))
    return _before_first(lines, question, history)


def broken(text: str, name: str) -> str:
    """``text`` with every ``name`` pulled apart by a space, so that it is read as a text like any other."""
    return text.replace(name, f"{name[0]} {name[1:]}")


def _check(question: str, history: Sequence[tuple[str, str]]) -> None:
    if not question.strip():
        raise UsageError("the question is empty: ask something")
    for asked in (question, *(asked for asked, _ in history)):
        if CONTEXT in asked:
            raise UsageError(f"a question holds {CONTEXT}, which stands for a part of a picture: leave it out")


def _placeholders(question: str, history: Sequence[tuple[str, str]]) -> int:
    return question.count(IMAGE) + sum(asked.count(IMAGE) for asked, _ in history)


def _before_first(
    text: str, question: str, history: Sequence[tuple[str, str]]
) -> tuple[str, tuple[tuple[str, str], ...]]:
    if not history:
        return text + question, ()
    (asked, answered), *rest = history
    return question, ((text + asked, answered), *rest)
