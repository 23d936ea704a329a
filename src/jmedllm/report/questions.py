"""Load the questions of results from the data directory."""

from collections.abc import Sequence
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.benchmarks.custom import ReadOptions
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.report.collect import CollectedResult

TaskQuestions = dict[tuple[str, str], dict[str, Question]]
"""(benchmark, language) → question id → question."""


def questions_of(results: Sequence[CollectedResult], data: Path, own: Sequence[Path] = ()) -> TaskQuestions:
    """Load the questions of every evaluated task, in the order of the benchmark.

    Args:
        results: results of the report.
        data: data directory.
        own: files of custom questions, matched by file name.

    Raises:
        InputError: questions are missing, or differ from those that were answered.
    """
    files = {path.stem: str(path) for path in own}
    found: TaskQuestions = {}
    for each in results:
        benchmark, language = each.task
        if each.task not in found:
            if benchmark not in BENCHMARKS and benchmark not in files:
                raise InputError(f"{benchmark} {language} is a file of your own; give it with --questions")
            split = each.result.settings["split"]
            # An evaluation from Python gets its questions as an argument, so their split is unknown.
            split = "test" if split == "given" else split
            read_options = ReadOptions.from_settings(each.result.settings)
            loaded = load(files.get(benchmark, benchmark), language, data, split, read_options)
            found[each.task] = {question.id: question for question in loaded}
        _require_same(each, found[each.task])
    return {task: _answered(task, questions, results) for task, questions in found.items()}


def _require_same(each: CollectedResult, questions: dict[str, Question]) -> None:
    hashes = {name: question_hash(question) for name, question in questions.items()}
    for id, item in each.items.items():
        if hashes.get(id) != item.question_hash:
            raise InputError(
                f"{each.result.model} was evaluated on another version of {' '.join(each.task)} than the one here "
                f"(question {id}); give the data it was evaluated on, or evaluate it again"
            )


def _answered(
    task: tuple[str, str], questions: dict[str, Question], results: Sequence[CollectedResult]
) -> dict[str, Question]:
    answered = {id for each in results if each.task == task for id in each.items}
    return {id: question for id, question in questions.items() if id in answered}
