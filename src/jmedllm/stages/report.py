"""Stage report: the run's scores as Markdown and as a page with every item, with what they can be traced by."""

from pathlib import Path
from typing import Any

from jmedllm.exam.examine import split_language
from jmedllm.files import write_atomic
from jmedllm.manifest import REPORTS
from jmedllm.recipe import Recipe
from jmedllm.report import collect_records, markdown, questions_of
from jmedllm.report.page import write_page
from jmedllm.report.training import read_training
from jmedllm.run import Run, Step, versions


def _inputs(run: Run) -> dict[str, Any]:
    return {"sittings": run.made["exam"]["sittings"], "seed": run.recipe.seed, "versions": versions()}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    recipe = run.recipe
    assert recipe.exam is not None
    sat = collect_records([run.folder])
    head = (
        f"# {recipe.name}\n\nBase {recipe.base.path or 'from scratch'}, seed {recipe.seed}, {run.precision.name}"
    )
    made = "".join(f"- {stage}: {_plain(values)}\n" for stage, values in run.made.items() if stage != "exam")
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    scores = markdown([each.sitting for each in sat])
    write_atomic(run.folder / REPORTS[0], f"{head}.\n\n{scores}\n{made}\nMade with {used}.\n")
    names = [split_language(name)[0] for name in recipe.exam.benchmarks]
    own = [Path(name) for name in names if name.endswith(".jsonl")]
    training = read_training([run.folder])
    write_page(run.folder / REPORTS[1], sat, questions_of(sat, run.data, own), recipe.name, training)
    return {"files": list(REPORTS)}


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if name != "files")


def _wanted(recipe: Recipe) -> bool:
    return recipe.exam is not None


STEP = Step("report", _wanted, _inputs, _perform)
