"""What others wrote steers nothing: neither a terminal nor the direction of what follows."""

from __future__ import annotations

import unicodedata

import pytest

from ivsearch.plain_text import one_line, printable, steady

# The controls of Unicode Standard Annex 9, table 2 of its section 2: embeddings, overrides, isolates and their ends.
TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# C0, DEL and C1, which holds the one-byte form of ESC [; the separators of lines and paragraphs; half a character.
BREAKS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) + "\u2028\u2029\ud83d"
WRITTEN = "Ça, 猫 می‌خواهم क्‍ष 👩‍🚀 ‏عربي‎ a\u0301"


@pytest.mark.parametrize("steering", [*TURNS, *BREAKS])
def test_nothing_that_steers_goes_through(steering: str) -> None:
    text = f"a{steering}b"
    assert steering not in one_line(text) or steering == " "
    assert (steering in steady(text)) == (steering in "\n\t")
    assert (steering in printable(text)) == ("\ud800" <= steering <= "\udfff")


def test_writing_of_all_kinds_stays_as_it_is() -> None:
    assert one_line(WRITTEN) == steady(WRITTEN) == WRITTEN


def test_a_line_ends() -> None:
    assert one_line("a \n\r\n b\tc\x1b[2J\u202egnp") == "a b c [2Jgnp"
    assert one_line("x" * 1000) == "x" * 300 + "…"
    assert one_line("word " * 9, 10) == "word word …"


def test_a_name_shows_what_cannot_be_seen() -> None:
    assert printable("a\u200b\u202egpj.exe") == "a\\u200b\\u202egpj.exe"
    assert not any(unicodedata.category(c) == "Cf" for c in printable("\ufeff\u00ad\U000e0041"))
    # A byte of a name that is no text.
    assert printable("caf\udce9") == "caf\udce9"
