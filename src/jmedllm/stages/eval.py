"""Stage exam: the models of the run sit the same papers."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jmedllm.evaluation.evaluate import chat_template, examine, model_settings, papers
from jmedllm.evaluation.task import Paper, forget
from jmedllm.files import hash_text, to_json
from jmedllm.models.folder import fingerprint
from jmedllm.pipeline import Run, Step, own_folder
from jmedllm.processes import is_first, wait
from jmedllm.recipe import Recipe, Sat
from jmedllm.stages.models import base_folder, folder_of, require_usable_base, tuned_folder


def _inputs(run: Run) -> dict[str, Any]:
    settings = run.recipe.exam
    assert settings is not None
    sat = papers(settings, run.prompting, run.data)
    templates = {name: _chat(run, sat, name) for name in settings.models} if run.prompting.chat else {}
    return {
        "models": {sat: _fingerprint(run, sat) for sat in settings.models},
        **({"templates": templates} if templates else {}),
        "papers": [paper.settings() | {"questions": paper.questions_hash()} for paper in sat],
        "precision": run.precision.name,
        **({"quantization": settings.quantization} if settings.quantization != "none" else {}),
    }


def _parts(run: Run, name: Sat) -> tuple[Path, Path | None]:
    """The directory of the model that sits under this name, and the adapter on it.

    In 4 bits merged weights would be rounded once more than those that were trained, so none are merged.
    """
    settings = run.recipe.exam
    assert settings is not None
    if name == "mpeft" and settings.quantization != "none":
        return tuned_folder(run), run.folder / "mpeft" / "adapter"
    return folder_of(run, name), None


def _fingerprint(run: Run, name: Sat) -> str:
    model, adapter = _parts(run, name)
    return fingerprint(model) if adapter is None else f"{fingerprint(model)} {fingerprint(adapter)}"


def _chat(run: Run, sat: Sequence[Paper], name: Sat) -> dict[str, Any]:
    """What of a model's chat template shapes its prompts; nothing where they do not go through it."""
    model, adapter = _parts(run, name)
    template = chat_template(sat, model, run.folder / "exam" / name, adapter)
    return template.settings() if template else {}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    settings = run.recipe.exam
    assert settings is not None
    sat = papers(settings, run.prompting, run.data)
    sittings, files = {}, []
    for name in settings.models:
        model, adapter = _parts(run, name)
        held = settings.quantization
        ignore = run.recipe.base.ignore_adapter and model == base_folder(run)
        shaping = model_settings(
            model, run.precision, name=name, adapter=adapter, ignore_adapter=ignore, quantization=held
        )
        shaping |= _chat(run, sat, name)
        # Records stay as long as what they depend on does: neither another model nor another paper.
        folder = own_folder(run.folder / "exam" / name, hash_text(to_json(shaping)))
        for paper in sat if is_first() else ():
            forget(paper, shaping, folder)
        wait()
        sat_now = examine(
            model,
            sat,
            run.precision,
            folder,
            name=name,
            adapter=adapter,
            ignore_adapter=ignore,
            quantization=held,
            batch=settings.batch,
        )
        sittings[name] = hash_text(to_json([asdict(sitting) for sitting in sat_now]))
        files += [f"exam/{name}/{paper.name}.json" for paper in sat]
    return {"sittings": sittings, "files": files}


def _check(run: Run) -> None:
    from jmedllm.models.loading import require_4_bits

    if run.recipe.exam:
        if run.recipe.exam.quantization != "none":
            require_4_bits()
        papers(run.recipe.exam, run.prompting, run.data)
        require_usable_base(run)


def _wanted(recipe: Recipe) -> bool:
    return recipe.exam is not None


STEP = Step("exam", _wanted, _inputs, _perform, _check, shared=True)
