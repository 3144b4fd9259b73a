"""Questions in twelve languages are told apart. The sentences are everyday ones, not made from the tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ivsearch.ask.language import language_of

QUESTIONS = {
    "en": ["Where is the dog?", "What happens after the cat jumps?", "sunset over the sea", "How many people?"],
    "zh": ["狗在哪里?", "猫跳起来之后发生了什么?", "海上的日落"],
    "ja": ["犬はどこですか?", "猫が跳んだ後に何が起きますか?", "海に沈む夕日"],
    "fr": ["Où est le chien ?", "Que se passe-t-il après le saut du chat ?", "Combien de personnes y a-t-il ?"],
    "es": ["¿Dónde está el perro?", "Qué pasa después de que salta el gato", "una puesta de sol en el mar"],
    "de": ["Wo ist der Hund?", "Was passiert, nachdem die Katze springt?", "ein Sonnenuntergang über dem Meer"],
    "ru": ["Где собака?", "Что происходит после прыжка кошки?", "закат над морем"],
    "ar": ["أين الكلب؟", "ماذا يحدث بعد أن تقفز القطة؟", "غروب الشمس فوق البحر"],
    "it": ["Dov'è il cane?", "Che cosa succede dopo il salto del gatto?", "un tramonto sul mare"],
    "pt": ["Onde está o cão?", "O que acontece depois de o gato saltar?", "um pôr do sol no mar, não na praia"],
    "ko": ["개는 어디에 있나요?", "고양이가 뛴 다음에 무슨 일이 일어나나요?"],
    "hi": ["कुत्ता कहाँ है?", "बिल्ली के कूदने के बाद क्या होता है?"],
}


@pytest.mark.parametrize(("language", "text"), [(key, text) for key, texts in QUESTIONS.items() for text in texts])
def test_everyday_questions(language: str, text: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "42", "asdf qwerty", "IMG_2034.jpg"])
def test_what_is_in_no_language_counts_as_english(text: str) -> None:
    assert language_of(text) == "en"


def test_decomposed_letters_are_the_same_letters() -> None:
    assert language_of("Wo la\u0308uft gro\u00dfer Hund") == "de"


def test_captions_by_people(shared_media: Path) -> None:
    """Captions are harder than questions: few function words. Latin scripts may fail now and then, others never."""
    lines = (json.loads(line) for line in (shared_media / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    right: dict[str, list[bool]] = {}
    for row in lines:
        right.setdefault(row["lang"], []).append(language_of(row["text"]) == row["lang"])
    share = {language: sum(found) / len(found) for language, found in right.items()}
    assert all(share[language] > 0.99 for language in ("ru", "ar")), share
    assert all(share[language] > 0.93 for language in ("zh", "ja")), share
    assert all(share[language] > 0.75 for language in ("en", "fr", "es", "de")), share
