"""Evaluation from Python.

from jmedllm.api import evaluate, load, open_model, score

model = open_model("models/qwen2-7b")
result = evaluate(model, load("igakuqa", "ja", data="data"), scorers=["answer", "likelihood"], output="results/qwen2")
[result] = score("results/qwen2", scorers=["legacy"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load as load_questions
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, require_known, require_sampled
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.model import (
    as_shown,
    chat_template,
    check_pictures,
    model_settings,
    requirements_of_tasks,
    with_quantization,
)
from jmedllm.evaluation.prompts.format import PromptConfig, prepare
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.rescore import stored_evaluations
from jmedllm.evaluation.response_config import response_config, with_responses
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.scorable import cannot_score, scorable
from jmedllm.evaluation.selection import default_selection, select
from jmedllm.evaluation.stored_questions import QuestionPlaces
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import to_json
from jmedllm.models.backends import open_model as open_with_backend
from jmedllm.models.backends import require_backend, requirements_of
from jmedllm.models.backends.base import DEFAULT_BACKEND, InferenceModel, ModelSpec
from jmedllm.models.chat import ChatText
from jmedllm.models.folder import Quantization
from jmedllm.precision import DeviceName, PrecisionName, choose_precision
from jmedllm.settings import from_options

__all__ = ["EvalResult", "Opened", "evaluate", "load", "open_model", "score"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded model with the settings that identify it in records: name, fingerprint, precision.

    Attributes:
        model: the loaded model.
        settings: settings that identify the model.
        spec: specification of the model, for its chat template; None for a model that takes chat messages as JSON.
    """

    model: InferenceModel
    settings: dict[str, Any]
    spec: ModelSpec | None = None


def load(
    benchmark: str, language: str, *, data: str | Path = "data", selection: str | None = None, split: str = "test"
) -> list[Question]:
    """Load the questions of a benchmark, or of a file with your own questions, in one language.

    Args:
        benchmark: name, or path of a file.
        language: "ja" or "en".
        data: data directory.
        selection: all, graded (the default for a file) or legacy (the default for a benchmark).
        split: split of the benchmark.

    Raises:
        InputError: a name is unknown, or the files are missing or invalid.
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
    dequantize: bool = False,
    precision: PrecisionName = "auto",
    device: DeviceName = "auto",
    backend: str = DEFAULT_BACKEND,
) -> Opened:
    """Load a model directory, with or without an adapter.

    With `dequantize`, weights that are stored quantized are loaded in bfloat16.

    Raises:
        InputError: the model or the adapter cannot be used.
    """
    path, beside = Path(folder), None if adapter is None else Path(adapter)
    chosen = choose_precision(precision, device)
    spec = ModelSpec(
        str(path), name or path.name, backend, precision=chosen, adapter=beside, ignore_adapter=ignore_adapter,
        quantization=quantization, dequantize=dequantize,
    )  # fmt: skip
    spec = with_quantization(spec)
    require_backend(backend, requirements_of(spec))
    settings = model_settings(spec)
    return Opened(open_with_backend(spec), settings, spec)


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
    """Evaluate a model on questions of one benchmark and language; a second call resumes in `output`.

    Args:
        opened: model from `open_model`, or any `InferenceModel` with the settings that identify it.
        questions: at least one question.
        output: directory of samples and scores, see docs/evaluation/reference.md.
        scorers: names from `jmedllm.evaluation.scorers.SCORERS`.
        prompt: prompt pack.
        data: data directory, for the published prompts.
        settings: other settings of the recipe sections `eval` (`max_new_tokens`, `thinking_budget`, `decoding`,
            `shuffle`, `rotations`, `skip_invalid`, `images`) and `prompt`.

    Raises:
        InputError: a setting is invalid, the questions are not of one benchmark and language, no scorer can score any
            of them, or see `jmedllm.evaluation.evaluate_task.evaluate_task`.
    """
    _require_task(questions)
    asked = {name: settings.pop(name) for name in PromptConfig.model_fields if name in settings and name != "pack"}
    if others := settings.keys() - _SETTINGS:
        raise InputError(f"evaluate has no setting {sorted(others)[0]}; choose the questions with load or a slice")
    config = from_options(EvalConfig, benchmarks=[questions[0].benchmark], scorers=list(scorers), **settings)
    require_known(config.model_copy(update={"benchmarks": []}))
    judged = scorable(questions, config.scorers)
    require_sampled(judged.questions, config)
    if not judged.questions:
        raise cannot_score(", ".join(config.scorers), questions)
    prompt_config = from_options(PromptConfig, pack=prompt, **asked)
    task = EvalTask(
        judged.questions,
        len(judged.questions),
        prepare(prompt_config, Path(data)),
        tuple(config.scorers),
        selection="given",
        split="given",
        max_new_tokens=config.max_new_tokens,
        thinks=prompt_config.chat and prompt_config.thinking == "on",
        decoding=config.decoding,
        samples=config.decoding.samples,
        thinking_budget=config.thinking_budget,
        shuffle=config.shuffle,
        rotations=config.rotations,
        left_out=judged.left_out,
        skip_invalid=config.skip_invalid,
        images=config.images,
        source={"data": str(data)},
    )
    needs_template = [*prompt_config.shaping_the_template, *(["thinking_budget"] if config.thinking_budget else [])]
    if opened.spec is None and needs_template:
        raise InputError(f"{needs_template[0]} needs a model directory with a chat template")
    chat_text: ChatText = to_json
    template = chat_template([task], opened.spec, Path(output)) if opened.spec else None
    described = opened.settings
    if template is not None:
        chat_text, described = template.prompt, described | template.settings()
    marker, responses = None, None
    if opened.spec is not None:
        marker = check_pictures([task], opened.spec)
        responses = response_config([task], opened.spec, template)
        require_backend(opened.spec.backend, requirements_of_tasks([with_responses(task, responses)]))
    elif config.decoding.recommended:
        raise InputError("decoding: recommended needs a model directory; give values, such as temperature")
    model = PreparedModel(described, lambda: opened.model, chat_text, image_marker=marker, responses=responses)
    return evaluate_tasks([as_shown(task, model)], model, Path(output))[0]


def score(
    *folders: str | Path,
    scorers: Sequence[str] = (),
    data: str | Path | None = None,
    questions: Sequence[str | Path] = (),
) -> list[EvalResult]:
    """Score stored evaluations again, without any model, and write the scores of those that are finished.

    Args:
        folders: output directories of evaluations or runs.
        scorers: scorers to add to those of each evaluation.
        data: data directory; None for the one that each evaluation used.
        questions: files of your own questions that have been moved, matched by file name.

    Returns:
        One result for each evaluation; of an unfinished one, on the items that it has.

    Raises:
        InputError: see `jmedllm.evaluation.rescore.stored_evaluations`.
    """
    data, custom = None if data is None else Path(data), [Path(file) for file in questions]
    stored = stored_evaluations(map(Path, folders), scorers, QuestionPlaces(data, custom))
    return [each.write() for each in stored]


_SETTINGS = {"max_new_tokens", "thinking_budget", "decoding", "shuffle", "rotations", "skip_invalid", "images"}
"""Settings of the recipe section `eval` that apply to given questions and an opened model."""


def _require_task(questions: Sequence[Question]) -> None:
    tasks = sorted({f"{question.benchmark} {question.language}" for question in questions})
    if len(tasks) != 1:
        raise InputError(f"give questions of one benchmark and language, not {' and '.join(tasks) or 'none'}")
    if len({question.id for question in questions}) != len(questions):
        raise InputError("a question is given twice; give each once")
