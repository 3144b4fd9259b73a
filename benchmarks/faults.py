"""What becomes of a library when things go wrong: the fault suite of tests/faults with larger counts, as a table.

    python benchmarks/faults.py [--times 10] [--json OUT] [-k EXPRESSION]

Each kind of fault is met ``--times`` as often as in a run of the tests; indexing is killed 200 times. Rows are compared
by SQL with a library that met no fault; ``verify before`` says how often verify named what was broken and nothing else,
or that nothing was broken. Any deviation fails the run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="how many times as often as in the tests")
    parser.add_argument("--json", type=Path, help="write the table here")
    parser.add_argument("-k", dest="only", default="", help="only these tests, as pytest's -k")
    arguments = parser.parse_args()
    settings = {"IVSEARCH_TEST_FAULTS": str(arguments.times)}
    if arguments.json:
        settings["IVSEARCH_FAULTS_JSON"] = str(arguments.json.absolute())
    command = [sys.executable, "-m", "pytest", "-s", "-q", "tests/faults", "-k", arguments.only]
    sys.exit(subprocess.run(command, cwd=HOME, env={**os.environ, **settings}, check=False).returncode)


if __name__ == "__main__":
    main()
