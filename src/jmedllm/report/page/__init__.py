"""The report as one HTML file that opens from disk and makes no network requests."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jmedllm import __version__
from jmedllm.canary.table import header
from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.reading import NO_ANSWER
from jmedllm.evaluation.scorers.official import MOST_PROHIBITED
from jmedllm.files import to_json, write_atomic
from jmedllm.report.collect import CollectedResult
from jmedllm.report.compare import NOTE, Comparison, compare, published_last
from jmedllm.report.deployment import NOTE as NOTE_ON_FILES
from jmedllm.report.deployment import NOTE_ON_BENCHMARKS, DeployedFile, facts
from jmedllm.report.details import EXAM_YEARS_NOTE, exam_year_cells, response_details
from jmedllm.report.headline import explanation, headlines
from jmedllm.report.memorization import NOTE as NOTE_ON_MEMORIZATION
from jmedllm.report.memorization import Memorization
from jmedllm.report.notes import footnotes
from jmedllm.report.numbers import probability
from jmedllm.report.page import charts
from jmedllm.report.page.curves import figures
from jmedllm.report.page.glossary import glossary
from jmedllm.report.page.items import PackedTask, pack
from jmedllm.report.page.view import groups, matrices, outcome_lines
from jmedllm.report.questions import TaskQuestions
from jmedllm.report.rows import build_rows
from jmedllm.report.training import TrainedStage

_HERE = Path(__file__).parent


def write_page(
    path: Path,
    collected: Sequence[CollectedResult],
    questions: TaskQuestions,
    title: str,
    training: Sequence[TrainedStage] = (),
    deployed: Sequence[DeployedFile] = (),
    memorized: Sequence[Memorization] = (),
) -> None:
    """Write the page, which only the owner may read: it has all questions and responses.

    Args:
        collected: finished evaluations.
        questions: questions of the results, see `questions_of`.
        training: training stages of the models, if known.
        deployed: files exported from the models, if known.
        memorized: what the models know of canaries, if there were any.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomic(path, page(collected, questions, title, training, deployed, memorized))


def page(
    collected: Sequence[CollectedResult],
    questions: TaskQuestions,
    title: str,
    training: Sequence[TrainedStage] = (),
    deployed: Sequence[DeployedFile] = (),
    memorized: Sequence[Memorization] = (),
) -> str:
    """Render the page as HTML."""
    results = [each.result for each in collected]
    models = list(dict.fromkeys(result.model for result in results))
    described = {name: text for each in collected for name, text in each.descriptions.items()}
    descriptions = {name: text for name, text in described.items() if name in models}
    packed = pack(collected, questions)
    rows = build_rows(results)
    compared, lines = compare(collected), headlines(collected)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            version=__version__,
            style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            # Allow only this script, whatever text a model generated.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
            charts=charts,
            results=results,
            models=models,
            matrices=matrices(rows),
            headlines=lines,
            headline_note=explanation(lines),
            glossary=glossary(descriptions),
            descriptions=descriptions,
            notes=footnotes(results, rows),
            languages=[each for each in compared if each.kind == "languages"],
            compared=[each for each in compared if each.kind == "models"],
            compared_note=NOTE,
            groups=groups(results, models),
            details=list(response_details(results)),
            outcomes=outcome_lines(results),
            exams=sorted({(outcome.exam, outcome.year) for result in results for outcome in result.exam_outcomes}),
            most_prohibited=MOST_PROHIBITED,
            exam_year_cells=exam_year_cells,
            exam_years_note=EXAM_YEARS_NOTE,
            training=[_stage(stage) for stage in training],
            deployed=deployed,
            deployment_facts=facts(deployed),
            deployment_note=NOTE_ON_FILES,
            benchmarks_note=NOTE_ON_BENCHMARKS,
            memorized=memorized,
            memorization_header=header(),
            memorization_note=NOTE_ON_MEMORIZATION,
            tasks=packed,
            settings=_embedded(
                {
                    "models": models,
                    "tasks": [_about(each) for each in packed],
                    "reasons": {name: f"no answer: {meaning}" for name, meaning in NO_ANSWER.items()},
                }
            ),
        )
    )


def _environment() -> Environment:
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
        "probability": probability,
        "by_scorer": _by_scorer,
        "map_marks": _marks,
        "group_label": _group_label,
        "reach": _reach,
    }
    return environment


def _stage(stage: TrainedStage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "personal_data": stage.personal_data,
        "outputs": stage.outputs,
        "metrics": stage.metrics,
        "waiting": stage.waiting,
        "changes": stage.changes(),
        "figures": figures(stage),
    }


def _about(task: PackedTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in ("name", "benchmark", "language", "n", "models", "scorers")}


def _embedded(value: Any) -> Markup:
    """Encode JSON so that it cannot end the script element that contains it."""
    return Markup(to_json(value).replace("<", "\\u003c"))


def _by_scorer(compared: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    scorers = published_last(each.scorer for each in compared)
    return [(scorer, [each for each in compared if each.scorer == scorer]) for scorer in scorers]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _marks(members: Sequence[tuple[int, BaselineGroup]]) -> list[tuple[int, float, float, float]]:
    return [(index, group.value, group.low, group.high) for index, group in members]


def _group_label(members: Sequence[tuple[int, BaselineGroup]], models: Sequence[str]) -> str:
    return ", ".join(f"{models[index]} {_percent(group.value)} % of {group.n:,}" for index, group in members)


def _reach(compared: Sequence[Comparison]) -> float:
    """Return the largest distance of an interval's end from 0."""
    return max(max(abs(each.paired.low), abs(each.paired.high)) for each in compared)
