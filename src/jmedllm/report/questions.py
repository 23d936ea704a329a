"""The questions that sittings answered, found again in the data directory."""

from collections.abc import Sequence
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.benchmarks.custom import Reading
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.report.collect import CollectedResult

Papers = dict[tuple[str, str], dict[str, Question]]
"""By benchmark and language, the questions by id."""


def questions_of(sat: Sequence[CollectedResult], data: Path, own: Sequence[Path] = ()) -> Papers:
    """The questions of every paper that was sat, in the order of the benchmark.

    Args:
        own: users' own exams, which are known by their files' names.

    Raises:
        InputError: they are not there, or are not those that were answered.
    """
    files = {path.stem: str(path) for path in own}
    found: Papers = {}
    for each in sat:
        benchmark, language = each.task
        if each.task not in found:
            if benchmark not in BENCHMARKS and benchmark not in files:
                raise InputError(f"{benchmark} {language} is an exam of your own: name its file with --questions")
            split = each.result.settings["split"]
            # A sitting from Python is given its questions and does not know of which split they are.
            split = "test" if split == "given" else split
            reading = Reading.of(each.result.settings)
            loaded = load(files.get(benchmark, benchmark), language, data, split, reading)
            found[each.task] = {question.id: question for question in loaded}
        _require_same(each, found[each.task])
    return {task: _answered(task, questions, sat) for task, questions in found.items()}


def _require_same(each: CollectedResult, questions: dict[str, Question]) -> None:
    hashes = {name: question_hash(question) for name, question in questions.items()}
    for record in each.records.values():
        if hashes.get(record.id) != record.question_hash:
            raise InputError(
                f"{each.result.model} sat another version of {' '.join(each.task)} than the one here "
                f"(question {record.id}); give the data it sat, or sit it again"
            )


def _answered(
    task: tuple[str, str], questions: dict[str, Question], sat: Sequence[CollectedResult]
) -> dict[str, Question]:
    answered = {name for each in sat if each.task == task for name in each.records}
    return {name: question for name, question in questions.items() if name in answered}
