"""A clock that jumps by days, forth and back, and files from the future: nothing hangs, nothing is done twice."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

from .conftest import QUERIES, Counting, Whole, opened, outcomes, shown
from .fault_run import Table, trials
from .held import held_by
from .zygote import INDEX, Zygote

# time.time jumps at every call, in this process and (by a sitecustomize found on PYTHONPATH) in all that it starts.
JUMPING = """
import random, time
_random, _time = random.Random({seed}), time.time
time.time = lambda: _time() + _random.uniform(-20, 20) * 86400
"""
UNDER_IT = """
import os
os.environ["PYTHONPATH"] = more
exec((Path(more) / "sitecustomize.py").read_text())
"""
DAY_S = 86400
LIMIT_S = 60


def test_a_jumping_clock(whole: Whole, counting: Counting, zygote: Zygote, table: Table, tmp_path: Path) -> None:
    run = table.run("clock jumps by days, files from the future")
    for number, rng in enumerate(trials(run, 1)):
        site = tmp_path / f"site-{number}"
        site.mkdir()
        (site / "sitecustomize.py").write_text(JUMPING.format(seed=rng.randrange(1000)))
        folder, media = tmp_path / f"{number}", tmp_path / f"media-{number}"
        shutil.copytree(whole.media, media)
        began = time.monotonic()
        zygote.run(folder, UNDER_IT + INDEX, media, more=str(site))
        for path in _some(rng, media):
            when_s = time.time() + rng.uniform(-400, 400) * DAY_S
            os.utime(path, (when_s, when_s))
        said = zygote.run(
            folder, UNDER_IT + "for e in library.index(paths): say(e.outcome.value)", media, more=str(site)
        )
        # Another time is looked at again, by its content; another content it is not.
        assert said == ["unchanged"] * 6
        assert time.monotonic() - began < LIMIT_S * 4
        with opened(counting, folder) as library:
            assert set(outcomes(library, media).values()) == {"unchanged"}
            assert list(library.verify()) == []
            run.silent, run.clean = run.silent + 1, run.clean + 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
            run.answered += 1
        now = held_by(folder)
        kept = {row for row in whole.held.rows if row[0] != "path"}
        run.lost_rows += len(kept - set(now.rows)) + abs(len(now.rows) - len(whole.held.rows))
    assert run.lost_rows == 0


def _some(rng: random.Random, media: Path) -> list[Path]:
    return rng.sample(sorted(media.iterdir()), 3)
