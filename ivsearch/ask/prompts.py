"""The one fixed form in which a text model is asked. What it may say is bounded by ``grammar`` besides."""

from __future__ import annotations

from collections.abc import Sequence

from ivsearch.ask.script import plain
from ivsearch.domain import Aim, Evidence, MediaKind, Turn

SYSTEM = "You answer in one short sentence, using only the words of the notes."

# One worked example teaches the form better than any instruction does, at this size.
EXAMPLE_NOTES = "[1] video: bicycle, street\n[2] image: bread, table"
EXAMPLE_QUESTION = "What is on the table?"
EXAMPLE_ANSWER = "There is bread on the table [2]."


def notes(evidence: Sequence[Evidence]) -> str:
    """A line for each: label, kind, and what the encoder sees. Names and times are not the model's to repeat."""
    return "\n".join(
        f"[{each.label}] {'video' if each.hit.kind is MediaKind.VIDEO else 'image'}: "
        f"{', '.join(concept.name for concept in each.sees) or 'unknown'}"
        for each in evidence
    )


def messages(turns: Sequence[Turn], evidence: Sequence[Evidence]) -> list[dict[str, str]]:
    """Chat messages, oldest first. The conversation before is left out: a small model would talk about that."""
    if turns[-1].aim is not Aim.ANSWER:
        # It says itself how to reply, and has nothing to do with notes.
        return [{"role": "user", "content": plain(turns[-1].question)}]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": _asked(EXAMPLE_NOTES, EXAMPLE_QUESTION)},
        {"role": "assistant", "content": EXAMPLE_ANSWER},
        {"role": "user", "content": _asked(notes(evidence), plain(turns[-1].question))},
    ]


def grammar(evidence: Sequence[Evidence]) -> str:
    """GBNF: one sentence that ends with one of the labels. It cannot cite what is not there, nor ramble on."""
    labels = " | ".join(f'"{each.label}"' for each in evidence)
    return f'root ::= [A-Z] [a-zA-Z ,\'-]{{2,120}} " [" ({labels}) "]."'


def _asked(notes: str, question: str) -> str:
    return f"Notes:\n{notes}\n\nQuestion: {question}"
