"""The right answer of every real question is read as right, however it is written."""

import json
import re
from collections import Counter

import pytest

from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading import read_answer, same_answer

BENCHMARKS = [
    ("igakuqa", "ja"),
    ("igakuqa", "en"),
    ("medqa", "en"),
    ("medqa-5", "en"),
    ("medmcqa", "en"),
    ("mmlu", "en"),
    ("jmmlu", "ja"),
    ("jmle2026", "ja"),
    ("igakuqa119", "ja"),
    ("crade", "ja"),
    ("rrtnm", "ja"),
    ("smdis", "ja"),
]

FRAMES = {
    "ja": ("{}", "答え：{}", "正解は{}です。", "まず考える。\nしたがって、正解は{}です。"),
    "en": ("{}", "Answer: {}", "The answer is {}.", "<think>A?</think>\n**{}**", "\\boxed{{{}}}<|im_end|>"),
}


def in_json(answer: str) -> str:
    return json.dumps({"answer_choice": answer}, ensure_ascii=False)


def written(question: Question, frames: tuple[str, ...]) -> list[tuple[str, str]]:
    """The gold as text, as letters, and as letters before texts; with what the prompt asked for."""
    if question.number is not None:
        return [(frame.format(question.number), "text") for frame in frames]
    gold = sorted(question.gold)
    letters = ",".join(map(label, gold))
    both = "\n".join(f"{label(i).upper()}. {question.choices[i].strip()}" for i in gold)
    text = ",".join(question.gold_choices)
    answers = [(frame.format(text), "text") for frame in frames] if text.strip() else []
    answers += [(frame.format(letters), "letter") for frame in frames]
    return [
        *answers,
        (in_json(text if text.strip() else letters), "text"),
        (in_json(letters), "letter"),
        (both, "letter"),
    ]


EVERY = [pytest.param(10, id="every tenth"), pytest.param(1, id="all", marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize(("benchmark", "language"), BENCHMARKS)
@pytest.mark.parametrize("every", EVERY)
def test_the_gold_is_right(shared, benchmark, language, every):
    questions = [q for q in load(benchmark, language, shared) if q.gold or q.number is not None][::every]
    wrong = [
        (question.id, response, answer)
        for question in questions
        for response, answer_as in written(question, FRAMES[language])
        if not same_answer(question, answer := read_answer(question, response, answer_as=answer_as), question.gold)
    ]
    assert not wrong[:5]
    assert not any(read_answer(question, "").answered for question in questions)


def test_only_one_text_cannot_be_written(shared):
    """A choice of the licence exam that is a space, since the letters of its choices are in a picture."""
    blank = [q.id for q in load("igakuqa", "ja", shared) if q.gold and not "".join(q.gold_choices).strip()]
    assert blank == ["114C11"]


def test_recorded_answers(shared):
    """10,000 answers of five candidates: plain letters, chatter, refusals and calculations."""
    questions = {q.id: q for q in load("igakuqa", "ja", shared)}
    how: Counter[str] = Counter()
    for file in sorted((shared / "igakuqa" / "baseline_results").glob("*/*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            question, said = questions[record["problem_id"]], record["prediction"]
            answer = read_answer(question, said, answer_as="letter")
            how[answer.how] += 1
            letters = re.findall("[a-e]", said)
            if re.fullmatch(r"[a-e](, ?[a-e])*", said) and len(set(letters)) == question.select:
                assert answer.chosen == {ord(letter) - ord("a") for letter in letters}
    assert sum(how.values()) == 10_000
    assert how["label"] > 9_700
    assert 140 <= how["refused"] <= 160
