"""Load the questions of results from the data directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.benchmarks.custom import ReadOptions
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.report.collect import CollectedResult

TaskQuestions = dict[tuple[str, str], dict[str, Question]]
"""(benchmark, language) → question id → question."""


def questions_of(results: Sequence[CollectedResult], data: Path | None, custom: Sequence[Path] = ()) -> TaskQuestions:
    """Load the questions of every evaluated task, in the order of the benchmark.

    Args:
        results: results of the report.
        data: data directory; None for the one that each evaluation used.
        custom: files of custom questions that have been moved, matched by file name.

    Raises:
        InputError: questions are missing, or differ from those that were answered.
    """
    files = {path.stem: str(path) for path in custom}
    found: TaskQuestions = {}
    for each in results:
        benchmark, language = each.task
        if each.task not in found:
            source = each.result.source
            name = _name_of(benchmark, source, files)
            split = each.result.settings["split"]
            # An evaluation from Python gets its questions as an argument, so their split is unknown.
            split = "test" if split == "given" else split
            read_options = ReadOptions.from_settings(each.result.settings)
            loaded = load(name, language, data or Path(source.get("data", "data")), split, read_options)
            found[each.task] = {question.id: question for question in loaded}
        _require_same(each, found[each.task])
    return {task: _answered(task, questions, results) for task, questions in found.items()}


def _name_of(benchmark: str, source: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Return the file of custom questions, or the name of a benchmark."""
    name = files.get(benchmark) or (benchmark if benchmark in BENCHMARKS else source.get("file"))
    if name is None or (name != benchmark and not Path(name).exists()):
        where = "" if name is None else f"{name}: no such file; "
        raise InputError(f"{where}{benchmark} has your own questions; give their file with --questions")
    return name


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
