"""The exam items that no text of a run may give away."""

from collections.abc import Iterator
from pathlib import Path

from jmedllm.data.installed import installed_tests, test_questions
from jmedllm.exam.benchmarks import BENCHMARKS, load, own
from jmedllm.exam.examine import split_language
from jmedllm.exam.question import Question
from jmedllm.run import Run


def exam_questions(run: Run) -> Iterator[Question]:
    """All test questions on this disk, and those of the recipe's exam that are not among them.

    Raises:
        InputError: a benchmark is there in part or wrong, or the recipe's exam is not on disk.
    """
    yield from test_questions(run.data)
    if run.recipe.exam is None:
        return
    exam, known = run.recipe.exam, set(installed_tests(run.data))
    for entry in exam.benchmarks:
        name, chosen = split_language(entry)
        if name.endswith(".jsonl"):
            yield from own.read_all(Path(name))
            continue
        for language in BENCHMARKS[name].languages:
            if language in (chosen or exam.languages) and (name, language) not in known:
                yield from load(name, language, run.data, exam.split)
