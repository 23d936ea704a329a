"""Kappa, corrections and lists of expressions: the published definitions, by hand and by a second implementation."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.order import present
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import SCORERS, aggregate
from jmedllm.evaluation.scorers.base import ModelOutput
from jmedllm.evaluation.scorers.correction import CorrectionItemScore
from jmedllm.evaluation.scorers.entities import exact_f1, partial_f1, published_partial_f1, read_list
from jmedllm.evaluation.scorers.kappa import kappa
from jmedllm.evaluation.statistics import Score
from jmedllm.evaluation.votes import vote


def scores(scorer: str, questions: list[Question], responses: list[str]) -> dict[str, Score]:
    pairs = zip(questions, responses, strict=True)
    outputs = [ModelOutput(present(question)[0], text=text, answer_as="letter") for question, text in pairs]
    found = [SCORERS[scorer].score_item(output) for output in outputs]
    return {each.metric: each for each in aggregate(scorer, SCORERS[scorer], questions, found)}


def kappa_by_pairs(first: list[int], second: list[int], weighted: bool) -> float:
    """Kappa from all pairs of items instead of from a table."""
    place = {label: index for index, label in enumerate(sorted({*first, *second}))}

    def cost(a: int, b: int) -> int:
        return abs(place[a] - place[b]) if weighted else int(a != b)

    observed = sum(map(cost, first, second)) / len(first)
    expected = sum(cost(a, b) for a in first for b in second) / len(first) ** 2
    return 1 - observed / expected


@pytest.mark.parametrize("weighted", [False, True])
def test_kappa_equals_that_of_all_pairs(weighted: bool) -> None:
    random = Random(1)
    for labels in (2, 3, 5):
        for _ in range(20):
            first, second = ([random.choice([*range(labels), 7]) for _ in range(30)] for _ in range(2))
            ours = float(kappa(np.array([first, second]).T, weighted=weighted))
            assert ours == pytest.approx(kappa_by_pairs(first, second, weighted))


@pytest.mark.parametrize(
    ("pairs", "weighted", "value"),
    [
        # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: 0.4 in the textbook example.
        ([(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15, False, 0.4),
        ([(0, 0), (1, 1)], False, 1.0),
        ([(0, 1), (1, 0)], False, -1.0),
        ([(0, 0), (0, 0)], False, 0.0),  # a single label proves nothing
        ([(0, 0), (0, 1), (1, 1), (2, 0)], True, 0.0),
    ],
)
def test_kappa_by_hand(pairs: list[tuple[int, int]], weighted: bool, value: float) -> None:
    assert float(kappa(np.array(pairs), weighted=weighted)) == pytest.approx(value)


def test_kappa_of_a_benchmark(shared: Path) -> None:
    questions = load("crade", "ja", shared)
    golds = ["abcd"[min(question.gold)] for question in questions]
    found = scores("kappa", questions, [*golds[:-1], "わかりません"])["linear_weighted_kappa"]
    assert (found.n, found.correct, found.no_answer, found.floor, found.ceiling) == (100, 99, 1, 0.0, 1.0)
    assert 0.9 < found.low < found.value < 1
    constant = scores("kappa", questions, ["a"] * 100)["linear_weighted_kappa"]
    assert constant.value == pytest.approx(0.0) and constant.low <= constant.value <= constant.high
    assert {BENCHMARKS[name].agreement for name in ("rrtnm", "smdis")} == {"kappa"}
    assert not SCORERS["kappa"].applies(load("jmle2026", "ja", shared)[0])


STEM = "1. A man has a cough.\n2. Influenza is diagnosed.\n3. He is given aspirin."
WRONG = Question("1", "medrect", "en", STEM, (), frozenset(), reference="2: Pneumonia is diagnosed.")
RIGHT = replace(WRONG, id="2", reference="CORRECT")


def test_corrections_by_hand() -> None:
    texts = (WRONG, WRONG, WRONG, WRONG, RIGHT, RIGHT, RIGHT)
    questions = [replace(text, id=str(number)) for number, text in enumerate(texts)]
    responses = [
        "2: Pneumonia is diagnosed.",
        "3: He is given amoxicillin.",  # an error, but another sentence
        "CORRECT",
        "I cannot help.",  # no answer: a miss
        "CORRECT",
        "2: Pneumonia is diagnosed.",
        "I cannot help.",  # no answer: a false alarm
    ]
    found = scores("correction", questions, responses)
    assert {name: (each.n, each.correct, each.no_answer) for name, each in found.items()} == {
        "accuracy": (7, 2, 2),
        "detection_accuracy": (7, 3, 2),
        "detection_f1": (7, 3, 2),
        "sentence_accuracy": (4, 1, 1),
        "correction_chrf": (4, 1, 1),
    }
    assert found["detection_f1"].value == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))  # 2 hits, 2 misses, 2 false alarms
    assert found["detection_f1"].constant_floor == pytest.approx(2 * (4 / 7) / (1 + 4 / 7))
    assert found["detection_accuracy"].constant_floor == pytest.approx(4 / 7)
    assert found["accuracy"].constant_floor == pytest.approx(3 / 7)
    assert 0.25 < found["correction_chrf"].value < 0.5 and 0.4 < (found["correction_chrf"].constant_floor or 0) < 0.9


def test_corrections_with_a_thought_and_cut_off() -> None:
    scorer = SCORERS["correction"]
    thought = ModelOutput(present(WRONG)[0], text="<think>3: no.</think>2: Pneumonia is diagnosed.")
    assert scorer.score_item(thought).sentence == 2
    cut = ModelOutput(present(WRONG)[0], text="<think>2: Pneumonia is diagnosed.", truncated=True)
    assert (scorer.score_item(cut).error, scorer.score_item(cut).how) == (None, "truncated")
    assert scorer.score_item(replace(cut, failure="too long", text=None)).how == "too long"


def test_the_reference_of_every_text_is_right(shared: Path) -> None:
    for language in ("ja", "en"):
        questions = load("medrect", language, shared)[::20]
        assert all(map(SCORERS["correction"].applies, questions))
        found = scores("correction", questions, [question.reference or "" for question in questions])
        assert {name: each.value for name, each in found.items()} == dict.fromkeys(found, 1.0)
        constant = scores("correction", questions, ["CORRECT"] * len(questions))
        assert constant["accuracy"].value == pytest.approx(constant["accuracy"].constant_floor)
        assert constant["detection_f1"].value == 0


@pytest.mark.parametrize(
    ("reply", "listed"),
    [
        ('["発熱", "咳"]', ["発熱", "咳"]),
        ("['発熱', '咳']", ["発熱", "咳"]),
        ('```json\n["発熱", "咳"]\n```', ["発熱", "咳"]),
        ('答え：["発熱", "咳"]です。', ["発熱", "咳"]),
        ('{"症状": ["発熱", "咳"]}', ["発熱", "咳"]),
        ('例：["表現1"]\n["発熱"]', ["発熱"]),
        ("- 発熱\n- 咳", ["発熱", "咳"]),
        ("1. 発熱\n2. 「咳」", ["発熱", "咳"]),
        ("発熱、咳", ["発熱", "咳"]),
        ("症状：発熱, 咳", ["発熱", "咳"]),
        ("発熱", ["発熱"]),
        ("以下の通りです。\n症状：\n発熱、咳", ["発熱", "咳"]),
        ("以下の表現です：\n圧痛、反跳痛\n咳", ["圧痛、反跳痛", "咳"]),
        ("①発熱\n②咳", ["発熱", "咳"]),
        ("アスピリン\n1,000mg", ["アスピリン", "1,000mg"]),
        ("ｱｽﾋﾟﾘﾝ\n1.5mg", ["ｱｽﾋﾟﾘﾝ", "1.5mg"]),
        ('["CRP [高値]", "咳"]', ["CRP [高値]", "咳"]),
        ("[発熱, 咳]", ["発熱", "咳"]),
        ('[{"症状": "発熱"}, {"症状": "咳"}]', ["発熱", "咳"]),
        ('[{"症状": "発熱", "時期": "昨日"}]', None),
        ("[]", []),
        ("該当なし", []),
        ("この患者には発熱がありました。咳もありました。", None),
    ],
)
def test_lists(reply: str, listed: list[str] | None) -> None:
    found = read_list(reply)
    assert (None if found is None else found[0]) == listed


@pytest.mark.parametrize(
    ("gold", "listed", "exact", "partial", "published"),
    [
        (["発熱", "咳"], ["発熱", "咳"], 1.0, 1.0, 1.0),
        (["発熱", "咳"], ["発熱"], 2 / 3, 2 / 3, 4 / 3),  # one exact match counts as all of the reference
        (["発熱", "咳"], ["高い発熱", "下痢"], 0.0, 0.5, 0.0),
        (["発熱"], ["発熱", "下痢", "咳"], 0.5, 0.5, 0.5),
        (["５ｍｇ／日"], ["5mg/日"], 0.0, 1.0, 0.0),
        (["発熱"], [], 0.0, 0.0, 0.0),
    ],
)
def test_f1_of_lists(gold: list[str], listed: list[str], exact: float, partial: float, published: float) -> None:
    assert exact_f1(gold, listed) == pytest.approx(exact)
    assert partial_f1(gold, listed) == pytest.approx(partial)
    assert published_partial_f1(gold, listed) == pytest.approx(published)


def published_code(gold: list[str], listed: list[str]) -> float:
    """The loops that JMED-LLM describes, on sets as there."""
    answers, predictions, count = set(gold), set(listed), 0
    for answer in answers:
        count += any(answer in predictions or prediction in answers for prediction in predictions)
    recall, precision = count / len(answers), count / len(predictions) if predictions else 0
    return 2 * recall * precision / (recall + precision) if recall + precision else 0


def test_the_published_partial_f1_is_that_of_its_loops() -> None:
    random = Random(2)
    for _ in range(200):
        gold, listed = (random.sample("abcdefgh", random.randint(low, 6)) for low in (1, 0))
        assert published_partial_f1(gold, listed) == pytest.approx(published_code(gold, listed))


def test_the_reference_of_every_list_is_right(shared: Path) -> None:
    questions = load("mrner-medicine", "ja", shared)
    found = scores("entities", questions, [question.reference or "" for question in questions])
    assert {name: each.value for name, each in found.items()} == dict.fromkeys(
        ("exact_f1", "partial_f1", "published_partial_f1"), 1.0
    )
    empty = scores("entities", questions, ["この文書からは抽出できません。申し訳ありません。"] * 100)
    assert Counter((each.value, each.no_answer) for each in empty.values()) == {(0.0, 100): 3}


def test_corrections_have_a_vote() -> None:
    wrong, right = (CorrectionItemScore(True, n, n == 2, detected=True, similarity=0.0, how="") for n in (1, 2))
    none = CorrectionItemScore(None, None, correct=False, detected=False, similarity=0.0, how="empty")
    fine = CorrectionItemScore(False, None, correct=False, detected=False, similarity=0.0, how="")
    for given, voted, tied in [
        ([wrong, right, right], right, False),
        ([none, none, wrong], wrong, False),
        ([fine, wrong, right, fine], fine, False),
        ([fine, right], fine, True),
    ]:
        found = vote(given)
        assert found is not None and (found.item_score, found.tied) == (voted, tied)
    assert vote([none, none]) is None


def test_perfect_and_empty_responses_have_an_interval(shared: Path) -> None:
    """As other scores have; 40 items do not show a kappa or F1 of exactly 1, or of exactly 0."""
    for benchmark, scorer, metric in [("smdis", "kappa", "kappa"), ("medrect", "correction", "detection_f1")]:
        questions = load(benchmark, "ja", shared)[:40]
        right = [question.reference or "ab"[min(question.gold)] for question in questions]
        best = scores(scorer, questions, right)[metric]
        assert best.value == 1 == best.high and 0.5 < best.low < 0.99
        worst = scores(scorer, questions, [""] * 40)[metric]
        assert worst.low <= worst.value == 0 < worst.high < 0.6
