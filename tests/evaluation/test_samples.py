"""Several samples of each item: seeds, resuming, votes, pass@k, and intervals that are clustered by item."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_questions
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel, forget
from jmedllm.evaluation.human_baseline import compare_with_examinees
from jmedllm.evaluation.order import present
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.proportions import clustered_error, clustered_interval, wilson
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.records import Sample, read_samples, read_scores
from jmedllm.evaluation.rescore import stored_evaluations
from jmedllm.evaluation.result import EvalResult, read_result
from jmedllm.evaluation.resume import files_of
from jmedllm.evaluation.score import Evaluation, score_samples, summarize
from jmedllm.evaluation.scorers import scorers_named
from jmedllm.evaluation.scorers.answer import AnswerItemScore
from jmedllm.evaluation.scorers.base import GradedItemScore
from jmedllm.evaluation.sharding import evaluate_shares
from jmedllm.evaluation.statistics import Metric, bootstrap_mean, bootstrap_statistic, score
from jmedllm.evaluation.stored_questions import QuestionPlaces
from jmedllm.evaluation.votes import compare_samples, pass_at_k, vote
from jmedllm.models.backends.base import Completion, GenerationConfig, Request, Response
from jmedllm.processes import Rank
from jmedllm.report import collect
from jmedllm.report.card.scores import scores
from jmedllm.report.compare import compare
from jmedllm.report.page import page

SAMPLED = {"temperature": 0.6, "samples": 4}


class Sampler:
    """Draws an answer with the seed of each request, in an order of its own, and may break off."""

    name = "sampler"

    def __init__(self, *, breaks_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.breaks_after = breaks_after

    def answer(self, requests: Sequence[Request], generation: GenerationConfig) -> Iterator[tuple[int, Response]]:
        order = list(range(len(requests)))
        random.Random(len(requests)).shuffle(order)
        for index in order:
            if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
                raise KeyboardInterrupt
            request = requests[index]
            self.asked.append(request.id)
            drawn = random.Random(request.seed if generation.decoding.temperature else 0)
            text = f"答え：{drawn.choice('aabcd')}" if drawn.random() < 0.9 else "わからない"
            cut = drawn.random() < 0.1
            shown = request.choices or request.labels
            completion = Completion(text, finish_reason="length" if cut else "stop", new_tokens=drawn.randrange(5, 50))
            log_probs = tuple(-1.0 - place for place in range(len(shown))) if shown else None
            yield index, Response(completion if request.generate else None, log_probs)


def evaluated(
    exam: Path, output: Path, model: Sampler | None = None, *, name: str = "m", **settings: Any
) -> EvalResult:
    options: dict[str, Any] = {"scorers": ["answer", "likelihood"], "decoding": SAMPLED} | settings
    config = EvalConfig(benchmarks=[str(exam)], languages=["ja"], selection="all", **options)
    prepared = PreparedModel({"model": name, "fingerprint": name}, lambda: model or Sampler())
    [result] = evaluate_tasks(tasks(config, PromptConfig(), Path("unused")), prepared, output)
    return result


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("exam") / "exam.jsonl", count=12)


def texts(output: Path) -> dict[str, str | None]:
    return {name: sample.response for name, sample in read_samples(output / "exam.ja.samples.jsonl").items()}


def test_samples_of_each_item(exam: Path, tmp_path: Path) -> None:
    result = evaluated(exam, tmp_path)
    samples = read_samples(tmp_path / "exam.ja.samples.jsonl")
    assert list(samples)[:5] == ["q0", "q0#1", "q0#2", "q0#3", "q1"]
    assert {(each.question, each.rotation, each.sample_number) for each in samples.values()} == {
        (f"q{item}", 0, number) for item in range(12) for number in range(4)
    }
    # Log-probabilities do not depend on a sample, so only the first has them.
    assert {name for name, each in samples.items() if each.log_probs} == {f"q{item}" for item in range(12)}
    assert (result.settings["samples"], result.settings["decoding"]["temperature"]) == (4, 0.6)
    [accuracy, likelihood, *_] = result.scores
    item_scores = {name: each.item_scores for name, each in read_scores(tmp_path / "exam.ja.scores.jsonl").items()}
    right = [each["answer"]["correct"] for each in item_scores.values()]
    assert (accuracy.n, accuracy.samples, accuracy.correct, accuracy.value) == (12, 4, sum(right), sum(right) / 48)
    assert (accuracy.truncated, accuracy.responses) == (sum(each.truncated for each in samples.values()), 48)
    assert (likelihood.n, likelihood.samples, likelihood.truncated, likelihood.responses) == (12, 1, None, 0)
    assert sum(result.readings["answer"].values()) == 48
    assert result.lengths is not None and result.lengths.n == 48
    tokens = sorted(each.new_tokens or 0 for each in samples.values())
    assert (result.lengths.tokens_median, result.lengths.tokens_p99) == (tokens[23], tokens[47])
    assert read_result(tmp_path / "exam.ja.json") == result


def test_a_sample_depends_only_on_its_seed_item_and_number(exam: Path, tmp_path: Path) -> None:
    evaluated(exam, tmp_path / "whole")
    whole = texts(tmp_path / "whole")
    assert len(set(whole.values())) > 3
    with pytest.raises(KeyboardInterrupt):
        evaluated(exam, tmp_path / "killed", Sampler(breaks_after=17))
    rest = Sampler()
    evaluated(exam, tmp_path / "killed", rest)
    assert len(rest.asked) == 48 - 17 and texts(tmp_path / "killed") == whole
    evaluated(exam, tmp_path / "rotated", rotations=2)
    assert texts(tmp_path / "rotated").items() >= whole.items()
    evaluated(exam, tmp_path / "other", decoding=SAMPLED | {"seed": 1})
    assert texts(tmp_path / "other") != whole


def test_more_samples_ask_only_for_the_new_ones(exam: Path, tmp_path: Path) -> None:
    two = evaluated(exam, tmp_path, decoding=SAMPLED | {"samples": 2})
    before, more = texts(tmp_path), Sampler()
    four = evaluated(exam, tmp_path, more)
    assert sorted(more.asked) == sorted(f"q{item}#{number}" for item in range(12) for number in (2, 3))
    assert texts(tmp_path).items() >= before.items()
    none = Sampler()
    assert evaluated(exam, tmp_path, none, decoding=SAMPLED | {"samples": 2}).scores == two.scores
    assert none.asked == []
    [again] = stored_evaluations([tmp_path], [], QuestionPlaces())  # those beyond the second are left out
    assert again.is_finished and not again.differences.changes and again.write().scores == two.scores
    assert evaluated(exam, tmp_path).scores == four.scores


@pytest.mark.parametrize("settings", [{"decoding": "greedy"}, {"decoding": SAMPLED | {"temperature": 0.7}}])
def test_other_decoding_needs_another_output(exam: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    evaluated(exam, tmp_path)
    with pytest.raises(InputError, match="evaluated with other settings"):
        evaluated(exam, tmp_path, **settings)


def test_a_stage_forgets_samples_of_other_decoding_and_keeps_those_of_other_numbers(
    exam: Path, tmp_path: Path
) -> None:
    evaluated(exam, tmp_path)

    def task(**decoding: Any) -> Any:
        config = EvalConfig(
            benchmarks=[str(exam)], languages=["ja"], selection="all", scorers=["answer"], decoding=decoding
        )
        return tasks(config, PromptConfig(), Path("unused"))[0]

    identity, files = {"model": "m", "fingerprint": "m"}, files_of("exam.ja", tmp_path)
    forget(task(temperature=0.6, samples=8), identity, files)
    assert files.samples.exists()
    forget(task(temperature=0.7), identity, files)
    assert not files.samples.exists()


def test_shares_of_processes_have_the_same_samples(
    exam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.evaluation.sharding._agree", lambda problem, here: None)
    alone = evaluated(exam, tmp_path / "alone", decoding=SAMPLED, scorers=["answer"])
    config = EvalConfig(
        benchmarks=[str(exam)], languages=["ja"], selection="all", scorers=["answer"], decoding=SAMPLED
    )
    found, prepared = (
        tasks(config, PromptConfig(), Path("unused")),
        PreparedModel({"model": "m", "fingerprint": "m"}, Sampler),
    )
    assert evaluate_shares(found, prepared, tmp_path / "out", Rank(1, 1, 2)) == []
    [joined] = evaluate_tasks(found, prepared, tmp_path / "out")
    assert texts(tmp_path / "out") == texts(tmp_path / "alone")
    assert joined.scores == alone.scores


def test_an_unfinished_evaluation_is_scored_on_what_is_there(exam: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluated(exam, tmp_path, Sampler(breaks_after=30), scorers=["answer"])
    [stored] = stored_evaluations([tmp_path], [], QuestionPlaces())
    result = stored.write()
    assert not stored.is_finished and 0 < result.asked < 12


def test_votes_and_pass_at_k_agree_with_counting(exam: Path, tmp_path: Path) -> None:
    result = evaluated(exam, tmp_path, scorers=["answer"])
    [found] = result.samples
    rows = read_scores(tmp_path / "exam.ja.scores.jsonl")
    values = [[rows[key].item_scores["answer"] for key in keys(item)] for item in range(12)]
    for k, each in enumerate(found.pass_at, start=1):
        subsets = [any(v["correct"] for v in some) for item in values for some in combinations(item, k)]
        assert (each.k, each.value) == (k, pytest.approx(np.mean(subsets)))
        assert 0 <= each.low <= each.value <= each.high <= 1
    assert found.pass_at[0].value == pytest.approx(result.scores[0].value)
    right = 0
    for item in values:
        chosen = [tuple(v["chosen"]) for v in item if v["chosen"]]
        most = max(map(chosen.count, chosen), default=0)
        first = next((c for c in chosen if chosen.count(c) == most), None)
        right += any(v["correct"] for v in item if tuple(v["chosen"]) == first)
    assert (found.n, found.samples, found.vote) == (12, 4, pytest.approx(right / 12))
    assert (found.vote_low, found.vote_high) == wilson(right, 12)


def keys(item: int) -> list[str]:
    return [f"q{item}", *(f"q{item}#{number}" for number in (1, 2, 3))]


def answers(*chosen: int | None) -> list[AnswerItemScore]:
    return [AnswerItemScore(() if c is None else (c,), None, "label", c == 1) for c in chosen]


@pytest.mark.parametrize(
    ("chosen", "log_probs", "voted", "tied"),
    [
        ((0, 1, 1), None, 1, False),
        ((None, None, None, 2), None, 2, False),  # no answer has no vote
        ((2, 1), None, 2, True),  # the first
        ((2, 1), (-3.0, -1.0, -2.0), 1, True),  # the more probable
        ((2, 1, None), (-3.0, -1e9, -2.0), 2, True),  # a label that is not listed has no known probability
        ((0, 0, 1, 1, 2), (-1.0, -2.0, -0.5), 0, True),  # not the most probable one, which has fewer votes
    ],
)
def test_vote(chosen: tuple[int | None, ...], log_probs: tuple[float, ...] | None, voted: int, tied: bool) -> None:
    found = vote(answers(*chosen), [log_probs])
    assert found is not None and (found.item_score.chosen, found.tied) == ((voted,), tied)


def test_items_without_any_answer_have_a_vote_of_0() -> None:
    question = Question("q", "b", "ja", "", ("x", "y"), frozenset({0}))
    presented = present(question, samples=2)
    silent = {each.key: answers(None)[0] for each in presented}
    found = compare_samples("answer", presented, silent, {}, binary=True)
    assert found is not None and (found.vote, found.no_vote) == (0.0, 1)
    graded = {each.key: GradedItemScore(1.0, "compared") for each in presented}  # it reads no answer
    found = compare_samples("mention", presented, graded, {}, binary=True)
    assert found is not None and (found.vote, found.pass_at[1].value) == (None, 1.0)


def test_samples_of_the_official_rule_are_those_of_graded_items() -> None:
    items = [
        Question(f"116A{i}", "igakuqa", "ja", "", ("x", "y"), frozenset({0}), points=int(i != 3)) for i in range(1, 4)
    ]
    items[1] = replace(items[1], flags=frozenset({"every_answer_right"}))
    presented = [each for question in items for each in present(question, samples=2)]
    samples = {
        each.key: Sample(each.key, "", "", order=each.order, response="", sample_number=each.sample_number)
        for each in presented
    }
    evaluation = Evaluation(tuple(items), samples, {"answer_as": "text"}, 3)
    result = summarize(evaluation, score_samples(evaluation, scorers_named(["official"])), {})
    [accuracy], [repeated] = result.scores, result.samples
    # 116A2 earns its points without an answer, and 116A3 is not graded.
    assert (accuracy.n, accuracy.value) == (repeated.n, repeated.vote) == (2, 0.5)
    assert repeated.pass_at[0].value == 0.5
    assert [(year.n, year.value) for year in result.exam_years] == [(2, 0.5)]
    assert [outcome.n for outcome in result.exam_outcomes] == [3]


def test_groups_of_items_have_the_interval_of_the_score() -> None:
    questions = [Question(f"q{i}", "b", "ja", "", ("x", "y"), frozenset({0}), examinees_right=50) for i in range(12)]
    means = {question.id: GradedItemScore(sum(row) / 4) for question, row in zip(questions, ROWS, strict=True)}
    [group] = compare_with_examinees("answer", questions, means, binary=True, samples=4)
    assert (group.value, group.low, group.high) == (0.5625, *clustered_interval([sum(row) / 4 for row in ROWS], 4))


def test_vote_without_an_answer() -> None:
    assert vote(answers(None, None)) is None


def test_pass_at_k_is_that_of_all_subsets() -> None:
    for n in range(1, 8):
        for correct in range(n + 1):
            drawn = [True] * correct + [False] * (n - correct)
            for k in range(1, n + 1):
                brute = np.mean([any(some) for some in combinations(drawn, k)])
                assert pass_at_k(n, correct, k) == pytest.approx(brute)


# Twelve items with four samples. The standard errors are those of statsmodels 0.14: OLS on a constant with
# cov_type="cluster" by item, without and with its correction for few clusters.
ROWS = [
    *([1, 1, 1, 1],) * 4, [0, 0, 0, 0], [1, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0],
    [1, 0, 1, 0], [0, 0, 1, 0],
]  # fmt: skip


def test_the_clustered_error_is_that_of_statsmodels() -> None:
    error = clustered_error([sum(row) / 4 for row in ROWS])
    assert error == pytest.approx(0.10259226876870955)
    assert error * (12 / 11 * 47 / 47) ** 0.5 == pytest.approx(0.10715412999860344)


def test_the_clustered_interval_is_that_of_a_bootstrap_over_items() -> None:
    random_ = np.random.default_rng(3)
    chances = random_.beta(1.5, 1.0, 400)
    rows = (random_.random((400, 4)) < chances[:, None]).astype(float)
    low, high = clustered_interval(list(rows.mean(axis=1)), 4)
    draws = random_.integers(0, 400, (10_000, 400))
    bootstrap = np.percentile(rows.mean(axis=1)[draws].mean(axis=1), [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(bootstrap), abs=0.003)
    naive = wilson(int(rows.sum()), rows.size)  # as if the samples of an item were of different items
    assert high - low > 1.3 * (naive[1] - naive[0])


@pytest.mark.parametrize(("items", "alpha", "beta"), [(20, 1.0, 1.0), (20, 0.5, 4.0), (100, 8.0, 2.0)])
def test_the_clustered_interval_contains_the_true_share_as_often_as_it_says(
    items: int, alpha: float, beta: float
) -> None:
    random_ = np.random.default_rng(0)
    chances = random_.beta(alpha, beta, (1500, items))
    bounds = [clustered_interval((right / 8).tolist(), 8) for right in random_.binomial(8, chances)]
    covered = [low <= alpha / (alpha + beta) <= high for low, high in bounds]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("means", "samples", "expected"),
    [
        ([1.0, 1.0, 0.0, 1.0], 1, wilson(3, 4)),
        ([1.0, 1.0, 0.0, 1.0], 8, wilson(3, 4)),  # all samples of an item are equal: as many as items
        ([0.5, 0.5, 0.5], 2, wilson(3, 6)),  # no difference between items: as many as responses
        ([1.0, 1.0], 4, wilson(2, 2)),
        ([0.0, 0.0], 4, wilson(0, 2)),
    ],
)
def test_the_clustered_interval_is_wilsons_at_both_ends(
    means: list[float], samples: int, expected: tuple[float, float]
) -> None:
    assert clustered_interval(means, samples) == pytest.approx(expected)


def test_a_statistic_that_is_no_mean_is_drawn_by_items() -> None:
    rows = np.array([[value] for row in ROWS for value in row], dtype=float)
    value, low, high = bootstrap_statistic(rows, lambda drawn: drawn.mean(axis=(-2, -1)), samples=4)
    assert (value, low, high) == (0.5625, *bootstrap_mean([sum(row) / 4 for row in ROWS], (0, 1)))


def test_a_score_of_samples_counts_items() -> None:
    questions = [Question(f"q{i}", "b", "ja", "", ("x", "y"), frozenset({0})) for i in range(12)]
    repeated = [question for question in questions for _ in range(4)]
    values = [value for row in ROWS for value in row]
    made = score(Metric("answer", "accuracy", 0.5, 1.0), repeated, values)
    assert (made.n, made.samples, made.correct, made.value) == (12, 4, 27, 0.5625)
    assert (made.low, made.high) == clustered_interval([sum(row) / 4 for row in ROWS], 4)


def test_rotations_with_samples(exam: Path, tmp_path: Path) -> None:
    result = evaluated(exam, tmp_path, rotations=3)
    assert list(read_samples(tmp_path / "exam.ja.samples.jsonl"))[:6] == [
        "q0", "q0#1", "q0#2", "q0#3", "q0~1", "q0~1#1"
    ]  # fmt: skip
    rotated = {each.scorer: each for each in result.rotations}
    assert (rotated["answer"].n, rotated["answer"].rotations) == (12, 3)
    rows = {
        key: each.item_scores.get("answer") for key, each in read_scores(tmp_path / "exam.ja.scores.jsonl").items()
    }
    assert len(rows) == 144
    assert rotated["answer"].accuracy == pytest.approx(np.mean([row["correct"] for row in rows.values() if row]))
    # By likelihood the first place wins, so the three votes of a question are tied; the printed order decides.
    assert rotated["likelihood"].vote is not None and rotated["likelihood"].consistency == 0.0
    assert result.scores[0].samples == 4 and result.scores[0].n == 12


def test_models_with_samples_are_compared_by_the_means_of_items(exam: Path, tmp_path: Path) -> None:
    evaluated(exam, tmp_path / "a", name="a")
    evaluated(exam, tmp_path / "b", name="b", decoding="greedy")
    collected = collect([tmp_path / "a", tmp_path / "b"])
    by_scorer = {each.scorer: each for each in compare(collected)}
    assert not by_scorer["answer"].paired.binary  # a permutation test over items
    assert by_scorer["likelihood"].paired.binary  # exact McNemar
    scores = {each.result.model: each.result.scores[0].value for each in collected}
    assert by_scorer["answer"].paired.difference == pytest.approx(scores["b"] - scores["a"])


def test_truncated_scores_are_marked(exam: Path, tmp_path: Path, cli: Any) -> None:
    evaluated(exam, tmp_path / "out")
    for command in (("report", tmp_path / "out"), ("score", tmp_path / "out", "--diff")):
        code, printed, errors = cli(*command)
        assert code == 0, errors
        assert "†" in printed and "--max-new-tokens" in " ".join(printed.split())
    printed = cli("report", tmp_path / "out")[1]
    assert "12 × 4" in printed and "temperature 0.6, seed 0" in " ".join(printed.split()) and "pass@4" in printed
    html = page(found := collect([tmp_path / "out"]), {}, "t")
    card = scores([each.result for each in found], [])
    assert all("†" in text and "--max-new-tokens" in text for text in (html, card))
    assert "pass@4" in html
    _, printed, _ = cli("score", tmp_path / "out", "--json")
    [answer, *_] = json.loads(printed)["scores"]
    assert answer["is_truncated"] and answer["truncated"] / 48 > 0.02


def test_samples_without_a_scorer_that_reads_them(exam: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scorer likelihood reads no responses"):
        evaluated(exam, tmp_path, scorers=["likelihood"])


def test_an_id_like_that_of_a_sample(tmp_path: Path) -> None:
    row = {"id": "q#1", "question": "?", "choices": ["x", "y"], "answer": ["a"], "language": "ja"}
    (tmp_path / "exam.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="question q#1: # and a number"):
        evaluated(tmp_path / "exam.jsonl", tmp_path / "out")
    result = evaluated(tmp_path / "exam.jsonl", tmp_path / "out", decoding="greedy")
    assert result.asked == 1 and read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")["q#1"].question == "q#1"
