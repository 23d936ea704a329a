"""Evaluation from Python, reading like the command line.

from jmedllm.api import evaluate, load, open_model

model = open_model("models/qwen2-7b")
result = evaluate(model, load("igakuqa", "ja", data="data"), scorers=["answer", "likelihood"], output="results/qwen2")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load as load_questions
from jmedllm.evaluation.evaluate import EvalConfig, chat_template, evaluate_tasks, model_settings, require_known
from jmedllm.evaluation.prompts.format import PromptConfig, prepare
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorable import judgeable
from jmedllm.evaluation.selection import default_selection, select
from jmedllm.evaluation.task import EvalResult, EvalTask
from jmedllm.files import to_json
from jmedllm.models.adapters import quantization_of
from jmedllm.models.backends.base import InferenceModel
from jmedllm.models.chat import ChatText
from jmedllm.models.folder import Quantization
from jmedllm.precision import DeviceName, PrecisionName, choose_precision
from jmedllm.settings import from_options

__all__ = ["EvalResult", "Opened", "evaluate", "load", "open_model"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model with all that stands for it in records: name, fingerprint, precision.

    Attributes:
        folder: the model directory, whose chat template questions by chat go through; None for a model that is
            given chat turns as JSON, as a server is.
        adapter: the adapter on it, which may bring a chat template of its own.
    """

    model: InferenceModel
    settings: dict[str, Any]
    folder: Path | None = None
    adapter: Path | None = None


def load(
    benchmark: str, language: str, *, data: str | Path = "data", selection: str | None = None, split: str = "test"
) -> list[Question]:
    """Questions of a benchmark, or of your own file, in one language.

    Args:
        benchmark: name, or path of a file.
        language: "ja" or "en".
        data: data directory.
        selection: all, graded (the default for a file) or legacy (the default for a benchmark).
        split: which part of the benchmark.

    Raises:
        InputError: a name is unknown, or the files are missing or wrong.
    """
    questions = load_questions(benchmark, language, Path(data), split)
    return select(questions, selection or default_selection(benchmark))


def open_model(
    folder: str | Path,
    *,
    adapter: str | Path | None = None,
    ignore_adapter: bool = False,
    name: str | None = None,
    quantization: Quantization | None = None,
    precision: PrecisionName = "auto",
    device: DeviceName = "auto",
) -> Opened:
    """Load a model directory, with or without an adapter.

    Raises:
        InputError: it cannot be used.
    """
    from jmedllm.models.backends.transformers.model import load_model

    path, beside = Path(folder), None if adapter is None else Path(adapter)
    chosen = choose_precision(precision, device)
    held = quantization or (quantization_of(beside) if beside else "none")
    settings = model_settings(
        path, chosen, name=name or path.name, adapter=beside, ignore_adapter=ignore_adapter, quantization=held
    )
    return Opened(load_model(path, chosen, adapter=beside, name=name, quantization=held), settings, path, beside)


def evaluate(
    opened: Opened,
    questions: Sequence[Question],
    *,
    output: str | Path,
    scorers: Sequence[str] = ("answer", "likelihood"),
    prompt: str = "instruction",
    data: str | Path = "data",
    **settings: Any,
) -> EvalResult:
    """Let a model sit questions of one benchmark and language; a second call goes on in `output`.

    Args:
        opened: see `open_model`; or any `InferenceModel` with the settings that stand for it.
        questions: at least one.
        output: directory of the records.
        scorers: names from `jmedllm.evaluation.scorers.SCORERS`.
        prompt: prompt pack; the other settings as in a recipe's prompt section.
        data: data directory, for the published prompts.
        settings: others of an exam: `max_new_tokens`, `shuffle`, `rotations`, `skip_invalid`; or of the prompt.

    Raises:
        InputError: a setting is wrong, the questions are not of one paper, no track can judge one of them, or see
            `jmedllm.evaluation.task.evaluate`.
    """
    _require_task(questions)
    asked = {name: settings.pop(name) for name in PromptConfig.model_fields if name in settings and name != "pack"}
    if others := settings.keys() - {"max_new_tokens", "shuffle", "rotations", "skip_invalid"}:
        raise InputError(f"sit has no setting {sorted(others)[0]}; choose the questions before, with load or a slice")
    exam = from_options(EvalConfig, benchmarks=[questions[0].benchmark], scorers=list(scorers), **settings)
    require_known(exam.model_copy(update={"benchmarks": []}))
    judged = judgeable(questions, exam.scorers)
    if not judged.questions:
        raise InputError(f"{', '.join(exam.scorers)} can judge none of these questions; choose another track")
    task = EvalTask(
        judged.questions,
        len(judged.questions),
        prepare(from_options(PromptConfig, pack=prompt, **asked), Path(data)),
        tuple(exam.scorers),
        selection="given",
        split="given",
        max_new_tokens=exam.max_new_tokens,
        shuffle=exam.shuffle,
        rotations=exam.rotations,
        left_out=judged.left_out,
        skip_invalid=exam.skip_invalid,
    )
    if opened.folder is None and (task.prompt_format.variables or task.prompt_format.date):
        raise InputError("chat_template_kwargs and date need a model directory, whose template reads them")
    chat_text: ChatText = to_json
    template = chat_template([task], opened.folder, Path(output), opened.adapter) if opened.folder else None
    described = opened.settings
    if template is not None:
        chat_text, described = template.prompt, described | template.settings()
    return evaluate_tasks([task], described, lambda: opened.model, Path(output), chat_text)[0]


def _require_task(questions: Sequence[Question]) -> None:
    tasks = sorted({f"{question.benchmark} {question.language}" for question in questions})
    if len(tasks) != 1:
        raise InputError(f"sit takes questions of one benchmark and language, not {' and '.join(tasks) or 'none'}")
    if len({question.id for question in questions}) != len(questions):
        raise InputError("a question is given twice; give each once")
