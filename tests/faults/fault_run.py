"""What came of one kind of fault, met many times: a row of the table that `make bench` prints."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

SCALE = int(os.environ.get("IVSEARCH_TEST_FAULTS", "1"))
"""How many times as often each fault is met as in a run of the tests."""

HEADS = ("fault", "times", "lost rows", "verify before", "verify after", "repaired", "search meanwhile")


@dataclass
class FaultRun:
    """``found``: how often verify named what was broken and nothing else; ``silent``: how often nothing on disk was
    broken and verify said nothing. ``repaired``: how often repair had something to do. ``clean``: how often verify was
    silent at the end. ``answered``: how often a search gave hits while the damage was there; ``told``: how often it
    said what to run instead. ``lost_rows``: of all times together, at the end, compared with a library that met no
    fault."""

    fault: str
    times: int = 0
    lost_rows: int = 0
    found: int = 0
    silent: int = 0
    clean: int = 0
    repaired: int = 0
    answered: int = 0
    told: int = 0

    def cells(self) -> dict[str, str]:
        before = [f"{n} {word}" for n, word in ((self.found, "exact"), (self.silent, "nothing broken")) if n]
        search = [f"{n} {word}" for n, word in ((self.answered, "answered"), (self.told, "told what to run")) if n]
        row = (self.fault, self.times, self.lost_rows, ", ".join(before), f"{self.clean} clean", self.repaired)
        return dict(zip(HEADS, map(str, (*row, ", ".join(search))), strict=True))

    def as_json(self) -> dict[str, str | int]:
        return asdict(self)


class Table:
    """The FaultRuns of a session."""

    def __init__(self) -> None:
        self.runs: list[FaultRun] = []

    def run(self, fault: str) -> FaultRun:
        self.runs.append(FaultRun(fault))
        return self.runs[-1]

    def text(self) -> str:
        rows = [dict(zip(HEADS, HEADS, strict=True)), *(run.cells() for run in self.runs)]
        widths = {head: max(len(row[head]) for row in rows) for head in HEADS}
        return "\n".join(" | ".join(row[head].ljust(widths[head]) for head in HEADS).rstrip() for row in rows)


def trials(fault: FaultRun, times: int) -> Iterator[random.Random]:
    """A seeded source of chance for each time, which is counted when it begins."""
    for n in range(times * SCALE):
        fault.times += 1
        yield random.Random(f"{fault.fault} {n}")
