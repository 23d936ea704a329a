"""The card of an adapter: base, data, settings, evaluation and limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.evaluation.result import EvalResult
from jmedllm.manifest import BASE
from jmedllm.markdown import bullets
from jmedllm.recipe import Recipe
from jmedllm.report.card.metadata import Metadata, header
from jmedllm.report.card.scores import scores
from jmedllm.report.card.texts import LIMITS, WARNING, base_line, examples
from jmedllm.report.card.training import stages_trained
from jmedllm.report.compare import Comparison
from jmedllm.report.rows import build_rows
from jmedllm.report.training import TrainedStage


@dataclass(frozen=True, slots=True)
class AdapterFindings:
    """Information on an adapter of a run for its card.

    Attributes:
        recipe: recipe of the run.
        stages: manifest entries of the recipe's stages.
        training: log of the stage that trained the adapter.
        base: name of the model that the adapter was trained on.
        base_fingerprint: fingerprint of this model.
        model: name of the model with the adapter merged in.
        about: lines of the stage about the adapter: its fingerprint.
        data: lines of the stage about its training data.
        results: evaluations of `base` and `model`.
        compared: comparisons of `model` with `base`.
    """

    recipe: Recipe
    stages: Mapping[str, Mapping[str, Any]]
    training: TrainedStage
    base: str
    base_fingerprint: str
    model: str
    about: Sequence[str] = ()
    data: Sequence[str] = ()
    results: Sequence[EvalResult] = ()
    compared: Sequence[Comparison] = ()


def adapter_card(found: AdapterFindings) -> str:
    """Format the card as Markdown."""
    recipe = found.recipe
    rows = [row for row in build_rows(found.results) if row.model == found.model and not row.published]
    metadata = Metadata(
        name=f"{recipe.name}-adapter",
        base=recipe.base.path if found.base == BASE else None,
        relation="adapter",
        library="peft",
        languages=[row.language for row in rows],
        rows=rows,
    )
    measured = f"Measured on `{found.model}`, the model with the adapter merged in.\n\n" if found.results else ""
    parts = [
        f"# {recipe.name}, adapter\n\n{WARNING}",
        f"## Base\n\n{bullets([*_base(found), *found.about])}",
        f"## Data\n\n{examples(found.data)}",
        f"## Settings\n\n{stages_trained(recipe, found.stages, [found.training])}",
        f"## Evaluation\n\n{measured}{scores(found.results, found.compared)}",
        f"## Limits\n\n{bullets(LIMITS)}",
    ]
    return header(metadata) + "\n\n".join(parts) + "\n"


def _base(found: AdapterFindings) -> list[str]:
    fingerprint = f"Fingerprint of the model that the adapter belongs to: `{found.base_fingerprint}`"
    if found.base == BASE:
        return [base_line(found.recipe), fingerprint]
    return [
        f"Base: `{found.base}`, a model of the same run; apply the adapter to this model only",
        f"Start of the run: {base_line(found.recipe).removeprefix('Base: ')}",
        fingerprint,
    ]
