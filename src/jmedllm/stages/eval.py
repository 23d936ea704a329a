"""Stage eval: the models of the run are evaluated on the same benchmarks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.evaluation.evaluate import evaluate_model, tasks
from jmedllm.evaluation.evaluate_task import forget
from jmedllm.evaluation.exam_years import RELEASED
from jmedllm.evaluation.generate import generation_config, requests_of
from jmedllm.evaluation.judge import Judge, prepare_judge, require_judge
from jmedllm.evaluation.model import (
    chat_template,
    check_pictures,
    image_marker_of,
    model_settings,
    requirements_of_tasks,
    with_marker,
)
from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.response_config import response_config, with_responses
from jmedllm.evaluation.resume import files_of
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import hash_text, to_json
from jmedllm.manifest import BASE
from jmedllm.models.backends import backend_named, require_backend, requirements_of
from jmedllm.models.backends.base import ContextLimit, ModelSpec, Requirement
from jmedllm.models.chat import ChatTemplate, ChatText, no_template
from jmedllm.models.folder import fingerprint
from jmedllm.models.weights.quantization import require_runnable
from jmedllm.processes import is_main_process, wait
from jmedllm.progress import notice
from jmedllm.recipe import EvalSection
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.stage import (
    Outputs,
    Run,
    Stage,
    base_folder,
    in_section,
    model_before,
    model_folder,
    model_names,
    own_folder,
    yielding,
)


@dataclass(frozen=True, kw_only=True)
class EvalOutputs(Outputs):
    """Outputs of the eval stage.

    Attributes:
        results: hash of the results of each model.
    """

    results: dict[str, str]


def _settings(run: Run) -> EvalSection:
    assert run.recipe.eval is not None
    return run.recipe.eval


def _models(run: Run) -> Sequence[str]:
    return _settings(run).models or model_names(run.stages, run.recipe)


def _inputs(run: Run) -> dict[str, Any]:
    settings, models = _settings(run), _models(run)
    evaluated = tasks(settings, run.prompt_config, run.data)
    found = {name: _template(run, evaluated, name) for name in models} if run.prompt_config.chat else {}
    templates = {name: template.settings() if template else {} for name, template in found.items()}
    return {
        "models": {name: _fingerprint(run, name) for name in models},
        **({"templates": templates} if templates else {}),
        "tasks": [task.settings() | {"questions": task.questions_hash()} for task in evaluated],
        "precision": run.precision.name,
        "backend": settings.backend,
        **({"released": run.recipe.base.released} if run.recipe.base.released else {}),
        **({"judge": settings.judge} if settings.judge is not None else {}),
        **({"quantization": settings.quantization} if settings.quantization != "none" else {}),
    }


def _parts(run: Run, name: str) -> tuple[Path, Path | None]:
    """Return the directory of a model, and its adapter if it is not merged.

    In 4 bits the adapter stays unmerged, because quantizing a merged model would round it once more than in training.
    """
    for _, model in yielding(run.stages, run.recipe):
        if model.name == name and model.adapter and model.adapter_base and _settings(run).quantization != "none":
            return model_before(run, model.adapter_base), run.folder / model.adapter
    return model_folder(run, name), None


def _fingerprint(run: Run, name: str) -> str:
    model, adapter = _parts(run, name)
    return fingerprint(model) if adapter is None else f"{fingerprint(model)} {fingerprint(adapter)}"


def _spec(run: Run, name: str) -> ModelSpec:
    """Return the specification of the model with this name."""
    settings = _settings(run)
    model, adapter = _parts(run, name)
    return ModelSpec(
        str(model),
        name,
        settings.backend,
        precision=run.precision,
        adapter=adapter,
        ignore_adapter=run.recipe.base.ignore_adapter and model == base_folder(run),
        quantization=settings.quantization,
        batch_size=settings.batch_size,
    )


def _template(run: Run, evaluated: Sequence[EvalTask], name: str) -> ChatTemplate | None:
    """Return a model's chat template; None if the prompts do not use it."""
    return chat_template(evaluated, _spec(run, name), run.folder / "eval" / name)


def _with_release(run: Run, evaluated: Sequence[EvalTask]) -> Sequence[EvalTask]:
    """Add the day on which the base was released, which reports compare with the years of exams."""
    day = run.recipe.base.released
    return [replace(task, source=task.source | {RELEASED: day}) for task in evaluated] if day else evaluated


def _judge(run: Run) -> Judge | None:
    """Return the recipe's judge, checked and not loaded."""
    name = _settings(run).judge
    return None if name is None else prepare_judge(name, run.precision)


def _perform(run: Run, input_hash: str) -> EvalOutputs:
    evaluated = _with_release(run, tasks(_settings(run), run.prompt_config, run.data))
    judge = _judge(run)
    results, files = {}, []
    for name in _models(run):
        spec = _spec(run, name)
        template = _template(run, evaluated, name)
        shaping = model_settings(spec) | (template.settings() if template else {})
        # Samples are kept until something that they depend on changes; other models and tasks do not matter.
        folder = own_folder(run.folder / "eval" / name, hash_text(to_json(shaping)))
        marker, responses = image_marker_of(evaluated, spec), response_config(evaluated, spec, template)
        for task in evaluated if is_main_process() else ():
            forget(with_responses(with_marker(task, marker), responses), shaping, files_of(task.name, folder))
        wait()
        found = evaluate_model(spec, evaluated, folder, judge)
        results[name] = hash_text(to_json([asdict(result) for result in found]))
        files += [f"eval/{name}/{task.name}.json" for task in evaluated]
    return EvalOutputs(results=results, files=files)


def _check(run: Run) -> Sequence[str]:
    from jmedllm.models.loading import require_4_bits

    settings = _settings(run)
    if settings.quantization != "none":
        require_4_bits()
    evaluated = tasks(settings, run.prompt_config, run.data)
    spec = ModelSpec("", "", settings.backend, precision=run.precision, quantization=settings.quantization)
    in_run = Requirement("the models of a run, which are directories", lambda can: can.local)
    require_backend(settings.backend, [in_run, *requirements_of(spec), *requirements_of_tasks(evaluated)])
    judge = _judge(run)
    for name in _models(run):
        stored = [files_of(task.name, run.folder / "eval" / name).judge for task in evaluated]
        require_judge(settings.scorers, judge, stored)
    return (*(task.name for task in evaluated), "prompts", f"backend {settings.backend}")


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    require_runnable(base.quantization, base.folder, run.precision.device)
    base.require_loadable()
    checked = ["base model"]
    evaluated = tasks(_settings(run), run.prompt_config, run.data)
    chat_text, render = no_template, None
    if run.prompt_config.chat:
        render = evaluated[0].prompt_format.template(base.tokenizer)
        chat_text = render.prompt
        for task in evaluated:
            ask(task.prompt_format, task.presented()[0].permuted, chat_text)
        checked.append("chat template")
    spec = replace(_spec(run, BASE), model=str(base.folder))
    responses = response_config(evaluated, spec, render)
    evaluated = [with_responses(task, responses) for task in evaluated]
    require_backend(spec.backend, requirements_of_tasks(evaluated))
    for line in responses.notes:
        notice(line)
    if BASE in _models(run) and check_pictures(evaluated, _spec(run, BASE)) is not None:
        checked.append("pictures")
    return (*checked, *_check_context(run, base, evaluated, chat_text))


def _check_config(_: Run, base: PublishedBase) -> Sequence[str]:
    _ = base.structure
    return ("architecture",)


def _check_context(run: Run, base: BaseFiles, evaluated: Sequence[EvalTask], chat_text: ChatText) -> Sequence[str]:
    """Check that the prompts fit the context of the models, which is that of the base."""
    from jmedllm.models.backends.transformers.capabilities import context_length

    require_context = backend_named(_settings(run).backend).require_context
    extended = run.recipe.corpus is not None and run.recipe.corpus.vocabulary is not None
    # An extended tokenizer needs fewer tokens than that of the base.
    if require_context is None or (extended and BASE not in _models(run)):
        return ()
    limits = ContextLimit(BASE, base.tokenizer, context_length(base.config))
    for task in evaluated:
        if not task.skip_invalid:
            require_context(requests_of(task, chat_text), generation_config(task), limits)
    return ("lengths of the prompts",)


EVAL = Stage(
    name="eval",
    section=EvalSection,
    enabled=in_section("eval"),
    inputs=_inputs,
    perform=_perform,
    outputs=EvalOutputs,
    check=_check,
    check_base=_check_base,
    check_config=_check_config,
    shared=True,
)
