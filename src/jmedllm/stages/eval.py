"""Stage eval: the models of the run are evaluated on the same benchmarks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jmedllm.evaluation.evaluate import evaluate_model, tasks
from jmedllm.evaluation.evaluate_task import forget
from jmedllm.evaluation.model import chat_template, model_settings, requirements_of_tasks
from jmedllm.evaluation.resume import files_of
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import hash_text, to_json
from jmedllm.models.backends import require_backend, requirements_of
from jmedllm.models.backends.base import ModelSpec, Requirement
from jmedllm.models.folder import fingerprint
from jmedllm.pipeline import Run, Stage, own_folder
from jmedllm.processes import is_main_process, wait
from jmedllm.recipe import CollectedResult, Recipe
from jmedllm.stages.models import base_folder, folder_of, require_usable_base, tuned_folder


def _inputs(run: Run) -> dict[str, Any]:
    settings = run.recipe.eval
    assert settings is not None
    sat = tasks(settings, run.prompt_config, run.data)
    templates = {name: _chat(run, sat, name) for name in settings.models} if run.prompt_config.chat else {}
    return {
        "models": {sat: _fingerprint(run, sat) for sat in settings.models},
        **({"templates": templates} if templates else {}),
        "tasks": [task.settings() | {"questions": task.questions_hash()} for task in sat],
        "precision": run.precision.name,
        "backend": settings.backend,
        **({"quantization": settings.quantization} if settings.quantization != "none" else {}),
    }


def _parts(run: Run, name: CollectedResult) -> tuple[Path, Path | None]:
    """The directory of the model that sits under this name, and the adapter on it.

    In 4 bits merged weights would be rounded once more than those that were trained, so none are merged.
    """
    settings = run.recipe.eval
    assert settings is not None
    if name == "mpeft" and settings.quantization != "none":
        return tuned_folder(run), run.folder / "mpeft" / "adapter"
    return folder_of(run, name), None


def _fingerprint(run: Run, name: CollectedResult) -> str:
    model, adapter = _parts(run, name)
    return fingerprint(model) if adapter is None else f"{fingerprint(model)} {fingerprint(adapter)}"


def _spec(run: Run, name: CollectedResult) -> ModelSpec:
    """How the model of this name is opened."""
    settings = run.recipe.eval
    assert settings is not None
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


def _chat(run: Run, sat: Sequence[EvalTask], name: CollectedResult) -> dict[str, Any]:
    """What of a model's chat template shapes its prompts; nothing if the prompts do not use it."""
    template = chat_template(sat, _spec(run, name), run.folder / "eval" / name)
    return template.settings() if template else {}


def _perform(run: Run, input_hash: str) -> dict[str, Any]:
    settings = run.recipe.eval
    assert settings is not None
    sat = tasks(settings, run.prompt_config, run.data)
    results, files = {}, []
    for name in settings.models:
        spec = _spec(run, name)
        shaping = model_settings(spec) | _chat(run, sat, name)
        # Records stay as long as what they depend on does: neither another model nor another paper.
        folder = own_folder(run.folder / "eval" / name, hash_text(to_json(shaping)))
        for task in sat if is_main_process() else ():
            forget(task, shaping, files_of(task.name, folder))
        wait()
        sat_now = evaluate_model(spec, sat, folder)
        results[name] = hash_text(to_json([asdict(result) for result in sat_now]))
        files += [f"eval/{name}/{task.name}.json" for task in sat]
    return {"results": results, "files": files}


def _check(run: Run) -> None:
    from jmedllm.models.loading import require_4_bits

    settings = run.recipe.eval
    if settings:
        if settings.quantization != "none":
            require_4_bits()
        asked = tasks(settings, run.prompt_config, run.data)
        spec = ModelSpec("", "", settings.backend, precision=run.precision, quantization=settings.quantization)
        in_run = Requirement("the models of a run, which are directories", lambda can: can.local)
        require_backend(settings.backend, [in_run, *requirements_of(spec), *requirements_of_tasks(asked)])
        require_usable_base(run)


def _enabled(recipe: Recipe) -> bool:
    return recipe.eval is not None


STAGE = Stage("eval", _enabled, _inputs, _perform, _check, shared=True)
