"""What a question wants, by its words."""

from __future__ import annotations

import pytest

from ivsearch.ask.question import Sort, Step, read_question

SORTS = [
    ("How many cats are there?", Sort.COUNT),
    ("Wie viele Katzen sind da?", Sort.COUNT),
    ("有几只猫?", Sort.COUNT),
    ("猫は何匹いますか?", Sort.COUNT),
    ("Combien de chats y a-t-il ?", Sort.COUNT),
    ("Сколько кошек?", Sort.COUNT),
    ("كم قطة هناك؟", Sort.COUNT),
    ("¿Cuántos gatos hay?", Sort.COUNT),
    ("Who stands at the door?", Sort.WHO),
    ("Wer steht an der Tür?", Sort.WHO),
    ("谁站在门口?", Sort.WHO),
    ("Qui est à la porte ?", Sort.WHO),
    ("Why does the dog bark?", Sort.WHY),
    ("Pourquoi le chien aboie-t-il ?", Sort.WHY),
    ("What colour is the car?", Sort.COLOUR),
    ("Welche Farbe hat das Auto?", Sort.COLOUR),
    ("那辆车是什么颜色?", Sort.COLOUR),
    ("What word is on the sign?", Sort.WRITING),
    ("Is the dog black?", Sort.YES_NO),
    ("Ist der Hund schwarz?", Sort.YES_NO),
    ("狗是黑色的吗?", Sort.YES_NO),
    ("هل الكلب أسود؟", Sort.YES_NO),
    ("What is the dog doing?", Sort.DOING),
    ("Was macht der Hund?", Sort.DOING),
    ("Что делает собака?", Sort.DOING),
    ("Where is the dog?", Sort.PLACE),
    ("Wann fährt das Auto?", Sort.PLACE),
    ("Какая это птица?", Sort.OPEN),
    ("a dog in the snow", Sort.OPEN),
]


@pytest.mark.parametrize(("text", "sort"), SORTS)
def test_sort(text: str, sort: Sort) -> None:
    assert read_question(text).sort is sort


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What animal is it?", "animal"),
        ("Which sport is practised?", "sport"),
        ("Welches Tier ist das?", "animal"),
        ("Какое животное сидит на дереве?", "animal"),
        ("这是什么动物?", "animal"),
        ("Quel instrument joue-t-il ?", "instrument"),
        ("¿Qué fruta es?", "fruit"),
        ("ما هذا الحيوان؟", "animal"),
        ("Where is the dog?", None),
    ],
)
def test_kind_asked_for(text: str, kind: str | None) -> None:
    assert read_question(text).kind == kind


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("What happens after that?", Step.AFTER),
        ("And then?", Step.AFTER),
        ("What comes next?", Step.AFTER),
        ("Was kommt danach?", Step.AFTER),
        ("然后呢?", Step.AFTER),
        ("その後は?", Step.AFTER),
        ("ماذا يحدث بعد ذلك؟", Step.AFTER),
        ("What was before that?", Step.BEFORE),
        ("Qu'est-ce qu'il y a avant ?", Step.BEFORE),
        ("a dog next to a car", None),
        ("an afternoon in the park", None),
    ],
)
def test_step_in_time(text: str, step: Step | None) -> None:
    assert read_question(text).step is step


@pytest.mark.parametrize(
    "text", ["And then?", "What colour is it?", "Et après ?", "Was macht er?", "然后呢?", "那个呢?", "What's in there?"]
)
def test_follow_ups_lean(text: str) -> None:
    assert read_question(text).leans


@pytest.mark.parametrize(
    "text",
    ["Where is the dog?", "Y a-t-il un chien ?", "How many cats are there?", "Dov'è il cane?", "狗在哪里?"],
)
def test_whole_questions_do_not_lean(text: str) -> None:
    assert not read_question(text).leans


def test_words_of_indian_scripts_are_kept_whole() -> None:
    """Their vowel signs are no letters to a regular expression: a word fell to pieces, and was searched for so."""
    question = read_question("लाल गाड़ी कहाँ है?")
    assert question.language == "hi"
    words = set(question.content.split())
    assert {"लाल", "गाड़ी"} <= words <= {"लाल", "गाड़ी", "कहाँ", "है"}
