"""The question type."""

from dataclasses import replace

from jmedllm.evaluation.question import Question, question_hash

LIVER = Question("112A1", "igakuqa", "ja", "正しいのはどれか。", ("胃", "肝臓", "腎"), frozenset({1}))
FREE = replace(LIVER, choices=(), gold=frozenset(), reference="肝臓")


def test_the_hash_of_a_question_with_choices_is_the_one_of_earlier_results() -> None:
    assert question_hash(LIVER) == "84d368e3838e0af5"


def test_the_hash_covers_reference_and_rubric() -> None:
    hashes = {question_hash(each) for each in (LIVER, FREE, replace(FREE, reference="肝"), replace(FREE, rubric="肝"))}
    assert len(hashes) == 4


def test_a_question_without_choices_and_with_a_reference_or_a_rubric_asks_for_free_text() -> None:
    assert FREE.is_free_text
    assert replace(FREE, reference=None, rubric="names the liver").is_free_text
    assert not LIVER.is_free_text
    assert not replace(LIVER, reference="肝臓").is_free_text
    assert not replace(FREE, reference=None, number="3").is_free_text
