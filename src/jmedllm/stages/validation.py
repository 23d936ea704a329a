"""Validation of the training stages: held-out texts and small benchmarks."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.readers.reader import read_documents
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.question import LANGUAGES
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import hash_text, to_json
from jmedllm.progress import notice
from jmedllm.stages.corpus import read_corpus, read_general, read_held_out
from jmedllm.stages.stage import Run
from jmedllm.training.config import ValidationConfig
from jmedllm.training.early_stopping import ACCURACY, BITS_PER_BYTE, EarlyStopping, require_measured
from jmedllm.training.mixing import GENERAL, OTHER, choose_texts

Texts = dict[str, list[str]]
"""Held-out texts of each set, Japanese first."""


def validation_inputs(run: Run) -> dict[str, Any]:
    """Return everything that validation depends on, as plain values; empty without validation."""
    settings = run.recipe.validation
    if settings is None:
        return {}
    evaluated = [task.settings() | {"questions": task.questions_hash()} for task in _tasks(run, settings)]
    texts = {name: hash_text(to_json(each)) for name, each in held_out_texts(run, settings).items()}
    chat = run.prompt_config.shaping_the_template if run.prompt_config.chat else {}
    return {
        "validation": settings.model_dump() | {"texts": texts, "benchmarks": evaluated} | (chat if evaluated else {})
    }


def require_measurable(run: Run, early_stopping: EarlyStopping) -> None:
    """Check that the metrics of `early_stopping` are measured, before a corpus is built.

    Raises:
        InputError: a name in `early_stopping.metric` is not a text set or benchmark of the recipe.
    """
    settings = run.recipe.validation
    if settings is None:
        return
    sets = {*settings.texts, *((*LANGUAGES, OTHER, GENERAL) if settings.held_out else ())}
    tasks = [task.name for task in _tasks(run, settings)]
    require_measured(
        early_stopping, [*(f"{BITS_PER_BYTE}.{name}" for name in sets), *(f"{ACCURACY}.{name}" for name in tasks)]
    )


def require_validation_texts(run: Run) -> None:
    """Check that the texts of each validation set exist and are not empty, before a corpus is built.

    Raises:
        InputError: a file is missing, or a set has no text.
    """
    for name, places in (run.recipe.validation.texts if run.recipe.validation else {}).items():
        documents = (document for place in places for document in read_documents(Path(place)))
        if not any(document.text.strip() for document in documents):
            raise _no_text(name)


def _no_text(name: str) -> InputError:
    return InputError(f"validation.texts.{name}: has no text; give files that have some")


def open_validation(run: Run, tokenizer: Any, window: int) -> Any:
    """Open the recipe's validation, with texts in windows of `window` tokens; None without validation.

    Raises:
        InputError: texts or questions are missing, or a text is also in the training data.
    """
    from jmedllm.training.validation import Validation, make_in_loop_eval, text_set

    settings = run.recipe.validation
    if settings is None:
        return None
    sets = {name: text_set(tokenizer, name, texts, window) for name, texts in held_out_texts(run, settings).items()}
    evaluated = _tasks(run, settings)
    in_loop_eval = make_in_loop_eval(evaluated, tokenizer, run.precision) if evaluated else None
    return Validation(sets, tuple(task.name for task in evaluated), in_loop_eval)


def held_out_texts(run: Run, settings: ValidationConfig) -> Texts:
    """Read the texts of each set, at most `settings.max_bytes` per set.

    Raises:
        InputError: a set is empty, or contains a text of the training data.
    """
    found: Texts = defaultdict(list)
    for name, document in read_held_out(run):
        found[name].append(document.text)
    trained = {hash_text(document.text) for document in chain(read_corpus(run), read_general(run))}
    for name, places in settings.texts.items():
        for document in (each for place in places for each in read_documents(Path(place))):
            # Training documents are cleaned, so clean validation texts before comparing.
            if not trained.isdisjoint(map(hash_text, (document.text, clean(document.text).text))):
                raise InputError(
                    f"validation.texts.{name}: {document.id} is in the corpus, too; take it out of one of the two"
                )
            if document.text.strip():
                found[name].append(document.text)
    for name in settings.texts:
        if not found[name]:
            raise _no_text(name)
    if settings.held_out and not found:
        raise InputError(f"validation.held_out {settings.held_out}: no document fell into it; raise it")
    return {name: choose_texts(found[name], settings.max_bytes) for name in sorted(found, key=_order)}


def _order(name: str) -> tuple[int, str]:
    first: Sequence[str] = ("ja", "en", "general")
    return (first.index(name) if name in first else len(first), name)


def _tasks(run: Run, settings: ValidationConfig) -> list[EvalTask]:
    if not settings.benchmarks:
        return []
    config = EvalConfig(
        benchmarks=settings.benchmarks,
        scorers=["likelihood"],
        selection="graded",
        split=settings.split,
        limit=settings.limit,
    )
    return [without_pictures(task) for task in tasks(config, run.prompt_config, run.data)]


def without_pictures(task: EvalTask) -> EvalTask:
    """Leave out questions with pictures, because a model in training is asked text only."""
    kept = tuple(question for question in task.questions if not question.images)
    if len(kept) == len(task.questions):
        return task
    if not kept:
        raise InputError(f"validation: all questions of {task.name} show pictures; choose another benchmark")
    notice(f"validation: {task.name}: {task.with_images:,} of {len(task.questions):,} items have pictures, left out")
    return replace(task, questions=kept)
