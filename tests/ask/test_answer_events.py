"""The flow with a chat model that watches: what it is asked, and what of its reply is shown. Its replies are literal;
library, encoder and checks are real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from ivsearch import wire
from ivsearch.ask.answer import Manner, Unsupported, Verify, answer_events, answer_question
from ivsearch.ask.phrases import PHRASES
from ivsearch.ask.question import read_question
from ivsearch.ask.rewrite import rewritten
from ivsearch.ask.verdict import NO, YES, says_yes
from ivsearch.domain import Aim, Answer, Evidence, Filters, Piece, Turn, Verdict
from ivsearch.errors import AnswerCut, UsageError
from ivsearch.library import Library

ASKED = "Where is the cat?"
PET = Filters(paths=("pet.jpg",))
TRUE, FALSE = "A cat looks into the camera [1].", "A certificate of vaccination is signed by hand [1]."


class Watches:
    """Says ``text`` to questions, ``verdict`` when asked again, ``alone`` when asked to rewrite."""

    name = "watches"
    watches = True
    missed: frozenset[int] = frozenset()
    languages: frozenset[str] | None = None

    def __init__(self, text: str, *, verdict: str = "Yes.", alone: str = "") -> None:
        self.said = {Aim.ANSWER: text, Aim.VERDICT: verdict, Aim.REWRITE: alone}
        self.heard: list[tuple[Turn, Sequence[Evidence]]] = []

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        self.heard.append((turns[-1], evidence))
        # In pieces that break words and citations apart.
        text = self.said[turns[-1].aim]
        yield from (text[i : i + 3] for i in range(0, len(text), 3))

    def aims(self) -> list[Aim]:
        return [turn.aim for turn, _ in self.heard]


def events(library: Library, chat: Watches, manner: Manner) -> tuple[list[str], Answer]:
    *pieces, answer = answer_events(ASKED, library.searcher(), chat=chat, manner=manner)
    assert isinstance(answer, Answer)
    return [piece.text for piece in pieces if isinstance(piece, Piece)], answer


@pytest.mark.parametrize("unsupported", list(Unsupported))
@pytest.mark.parametrize("text", [TRUE, FALSE, f"{TRUE} {FALSE} {TRUE}", "", "Yes.", f"Sure! {TRUE}", "NOT SHOWN"])
def test_what_is_shown_as_it_comes_is_the_answer(sample_library: Library, text: str, unsupported: Unsupported) -> None:
    pieces, answer = events(sample_library, Watches(text), Manner(filters=PET, unsupported=unsupported))
    assert "".join(pieces) == answer.text
    assert answer.text


def test_a_sentence_is_shown_before_the_next_is_said(sample_library: Library) -> None:
    chat = Watches(f"{TRUE} {TRUE}")
    said: list[str] = []

    def reply(turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        for word in (TRUE, " A", " second", " cat", " looks", " [1]."):
            said.append(word)
            yield word

    chat.reply = reply  # type: ignore[method-assign]
    stream = answer_events(ASKED, sample_library.searcher(), chat=chat, manner=Manner(filters=PET))
    assert next(stream) == Piece(TRUE)
    assert said == [TRUE, " A"]


def test_what_fails_is_withheld_and_told(sample_library: Library) -> None:
    _, answer = events(sample_library, Watches(f"{TRUE} {FALSE} I like it."), Manner(filters=PET))
    assert answer.text == TRUE
    assert [each.verdict for each in answer.sentences] == [Verdict.SUPPORTED, Verdict.UNSUPPORTED, Verdict.UNCITED]
    assert [each.reason for each in answer.sentences] == [
        "",
        "the cited clip does not support it",
        "it cites nothing",
    ]
    assert answer.grounded


def test_what_fails_is_marked_when_wanted(sample_library: Library) -> None:
    manner = Manner(filters=PET, unsupported=Unsupported.MARK)
    _, answer = events(sample_library, Watches(f"{TRUE} {FALSE} Nice."), manner)
    assert answer.text == f"{TRUE} {FALSE} (not verified) Nice. (not verified)"
    # The same clip is cited by both: the sentence it supports least decides.
    assert answer.composed is False
    assert [(each.label, each.verified) for each in answer.cited] == [(1, False)]
    assert not answer.grounded


@pytest.mark.parametrize(
    "text",
    [
        "",
        'Clip [1]: file "pet.jpg", a photo. Answer the question only from what these clips show.',
        "A cat [0]. A cat [99]. A cat [-1]. A cat.",
        "Die Katze sitzt auf dem Sofa [1]. 画面里有一只猫【1】。",
        "\x1b[2J\u202e",
    ],
)
def test_nothing_that_holds_leaves_what_the_encoder_sees(sample_library: Library, text: str) -> None:
    _, answer = events(sample_library, Watches(text), Manner(filters=PET))
    alone = answer_question(ASKED, sample_library.searcher(), chat=None, filters=PET)
    assert (answer.text, answer.cited, answer.composed, answer.chat) == (alone.text, alone.cited, True, "mini")
    assert all(each.verdict is not Verdict.SUPPORTED for each in answer.sentences)


def test_what_is_shown_marked_is_not_called_grounded_nor_composed(sample_library: Library) -> None:
    manner = Manner(filters=PET, unsupported=Unsupported.MARK)
    alone = answer_question(ASKED, sample_library.searcher(), chat=None, filters=PET)
    for text, cites in ((f"{FALSE}", True), ("Nice.", False), ("Die Katze sitzt auf dem Sofa [1].", True)):
        _, answer = events(sample_library, Watches(text), manner)
        assert answer.text == f"{text} (not verified) {alone.text}"
        assert (answer.grounded, answer.composed, answer.chat) == (False, False, "watches")
        # The composed sentence cites the same clip; what supports it least decides.
        assert [each.label for each in answer.cited if not each.verified] == ([1] if cites else [])
    _, answer = events(sample_library, Watches(f"{TRUE} Nice."), manner)
    assert (answer.text, answer.grounded) == (f"{TRUE} Nice. (not verified)", False)
    assert all(each.verified for each in answer.cited)


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("A certificate of vaccination lies there [1]. NOT SHOWN", True),
        ("NOT SHOWN in clip 2, and so on.", False),
        ("The word NOT SHOWN.", False),
    ],
)
def test_a_denial_is_all_of_a_sentence_wherever_it_stands(sample_library: Library, text: str, denied: bool) -> None:
    _, answer = events(sample_library, Watches(text), Manner(filters=PET))
    assert (answer.chat == "watches") is denied
    assert answer.matched is not denied


@pytest.mark.parametrize("denial", ["NOT SHOWN.", "Not shown in clip 2."])
def test_a_denial_takes_nothing_from_what_holds(sample_library: Library, denial: str) -> None:
    for text in (f"{denial} {TRUE}", f"{TRUE} {denial}"):
        _, answer = events(sample_library, Watches(text), Manner(filters=PET))
        assert answer.text == TRUE
        assert (answer.grounded, answer.chat, answer.composed) == (True, "watches", False)


class Misses(Watches):
    """As Watches, but was not shown the Evidence of these labels."""

    def __init__(self, text: str, missed: frozenset[int], *, again: frozenset[int] = frozenset()) -> None:
        super().__init__(text)
        self.misses = {Aim.ANSWER: missed, Aim.VERDICT: again}

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        self.missed = self.misses[turns[-1].aim]
        yield from super().reply(turns, evidence, max_new_tokens=max_new_tokens)


def test_a_clip_that_was_not_shown_is_not_cited(sample_library: Library) -> None:
    _, answer = events(sample_library, Misses(TRUE, frozenset({1})), Manner(filters=Filters()))
    assert [each.reason for each in answer.sentences] == ["the chat model could not be shown [1]"]
    assert answer.composed
    _, answer = events(sample_library, Misses("NOT SHOWN", frozenset({1})), Manner(filters=PET))
    alone = answer_question(ASKED, sample_library.searcher(), chat=None, filters=PET)
    assert answer == alone


def test_a_verdict_without_a_picture_is_a_no(sample_library: Library) -> None:
    chat = Misses(TRUE, frozenset(), again=frozenset({1}))
    _, answer = events(sample_library, chat, Manner(filters=PET, verify=Verify.STRICT))
    assert [each.reason for each in answer.sentences] == ["asked again, the chat model did not confirm it"]


class Breaks(Watches):
    """Says ``text``, then breaks off."""

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        yield from super().reply(turns, evidence, max_new_tokens=max_new_tokens)
        if turns[-1].aim is Aim.ANSWER:
            raise AnswerCut("the server went away", "")


@pytest.mark.parametrize("verify", list(Verify))
def test_what_was_checked_before_a_reply_broke_off_is_kept(sample_library: Library, verify: Verify) -> None:
    pieces, answer = events(sample_library, Breaks(f"{TRUE} A cat which is not"), Manner(filters=PET, verify=verify))
    assert "".join(pieces) == answer.text == TRUE
    assert (answer.error, wire.answer(answer)["error"]) == ("the server went away", "the server went away")
    _, answer = events(sample_library, Breaks("A cat which is not"), Manner(filters=PET, verify=verify))
    assert (answer.composed, answer.error, answer.sentences) == (True, "the server went away", ())
    assert "error" not in wire.answer(events(sample_library, Watches(TRUE), Manner(filters=PET))[1])


def test_a_model_that_has_not_looked_may_break_off_too(sample_library: Library) -> None:
    blind = Breaks("The picture shows a cat [1]. And a")
    blind.watches = False
    _, answer = events(sample_library, blind, Manner(filters=PET))
    assert answer.text.startswith("The picture shows a cat [1]. The best match")
    assert answer.error == "the server went away"


@pytest.mark.parametrize("text", ["NOT SHOWN", "Not shown.", "**NOT SHOWN**", "Answer: NOT SHOWN", "NOT SHOWN [1]."])
def test_a_model_that_sees_nothing_of_it_is_believed(sample_library: Library, text: str) -> None:
    _, answer = events(sample_library, Watches(text), Manner(filters=PET))
    assert answer.text.startswith("The footage does not clearly show it")
    assert (answer.matched, answer.grounded, answer.chat) == (False, False, "watches")


def test_it_is_not_asked_when_nothing_was_found(sample_library: Library) -> None:
    chat = Watches(TRUE)
    answer = answer_question("a certificate of vaccination", sample_library.searcher(), chat=chat)
    assert answer.text.startswith("The footage does not show it")
    assert chat.heard == []


def test_nothing_steers_the_terminal(sample_library: Library) -> None:
    _, answer = events(sample_library, Watches("A cat\x1b[2J looks \u202einto the camera [1]."), Manner(filters=PET))
    assert not {"\x1b", "\u202e"} & set(answer.text + answer.sentences[0].text)


@pytest.mark.parametrize(("verdict", "kept"), [("Yes.", True), ("yes it is", True), ("No.", False), ("Hmm", False)])
def test_strict_asks_again_with_the_cited_clip_alone(sample_library: Library, verdict: str, kept: bool) -> None:
    chat = Watches(TRUE, verdict=verdict)
    _, answer = events(sample_library, chat, Manner(filters=Filters(), verify=Verify.STRICT))
    assert chat.aims() == [Aim.ANSWER, Aim.VERDICT]
    asked, evidence = chat.heard[1]
    assert "Statement: A cat looks into the camera." in asked.question
    assert [each.hit.path for each in evidence] == [chat.heard[0][1][0].hit.path]
    assert (answer.text == TRUE) is kept
    reason = "" if kept else "asked again, the chat model did not confirm it"
    assert [each.reason for each in answer.sentences] == [reason]


DENYING = {
    "Where is the cat?": "A cat looks into the camera, and there is no pink car [1].",
    "Wo ist die Katze?": "Eine Katze, aber kein Hund [1].",
    "Où est le chat ?": "Un chat, mais pas de chien [1].",
    "哪里有猫?": "有一只猫,没有狗 [1]。",
    "猫はどこですか?": "猫がいます。犬はいません、猫だけです [1]。",
    "고양이는 어디에 있나요?": "고양이가 있고 개는 없습니다 [1].",
    "Где кошка?": "Кошка есть, собаки нет [1].",
    "أين القطة؟": "قطة تنظر ولا توجد كلاب ليس كلب [1].",
    "बिल्ली कहाँ है?": "बिल्ली है, कुत्ता नहीं है [1]।",
}


@pytest.mark.parametrize("question", DENYING)
def test_what_is_said_not_to_be_there_takes_a_look(sample_library: Library, question: str) -> None:
    def answer(text: str, verify: Verify) -> Answer:
        manner = Manner(filters=PET, verify=verify)
        *_, last = answer_events(question, sample_library.searcher(), chat=Watches(text), manner=manner)
        assert isinstance(last, Answer)
        return last

    denied = answer(DENYING[question], Verify.ENCODER)
    assert denied.composed
    strict = answer(DENYING[question], Verify.STRICT)
    reasons = [each.reason for each in denied.sentences if each.labels]
    # Where the score alone would not do, that is said first.
    assert all(
        reason.endswith(("an encoder cannot check what is not there", "does not support it")) for reason in reasons
    )
    if not strict.composed:
        assert all(reason.endswith("an encoder cannot check what is not there") for reason in reasons)


def test_a_denial_that_is_quoted_is_none(sample_library: Library) -> None:
    _, answer = events(sample_library, Watches("A cat looks into the camera “no parking” [1]."), Manner(filters=PET))
    assert [each.reason for each in answer.sentences if "what is not there" in each.reason] == []


def test_strict_asks_nothing_about_what_failed_already(sample_library: Library) -> None:
    chat = Watches(f"{FALSE} Nice.")
    events(sample_library, chat, Manner(filters=PET, verify=Verify.STRICT))
    assert chat.aims() == [Aim.ANSWER]


def test_strict_needs_a_model_that_looks(sample_library: Library) -> None:
    blind = Watches(TRUE)
    blind.watches = False
    for chat, name in ((None, "mini"), (blind, "watches")):
        with pytest.raises(UsageError, match=rf"^--verify strict asks the chat model to look again, and '{name}' does"):
            answer_question(ASKED, sample_library.searcher(), chat=chat, verify=Verify.STRICT)


# As people write them, not taken from the tables.
YESES = {
    "en": ["Yes.", "yes", "**Yes**", "Yes, it is.", '"Yes"', "True.", " YES!", "Yes, the statement is true."],
    "zh": ["是。", "是的。", "是的，画面中有一只猫。", "对。", "Yes", "“是”"],
    "ja": ["はい。", "はい、猫がいます。", "はい", "Yes."],
    "fr": ["Oui.", "Oui, on voit un chat.", "oui", "Vrai."],
    "es": ["Sí.", "Sí, es un gato.", "*Sí*"],
    "de": ["Ja.", "Ja, das stimmt.", "ja"],
    "ru": ["Да.", "Да, это кошка.", "Верно."],
    "ar": ["نعم.", "نعم، هذه قطة.", "نعم"],
    "it": ["Sì.", "Sì, si vede un gatto."],
    "pt": ["Sim.", "Sim, há um gato.", "sim"],
    "ko": ["네.", "네, 고양이가 있습니다.", "예"],
    "hi": ["हाँ।", "हाँ, यह बिल्ली है।", "हां"],
}
OTHERS = {
    "en": [
        "No.",
        "",
        "I cannot verify that this statement is true.",
        "It is unclear whether this is true",
        "I can't say yes",
        "Unable to confirm whether yes",
        "Yes, but it is not a cat.",
        "Yes, maybe.",
        "Yes or no?",
        "Yesterday.",
        "I know.",
        "The statement says yes.",
    ],
    "zh": ["不是。", "对不起,我无法判断。", "无法判断是否属实", "不对", "是否属实无法判断", "可能是。", "没有。"],
    "ja": ["いいえ。", "はいとは言えません。", "分かりません", "はい、かもしれません", "違います。"],
    "fr": ["Non.", "Je ne peux pas dire si c'est vrai", "Oui et non.", "Peut-être, oui.", "C'est faux."],
    "es": ["No.", "No puedo decir que sí", "Quizás sí.", "Sí, pero no es un gato.", "Sin duda es falso."],
    "de": ["Nein.", "Das ist kein Hund, ja", "Ja, aber es ist ein Hund.", "Vielleicht.", "Jacke."],
    "ru": ["Нет.", "Не могу сказать, верно ли это", "Не да.", "Возможно, да.", "Неверно."],
    "ar": ["لا.", "لا أستطيع أن أقول نعم", "ربما نعم.", "غير صحيح."],
    "it": ["No.", "Non posso dire se sia vero", "Forse sì.", "Sì e no."],
    "pt": ["Não.", "Não posso dizer que sim", "Talvez sim.", "Sim, mas não é um gato."],
    "ko": ["아니요.", "확인할 수 없네요", "네, 하지만 고양이가 아닙니다.", "아마도요.", "예쁘네요."],
    "hi": ["नहीं।", "यहाँ ऐसा नहीं दिखता", "शायद हाँ।", "मैं हाँ नहीं कह सकता"],
}


@pytest.mark.parametrize("language", PHRASES)
def test_only_a_plain_yes_is_one(language: str) -> None:
    assert [reply for reply in YESES[language] if not says_yes(reply, language)] == []
    assert [reply for reply in OTHERS[language] if says_yes(reply, language)] == []


@pytest.mark.parametrize("language", PHRASES)
def test_the_words_it_is_asked_for_are_understood(language: str) -> None:
    assert says_yes(YES[language][0], language)
    assert not says_yes(NO[language], language)


def test_a_question_that_leans_is_rewritten_by_the_model(sample_library: Library) -> None:
    chat = Watches(TRUE, alone="What colour is the cat?")
    history = [Turn("Where is the cat?", "In the picture [3].")]
    answer = answer_question("What colour is it?", sample_library.searcher(), chat=chat, history=history)
    assert chat.aims() == [Aim.REWRITE, Aim.ANSWER]
    turn, evidence = chat.heard[0]
    assert "Answer: In the picture. Last question: What colour is it?" in turn.question
    assert evidence == []
    assert answer.searched == "What colour is the cat?"
    assert answer.question == "What colour is it?"


@pytest.mark.parametrize(
    "alone",
    [
        "Here is the rewritten question:\n\nWhat colour is the cat?",
        "Sure! Here is the rewritten question:\n**What colour is the cat?**",
        "<think>They mean the cat.\nWhat colour is the dog?</think>\nWhat colour is the cat?",
        "Rewritten question: What colour is the cat?",
        "Certainly.\n“What colour is the cat?”",
    ],
)
def test_what_stands_before_a_rewritten_question_is_not_searched_for(sample_library: Library, alone: str) -> None:
    chat = Watches(TRUE, alone=alone)
    history = [Turn("Where is the cat?", "")]
    answer = answer_question("What colour is it?", sample_library.searcher(), chat=chat, history=history)
    assert answer.searched == "What colour is the cat?"


@pytest.mark.parametrize(
    ("before", "question", "alone"),
    [
        ("哪里有猫?", "它是什么颜色的?", "猫是什么颜色的?"),
        ("Где кошка?", "Какого она цвета?", "Какого цвета кошку видно?"),
        ("Wo ist die Katze?", "Was macht sie dort?", "Was macht die Katze auf dem Sofa?"),
    ],
)
def test_a_rewrite_is_known_by_its_words_in_other_languages(before: str, question: str, alone: str) -> None:
    asked = read_question(question)
    put = rewritten(asked, [Turn(before, "")], Watches(TRUE, alone=alone))
    assert not asked.leans or (put is not None and put.text == alone)
    assert rewritten(asked, [Turn(before, "")], Watches(TRUE, alone="Submarine.")) is None


@pytest.mark.parametrize(
    "alone",
    [
        "<think>What colour is the cat?",
        "Is there a submarine in Kiel?",
        "",
        "Welche Farbe hat die Katze?",
        "it?",
        "x " * 400,
        "What is it?",
    ],
)
def test_a_bad_rewrite_leaves_the_plain_one(sample_library: Library, alone: str) -> None:
    chat = Watches(TRUE, alone=alone)
    history = [Turn("Where is the cat?", "")]
    answer = answer_question("What colour is it?", sample_library.searcher(), chat=chat, history=history)
    assert answer.searched == "Where is the cat? What colour is it?"


@pytest.mark.parametrize("question", ["Where is the rocket?", "And then?"])
def test_what_needs_no_rewriting_is_not_rewritten(sample_library: Library, question: str) -> None:
    chat = Watches(TRUE)
    answer_question(question, sample_library.searcher(), chat=chat, history=[Turn("Where is the cat?", "")])
    assert Aim.REWRITE not in chat.aims()


def test_the_library_streams_too(sample_library: Library) -> None:
    *pieces, answer = sample_library.ask_stream(ASKED)
    assert isinstance(answer, Answer)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == answer.text
    assert sample_library.ask(ASKED) == answer


def test_a_way_that_is_none_is_refused(sample_library: Library) -> None:
    with pytest.raises(UsageError, match=r"^unknown way 'hide' to answer; known: withhold, mark$"):
        sample_library.ask(ASKED, unsupported="hide")
