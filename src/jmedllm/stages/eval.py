"""Stage eval: the models of the run are evaluated on the same benchmarks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jmedllm.evaluation.evaluate import chat_template, evaluate_model, model_settings, tasks
from jmedllm.evaluation.task import EvalTask, forget
from jmedllm.files import hash_text, to_json
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


def _chat(run: Run, sat: Sequence[EvalTask], name: CollectedResult) -> dict[str, Any]:
    """What of a model's chat template shapes its prompts; nothing where they do not go through it."""
    model, adapter = _parts(run, name)
    template = chat_template(sat, model, run.folder / "eval" / name, adapter)
    return template.settings() if template else {}


def _perform(run: Run, input_hash: str) -> dict[str, Any]:
    settings = run.recipe.eval
    assert settings is not None
    sat = tasks(settings, run.prompt_config, run.data)
    results, files = {}, []
    for name in settings.models:
        model, adapter = _parts(run, name)
        held = settings.quantization
        ignore = run.recipe.base.ignore_adapter and model == base_folder(run)
        shaping = model_settings(
            model, run.precision, name=name, adapter=adapter, ignore_adapter=ignore, quantization=held
        )
        shaping |= _chat(run, sat, name)
        # Records stay as long as what they depend on does: neither another model nor another paper.
        folder = own_folder(run.folder / "eval" / name, hash_text(to_json(shaping)))
        for task in sat if is_main_process() else ():
            forget(task, shaping, folder)
        wait()
        sat_now = evaluate_model(
            model,
            sat,
            run.precision,
            folder,
            name=name,
            adapter=adapter,
            ignore_adapter=ignore,
            quantization=held,
            batch_size=settings.batch_size,
        )
        results[name] = hash_text(to_json([asdict(result) for result in sat_now]))
        files += [f"eval/{name}/{task.name}.json" for task in sat]
    return {"results": results, "files": files}


def _check(run: Run) -> None:
    from jmedllm.models.loading import require_4_bits

    if run.recipe.eval:
        if run.recipe.eval.quantization != "none":
            require_4_bits()
        tasks(run.recipe.eval, run.prompt_config, run.data)
        require_usable_base(run)


def _enabled(recipe: Recipe) -> bool:
    return recipe.eval is not None


STAGE = Stage("eval", _enabled, _inputs, _perform, _check, shared=True)
