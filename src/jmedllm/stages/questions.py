"""The questions of a run: training questions, and benchmark items that the training data must not contain."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jmedllm.corpus.train_test_overlap import require_no_benchmark_items, require_no_benchmark_items_in_texts
from jmedllm.data.installed import installed_tests, test_questions
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom, load
from jmedllm.evaluation.benchmarks.custom import DEFAULT_READ_OPTIONS
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.evaluate import split_language
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.selection import WRONG, select_text_only
from jmedllm.progress import notice
from jmedllm.stages.canary import instruction_file
from jmedllm.stages.stage import Run
from jmedllm.training.instructions import read_instruction_file, read_instructions


def training_questions(run: Run) -> Iterator[tuple[str, Question]]:
    """Yield the questions that stage 2 trains on, each with its benchmark or file in the recipe.

    Raises:
        InputError: questions are missing or invalid.
    """
    for source in run.recipe.mpeft.questions if run.recipe.mpeft else ():
        for language in source.languages:
            loaded = load(source.benchmark, language, run.data, source.split, source.read_options)
            for question in select_text_only(loaded, source.selection).questions:
                yield source.benchmark, question


def _training_texts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield name and full text of each instruction that stage 2 trains on."""
    mpeft = run.recipe.mpeft
    for file in mpeft.instructions if mpeft else ():
        for item in read_instructions(
            instruction_file(run, file), mpeft.read_options if mpeft else DEFAULT_READ_OPTIONS
        ):
            yield item.name, item.text


def left_out_of_training(run: Run) -> dict[str, dict[str, int]]:
    """Count the questions and instructions that stage 2 leaves out, by source and reason."""
    mpeft = run.recipe.mpeft
    found: dict[str, dict[str, int]] = {}
    for source in mpeft.questions if mpeft else ():
        for language in source.languages:
            loaded = load(source.benchmark, language, run.data, source.split, source.read_options)
            found[f"{source.benchmark} {language}"] = select_text_only(loaded, source.selection).left_out
        if is_custom_file(source.benchmark):
            wrong = len(custom.read_file(Path(source.benchmark), source.read_options).skipped)
            found[source.benchmark] = {WRONG: wrong} if wrong else {}
    for file in mpeft.instructions if mpeft else ():
        wrong = read_instruction_file(Path(file), mpeft.read_options if mpeft else DEFAULT_READ_OPTIONS).skipped
        found[file] = {WRONG: wrong} if wrong else {}
    return {name: left_out for name, left_out in found.items() if left_out}


def notes_on_training(run: Run) -> tuple[str, ...]:
    """Return notes on how custom training files were read."""
    mpeft = run.recipe.mpeft
    if mpeft is None:
        return ()
    custom_sources = [source for source in mpeft.questions if is_custom_file(source.benchmark)]
    questions = [custom.read_file(Path(source.benchmark), source.read_options).notes for source in custom_sources]
    files = [read_instruction_file(Path(file), mpeft.read_options).notes for file in mpeft.instructions]
    return tuple(note for notes in (*questions, *files) for note in notes)


def require_no_train_test_overlap(run: Run) -> dict[str, int]:
    """Check that stage 2 trains on no benchmark item; print a notice if there are no benchmark items to compare with.

    Returns:
        Number of benchmark items that the training data were compared with, by benchmark.

    Raises:
        InputError: it does; the message names questions or instructions with their items.
    """
    mpeft, items = run.recipe.mpeft, list(benchmark_questions(run))
    if mpeft and mpeft.questions:
        require_no_benchmark_items((question for _, question in training_questions(run)), items)
    if mpeft and mpeft.instructions:
        require_no_benchmark_items_in_texts(_training_texts(run), items)
    if mpeft and not items:
        notice(
            f"training data were not compared with any benchmark: {run.data}/ has none; "
            "get them with `jmedllm data get`, or set data: in the recipe"
        )
    return dict(Counter(question.benchmark for question in items))


def benchmark_questions(run: Run) -> Iterator[Question]:
    """Yield all test questions on this disk, and those of the recipe's benchmarks that are not among them.

    Raises:
        InputError: a benchmark is incomplete or invalid, or a benchmark of the recipe is not on disk.
    """
    yield from test_questions(run.data)
    if run.recipe.eval is None:
        return
    section, known = run.recipe.eval, set(installed_tests(run.data))
    for entry in section.benchmarks:
        name, chosen = split_language(entry)
        if is_custom_file(name):
            yield from custom.read_all(Path(name), section.read_options)
            continue
        for language in BENCHMARKS[name].languages:
            if language in (chosen or section.languages) and (name, language) not in known:
                yield from load(name, language, run.data, section.split)
