"""Stage report: the run's scores as one Markdown file, with what they can be traced by."""

from typing import Any

from jmedllm.files import write_atomic
from jmedllm.recipe import Recipe
from jmedllm.report import collect, markdown
from jmedllm.run import Run, Step, versions


def _inputs(run: Run) -> dict[str, Any]:
    return {"sittings": run.made["exam"]["sittings"], "seed": run.recipe.seed, "versions": versions()}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    recipe = run.recipe
    head = (
        f"# {recipe.name}\n\nBase {recipe.base.path or 'from scratch'}, seed {recipe.seed}, {run.precision.name}"
    )
    made = "".join(f"- {stage}: {_plain(values)}\n" for stage, values in run.made.items() if stage != "exam")
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    text = f"{head}.\n\n{markdown(collect([run.folder]))}\n{made}\nMade with {used}.\n"
    write_atomic(run.folder / "report.md", text)
    return {"files": ["report.md"]}


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if name != "files")


def _wanted(recipe: Recipe) -> bool:
    return recipe.exam is not None


STEP = Step("report", _wanted, _inputs, _perform)
