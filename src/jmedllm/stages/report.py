"""Stage report: the run's scores as one Markdown file."""

from typing import Any

from jmedllm.files import write_atomic
from jmedllm.recipe import Recipe
from jmedllm.report import collect, markdown
from jmedllm.run import Run, Step


def _inputs(run: Run) -> dict[str, Any]:
    return {"sittings": run.made["exam"]["sittings"]}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    write_atomic(run.folder / "report.md", markdown(collect([run.folder / "exam"])))
    return {"files": ["report.md"]}


def _wanted(recipe: Recipe) -> bool:
    return recipe.exam is not None


STEP = Step("report", _wanted, _inputs, _perform)
