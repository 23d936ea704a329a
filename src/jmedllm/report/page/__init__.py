"""The report as one HTML file, which opens from disk and asks nothing of any network."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jmedllm import __version__
from jmedllm.evaluation.human_baseline import Group
from jmedllm.evaluation.reading import NO_ANSWER
from jmedllm.evaluation.scorers.official import MOST_PROHIBITED
from jmedllm.files import to_json, write_atomic
from jmedllm.report.collect import CollectedResult
from jmedllm.report.compare import NOTE, Comparison, compare
from jmedllm.report.page import charts
from jmedllm.report.page.curves import figures
from jmedllm.report.page.items import PackedTask, pack
from jmedllm.report.page.view import groups, matrices, outcome_lines
from jmedllm.report.questions import Papers
from jmedllm.report.table import build_rows, notes
from jmedllm.report.training import TrainedStage

_HERE = Path(__file__).parent


def write_page(
    path: Path, sat: Sequence[CollectedResult], tasks: Papers, title: str, training: Sequence[TrainedStage] = ()
) -> None:
    """Write the page.

    Args:
        sat: finished sittings with their records.
        tasks: the questions they answered, see `questions_of`.
        training: how the models were trained, as far as that is known.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomic(path, page(sat, tasks, title, training))


def page(sat: Sequence[CollectedResult], tasks: Papers, title: str, training: Sequence[TrainedStage] = ()) -> str:
    """The page's HTML."""
    results = [each.result for each in sat]
    models = list(dict.fromkeys(result.model for result in results))
    packed = pack(sat, tasks)
    rows = build_rows(results)
    compared = compare(sat)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "probability": _probability,
        "map_marks": _marks,
        "told": _told,
        "reach": _reach,
    }
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # Only this very script may run, whatever a model wrote.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        charts=charts,
        results=results,
        models=models,
        matrices=matrices(rows),
        notes=notes(results, rows),
        languages=[each for each in compared if each.kind == "languages"],
        compared=[each for each in compared if each.kind == "models"],
        compared_note=NOTE,
        groups=groups(results, models),
        outcomes=outcome_lines(results),
        exams=sorted({(outcome.exam, outcome.year) for result in results for outcome in result.official}),
        most_prohibited=MOST_PROHIBITED,
        training=[_presented(stage) for stage in training],
        tasks=packed,
        settings=_embedded(
            {
                "models": models,
                "tasks": [_about(each) for each in packed],
                "reasons": {name: f"no answer: {meaning}" for name, meaning in NO_ANSWER.items()},
            }
        ),
    )


def _presented(stage: TrainedStage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "made": stage.made,
        "metrics": stage.metrics,
        "waiting": stage.waiting,
        "changes": stage.changes(),
        "figures": figures(stage),
    }


def _about(task: PackedTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in ("name", "benchmark", "language", "n", "models", "scorers")}


def _embedded(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(to_json(value).replace("<", "\\u003c"))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _marks(members: Sequence[tuple[int, Group]]) -> list[tuple[int, float, float, float]]:
    return [(index, group.value, group.low, group.high) for index, group in members]


def _told(members: Sequence[tuple[int, Group]], models: Sequence[str]) -> str:
    return ", ".join(f"{models[index]} {_percent(group.value)} % of {group.n:,}" for index, group in members)


def _reach(compared: Sequence[Comparison]) -> float:
    """How far from no difference the intervals go."""
    return max(max(abs(each.paired.low), abs(each.paired.high)) for each in compared)
