"""The docs say what is so."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from ivsearch.commands.main import VERBS, cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\$ |  )?(ivsearch [a-z].*)$")


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            found += [(page.name, match[1]) for line in block.splitlines() if (match := COMMAND.match(line))]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_in_the_docs_parses(page: str, line: str) -> None:
    words = shlex.split(
        line.split(" | ")[0].split(" && ")[0].split(" < ")[0].split("  #")[0].split(" > ")[0].split(" >> ")[0]
    )
    context = click.Context(cli, info_name="ivsearch")
    command = cli.get_command(context, words[1])
    assert command is not None, f"{page}: there is no verb {words[1]}"
    command.make_context(words[1], words[2:], parent=context)


def test_the_docs_have_commands() -> None:
    assert len(commands()) > 15


def test_the_readme_has_a_line_for_every_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "ivsearch"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    text = (ROOT / "README.md").read_text("utf-8")
    names = {Path(name).name for name in tracked if name.endswith(".py") and "/__" not in name}
    tree = text.split("## The files")[1].split()
    assert sorted(names - set(tree)) == []


def test_every_verb_is_in_the_guide() -> None:
    guide = "".join(page.read_text("utf-8") for page in PAGES)
    assert [verb for verb in VERBS if f"ivsearch {verb}" not in guide] == []
