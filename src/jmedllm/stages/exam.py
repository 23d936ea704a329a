"""Stage exam: the models of the run sit the same papers."""

from dataclasses import asdict
from typing import Any

from jmedllm.exam.examine import examine, papers
from jmedllm.exam.sitting import Paper
from jmedllm.files import hash_text, to_json
from jmedllm.models.folder import fingerprint
from jmedllm.recipe import Recipe, RecipeExam, Sat
from jmedllm.run import Run, Step, own_folder
from jmedllm.stages.models import folder_of


def _models(run: Run, settings: RecipeExam) -> dict[Sat, str]:
    return {sat: fingerprint(folder_of(run, sat)) for sat in settings.models}


def _shaping(sat: list[Paper]) -> list[dict[str, Any]]:
    return [paper.settings() | {"questions": paper.questions_hash()} for paper in sat]


def _inputs(run: Run) -> dict[str, Any]:
    settings = run.recipe.exam
    assert settings is not None
    sat = papers(settings, run.recipe.prompt, run.data)
    return {
        "models": _models(run, settings),
        "papers": _shaping(sat),
        "precision": run.precision.name,
    }


def _perform(run: Run, identity: str) -> dict[str, Any]:
    settings = run.recipe.exam
    assert settings is not None
    sat = papers(settings, run.recipe.prompt, run.data)
    shaping = [_shaping(sat), run.precision.name]
    made = {}
    for name, model in _models(run, settings).items():
        # A model keeps its records when only another model has changed.
        own = hash_text(to_json([model, shaping]))
        folder = own_folder(run.folder / "exam" / name, own)
        sittings = examine(folder_of(run, name), sat, run.precision, folder, name=name, batch=settings.batch)
        made[name] = hash_text(to_json([asdict(sitting) for sitting in sittings]))
    return {"sittings": made, "files": [f"exam/{name}" for name in made]}


def _wanted(recipe: Recipe) -> bool:
    return recipe.exam is not None


STEP = Step("exam", _wanted, _inputs, _perform)
