"""quotes: words of a question that are said or written in the footage → what a composed answer quotes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ivsearch.ask.cites import LONGEST_SENTENCE
from ivsearch.ask.finder import Finder
from ivsearch.ask.question import Question
from ivsearch.domain import Citation, Evidence, Filters, Hit
from ivsearch.plain_text import one_line

MOST_QUOTES = 2
# Words that hold so much of the question are worth quoting: what asks ("who says", "mentioned") is in no subtitle.
WORTH_QUOTING = 0.6
# From here on they are what was asked for, whatever the pictures show.
WHOLE = 0.95
# What asks for words, and is in none of them; in scripts without spaces a part of a run of letters.
_ASKS = """
say says said mention mentions mentioned speak speaks spoken talk talks talked write writes written read reads hear
heard about word words subtitle subtitles dit dite dire parle parlé mentionné mentionnée écrit écrite entend dice
dicen dicho habla mencionado mencionada menciona escrito escrita oye sagt gesagt spricht erwähnt geschrieben steht hört
wird über говорит сказано говорят упоминается написано слышно detto dicono parla menzionato scritto sente diz
dito fala ouve يقول قال قيل ذكر مكتوب कहा कहता कहते लिखा बताया
"""
_ASKS_INSIDE = re.compile("提到|提及|说到|说过|说了|写着|写了|谈到|言及|話して|言って|書かれて|出てき|말하|언급|쓰여")
_QUOTED = re.compile(r"[\"“„«「『](.+?)[\"“”»」』]")


@dataclass(frozen=True, slots=True)
class Quote:
    """``words`` of the footage, and where. ``coverage`` in [0, 1]: the share of the question that they hold."""

    evidence: Evidence
    words: str
    coverage: float

    @property
    def is_whole(self) -> bool:
        return self.coverage >= WHOLE

    @property
    def citation(self) -> Citation:
        """Verified: the words were read there."""
        evidence = self.evidence
        return Citation(
            evidence.label, evidence.hit.path, evidence.start_s, evidence.end_s, verified=True, support=self.coverage
        )


def quotes(question: Question, finder: Finder, filters: Filters, first_label: int) -> tuple[Quote, ...]:
    """The best of them, labelled from ``first_label``. What the question has in quotes is looked for as it is."""
    quoted = _QUOTED.search(question.text)
    text = f'"{quoted[1]}"' if quoted else _sought(question)
    if not text.strip():
        return ()
    found = finder.find_words(text, filters, WORTH_QUOTING)[:MOST_QUOTES]
    return tuple(_quote(hit, label) for label, hit in enumerate(found, first_label))


def _sought(question: Question) -> str:
    words = _ASKS_INSIDE.sub(" ", question.content).split()
    return " ".join(word for word in words if word not in _ASKS.split())


def _quote(hit: Hit, label: int) -> Quote:
    (said,) = hit.contributions
    words = one_line(said.text, LONGEST_SENTENCE)
    return Quote(Evidence(label, hit, hit.moment.start_s, hit.moment.end_s, (), (words,)), words, said.score)
