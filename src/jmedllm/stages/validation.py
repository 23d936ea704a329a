"""What the training stages are evaluated on: held-out texts and a small exam, as the recipe asks for."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.readers.read import read_documents
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import ExamSettings, papers
from jmedllm.evaluation.question import LANGUAGES
from jmedllm.evaluation.task import Paper
from jmedllm.files import hash_text, to_json
from jmedllm.pipeline import Run
from jmedllm.stages.corpus import read_corpus, read_general, read_held_out
from jmedllm.training.early_stopping import BITS, EXAM, Watch, require_measured
from jmedllm.training.holding import OTHER, Evaluate, chosen
from jmedllm.training.mixing import GENERAL

Texts = dict[str, list[str]]
"""Held-out texts of each set, Japanese first."""


def evaluation_inputs(run: Run) -> dict[str, Any]:
    """All that the evaluations of a stage depend on, as plain values; nothing where there are none."""
    settings = run.recipe.evaluate
    if settings is None:
        return {}
    sat = [paper.settings() | {"questions": paper.questions_hash()} for paper in _papers(run, settings)]
    texts = {name: hash_text(to_json(each)) for name, each in held_out_texts(run, settings).items()}
    chat = run.prompting.model_dump(include={"date", "chat_template_kwargs"}) if run.prompting.chat else {}
    return {"evaluate": settings.model_dump() | {"texts": texts, "exam": sat} | (chat if sat else {})}


def require_measurable(run: Run, watch: Watch) -> None:
    """Check, before a corpus is made, that what the best weights are chosen by can be measured.

    Raises:
        InputError: a name in `watch.best_by` is none of the recipe's sets or exams.
    """
    settings = run.recipe.evaluate
    if settings is None:
        return
    sets = {*settings.texts, *((*LANGUAGES, OTHER, GENERAL) if settings.held_out else ())}
    papers = [paper.name for paper in _papers(run, settings)]
    require_measured(watch, [*(f"{BITS}.{name}" for name in sets), *(f"{EXAM}.{name}" for name in papers)])


def open_evaluation(run: Run, tokenizer: Any, window: int) -> Any:
    """The evaluation the recipe asks for, with texts in windows of so many tokens; None where it asks for none.

    Raises:
        InputError: texts or questions are missing, or a text is trained on.
    """
    from jmedllm.training.quiz import make_quiz
    from jmedllm.training.validation import Evaluation, text_set

    settings = run.recipe.evaluate
    if settings is None:
        return None
    sets = {
        name: text_set(tokenizer, name, texts, window) for name, texts in held_out_texts(run, settings).items()
    }
    sat = _papers(run, settings)
    quiz = make_quiz(sat, tokenizer, run.precision) if sat else None
    return Evaluation(sets, tuple(paper.name for paper in sat), quiz)


def held_out_texts(run: Run, settings: Evaluate) -> Texts:
    """The texts of each set, at most `settings.bytes` of each.

    Raises:
        InputError: a set is empty, or holds a text that is trained on.
    """
    found: Texts = defaultdict(list)
    for name, document in read_held_out(run):
        found[name].append(document.text)
    trained = {hash_text(document.text) for document in chain(read_corpus(run), read_general(run))}
    for name, places in settings.texts.items():
        for document in (each for place in places for each in read_documents(Path(place))):
            # The corpus is clean; what is evaluated is as the user wrote it.
            if not trained.isdisjoint(map(hash_text, (document.text, clean(document.text).text))):
                raise InputError(
                    f"evaluate.texts.{name}: {document.id} is in the corpus, too; take it out of one of the two"
                )
            if document.text.strip():
                found[name].append(document.text)
    for name in settings.texts:
        if not found[name]:
            raise InputError(f"evaluate.texts.{name}: holds no text; give files that do")
    if settings.held_out and not found:
        raise InputError(f"evaluate.held_out {settings.held_out}: no document fell into it; raise it")
    return {name: chosen(found[name], settings.bytes) for name in sorted(found, key=_order)}


def _order(name: str) -> tuple[int, str]:
    first: Sequence[str] = ("ja", "en", "general")
    return (first.index(name) if name in first else len(first), name)


def _papers(run: Run, settings: Evaluate) -> list[Paper]:
    if not settings.exam:
        return []
    exam = ExamSettings(
        benchmarks=settings.exam,
        tracks=["likelihood"],
        selection="graded",
        split=settings.split,
        limit=settings.limit,
    )
    return papers(exam, run.prompting, run.data)
