"""Load the questions of results from the data directory."""

from collections.abc import Sequence

from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.evaluation.stored_questions import QuestionPlaces, load_questions, require_evaluated
from jmedllm.report.collect import CollectedResult

TaskQuestions = dict[tuple[str, str], dict[str, Question]]
"""(benchmark, language) → question id → question."""


def questions_of(results: Sequence[CollectedResult], places: QuestionPlaces) -> TaskQuestions:
    """Load the questions of every evaluated task, in the order of the benchmark.

    Args:
        results: results of the report.
        places: where the questions are now.

    Raises:
        InputError: questions are missing, or differ from those that were answered.
    """
    require_evaluated(places.custom, (each.task[0] for each in results))
    found: TaskQuestions = {}
    for each in results:
        if each.task not in found:
            found[each.task] = load_questions(each.result.settings, each.result.source, places)
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
