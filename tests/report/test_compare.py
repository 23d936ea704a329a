"""Comparisons of finished evaluations: who is compared with whom, and by which scorer."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.models.backends.base import Completion, Response
from jmedllm.report.collect import collect
from jmedllm.report.compare import compare
from jmedllm.report.table import print_comparisons


class Knows:
    """A model that answers some of the items right."""

    name = "fake"

    def __init__(self, right: int, exam: Path) -> None:
        self.right = right
        self.questions = custom.read_all(exam)

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        return ""

    def answer(self, requests, generation_config):
        by_id = {question.id: question for question in self.questions}
        for index, request in enumerate(requests):
            question = by_id[request.group]
            known = int(request.group[1:]) < self.right
            text = question.gold_choices[0] if known else question.choices[-1]
            yield index, Response(Completion(text, request.prompt + text))


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    lines = [
        f'{{"id": "q{i}", "language": "{language}", "question": "{i}?", "choices": ["x", "y"], "answer": ["a"]}}'
        for language in ("ja", "en")
        for i in range(20)
    ]
    file = tmp_path / "exam.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def evaluate_task(exam: Path, output: Path, name: str, right: int, languages=("ja",), **more) -> Path:
    settings = EvalConfig(
        benchmarks=[str(exam)], languages=list(languages), scorers=["answer", "legacy"], selection="all", **more
    )
    evaluated = tasks(settings, PromptConfig(), Path("unused"))
    evaluate_tasks(evaluated, {"model": name, "fingerprint": name}, lambda: Knows(right, exam), output)
    return output


def test_two_models_on_one_task(exam: Path, tmp_path: Path) -> None:
    folders = [evaluate_task(exam, tmp_path / name, name, right) for name, right in (("a", 5), ("b", 15))]
    answer, legacy = compare(collect(folders))
    assert (answer.scorer, legacy.scorer, answer.first.name, answer.second.name) == (
        "answer",
        "legacy",
        "a ja",
        "b ja",
    )
    pair = answer.paired
    assert (pair.n, pair.only_first, pair.only_second, pair.difference) == (20, 0, 10, 0.5)
    assert pair.p == pytest.approx(2 / 2**10) and answer.p_holm == pytest.approx(2 * pair.p)
    text = io.StringIO()
    print_comparisons([answer, legacy], Console(file=text, width=120))
    assert (
        "exam ja, scorer answer\n  a → b" in text.getvalue()
        and "+50.0" in text.getvalue()
        and "0/10" in text.getvalue()
    )


def test_rotations_and_items_beyond_the_limit_are_no_items_of_their_own(exam: Path, tmp_path: Path) -> None:
    folders = []
    for name, right in (("a", 5), ("b", 15)):
        folders.append(evaluate_task(exam, tmp_path / name, name, right, rotations=2))
        evaluate_task(exam, tmp_path / name, name, right, rotations=2, limit=10)
    answer, _ = compare(collect(folders))
    assert (answer.paired.n, answer.paired.only_second, answer.paired.first, answer.paired.second) == (
        10,
        5,
        0.5,
        1,
    )


def test_japanese_against_english_of_one_model(exam: Path, tmp_path: Path) -> None:
    found = compare(collect([evaluate_task(exam, tmp_path / "a", "a", 7, ("ja", "en"))]))
    assert [(each.first.name, each.second.name, each.paired.difference, each.paired.p) for each in found] == [
        ("a ja", "a en", 0.0, 1.0)
    ] * 2


def test_other_questions_are_not_compared(exam: Path, tmp_path: Path) -> None:
    first = evaluate_task(exam, tmp_path / "a", "a", 5)
    assert compare(collect([first])) == []
    exam.write_text(exam.read_text(encoding="utf-8").replace("3?", "drei?"), encoding="utf-8")
    second = evaluate_task(exam, tmp_path / "b", "b", 5)
    with pytest.raises(InputError, match="a and b were evaluated on different versions of exam ja"):
        compare(collect([first, second]))
