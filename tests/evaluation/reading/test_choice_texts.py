"""Answers that repeat the text of a choice, alone and in prose."""

import pytest
from test_read import DRUGS, ONE, outcome, question

from jmedllm.evaluation.question import label


@pytest.mark.parametrize(
    ("choices", "response", "expected"),
    [
        pytest.param(("肺", "肺癌", "胃"), "肺癌", "b", id="the longest"),
        pytest.param(("肺", "肺癌", "胃"), "答えは肺癌です", "b", id="the longest in a sentence"),
        pytest.param(("肺", "心", "胃"), "答えは肺癌です", "no choice", id="part of a word is no choice"),
        pytest.param(("A, B", "A", "B, C"), "a, b", "a", id="a comma of its own"),
        pytest.param(("AとC", "Aのみ", "Bのみ"), "答えはAとCです", "a", id="letters of its own"),
        pytest.param(("BB Bb", "Bb Bb", "bb bb"), "Bb Bb", "b", id="case distinguishes them"),
        pytest.param(("BB Bb", "Bb Bb", "cc"), "bb bb", "ambiguous", id="unless it does not"),
        pytest.param(("4.6", "4.61", "46"), "The answer is 4.61.", "b", id="numbers"),
        pytest.param(("4", "6", "46"), "The answer is 4.6", "no choice", id="part of a number is no choice"),
        pytest.param(("20%", "5%", "2%"), "2％", "c", id="width"),
        pytest.param(("Co2", "ab", "Fe"), "ab", "b", id="a text of letters"),
        pytest.param(("①", "②", "③"), "②", "b", id="circled numbers"),
        pytest.param(("2回", "3回", "1回"), "答えは3番です", "no choice", id="an ordinal where choices have digits"),
        pytest.param(("X", "X", "Y"), "X", "a", id="the first of equal texts"),
        pytest.param(("X", "X", "Y"), "B. X", "b", id="a label before one of equal texts"),
        pytest.param(("E. coli", "S. aureus", "P. acnes"), "The answer is E. coli.", "a", id="a letter in a name"),
        pytest.param(("Hepatitis A", "Hepatitis B", "Mumps"), "Answer: hepatitis b", "b", id="a letter at its end"),
    ],
)
def test_choice_texts(choices, response, expected):
    assert outcome(response, question(choices, "a")) == expected


def test_a_text_that_is_another_ones_letter():
    item = question(("B", "C", "D", "E"), "a")
    assert outcome("B", item) == "a"
    assert outcome("B", item, answer_as="letter") == "b"
    assert outcome("b", item) == "b"


SENTENCES = ("食事の提供を拒絶する。", "わいせつな行為をする。", "就寝時にベッド柵で囲む。")


@pytest.mark.parametrize(
    ("choices", "response", "expected"),
    [
        pytest.param(DRUGS, "The answer is warfarin-associated bleeding.", "no choice", id="part of a compound"),
        pytest.param(DRUGS, "The patient is on aspirin.", "no choice", id="a drug taken before"),
        pytest.param(("Yes", "No", "Maybe"), "There is no indication.", "no choice", id="a word of the prose"),
        pytest.param(("Yes", "No", "Maybe"), "No idea", "no choice", id="a word of a phrase"),
        pytest.param(("Yes", "No", "Maybe"), "No answer", "refused", id="a word of a refusal"),
        pytest.param(("Yes", "No", "Maybe"), "No, it is not.", "b", id="a word that is the answer"),
        pytest.param(("A", "B", "None"), "None of these", "no choice", id="another one's words"),
        pytest.param(("1 and 2", "2 and 3", "1 and 3"), "1, 2 and 3", "no choice", id="the end of a list"),
        pytest.param(("5 mg", "10 mg", "15 mg"), "5 to 10 mg", "no choice", id="the end of a range"),
        pytest.param(("1", "2", "3", "4"), "c. 4", "ambiguous", id="the label of another number"),
        pytest.param(("1", "2", "3", "4"), "c. 3", "c", id="the label of this number"),
        pytest.param(("3", "2", "1"), "答え：3", "a", id="a text that is a number"),
        pytest.param(SENTENCES, "食事の提供を拒絶する。ではなく就寝時にベッド柵で囲む。です。", "c", id="a sentence"),
        pytest.param(
            SENTENCES, "「食事の提供を拒絶する。」ではなく「就寝時にベッド柵で囲む。」です。", "c", id="quoted"
        ),
        pytest.param(
            SENTENCES, "a. 食事の提供を拒絶する。：誤り。\nc. 就寝時にベッド柵で囲む。：正しい。", "c", id="judged"
        ),
        pytest.param(
            ("治る", "判断できない", "死ぬ"),
            "a. 治る：誤り\nb. 判断できない：正しい\nc. 死ぬ：誤り",
            "b",
            id="like a refusal",
        ),
    ],
)
def test_texts_in_prose(choices, response, expected):
    assert outcome(response, question(choices, "a")) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("aは正しい。bは正しい。cは誤り。dは正しい。eは正しい。", "c"),
        ("a ○\nb ○\nc ×\nd ○\ne ○", "c"),
        ("誤っている選択肢はcです", "c"),
        ("cは誤りです。よって答えはcです。", "c"),
        ("A is true, B is true, C is false, D is true, E is true.", "c"),
        ("a ×\nb ×\nc ○\nd ×\ne ×", "c"),  # four cannot be wrong, so that ○ marks the answer
        ("正解：c\n不正解：a,b,d,e", "c"),
        ("aは正しい。", "no choice"),
        ("A is correct.", "no choice"),
        ("aは誤り。bは誤り。", "ambiguous"),
    ],
)
def test_judgements_if_the_question_asks_for_a_wrong_statement(response, expected):
    assert outcome(response, question(stem="誤っているのはどれか。")) == expected


def test_a_repetition_of_the_question_is_no_answer():
    stem = "The patient takes warfarin for years. Which drug is most appropriate now?"
    item = question(DRUGS, stem=stem)
    assert outcome(stem, item) == "no choice"
    assert outcome(stem + "\nC", item) == "c"
    listed = "\n".join(f"{label(i)}. {drug}" for i, drug in enumerate(DRUGS))
    assert outcome(f"{stem}\n{listed}", item) == "no choice"
    assert outcome(f"{stem}\n{listed}\nAnswer: C", item) == "c"


def test_what_is_wrong_is_the_answer_where_the_question_asks_for_it():
    assert outcome("誤っているのはCです。", question(stem="誤っているのはどれか。")) == "c"
    assert outcome("誤っているのはCです。", ONE) == "no choice"
