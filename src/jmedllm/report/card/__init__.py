"""The model card of a run: data, training, evaluation and limits of the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from jmedllm.corpus.documents import Document
from jmedllm.evaluation.result import EvalResult
from jmedllm.markdown import bullets
from jmedllm.recipe import Recipe
from jmedllm.report.card.metadata import Metadata, header
from jmedllm.report.card.scores import scores
from jmedllm.report.card.texts import LIMITS, WARNING, base_line, corpus, count_sources, examples
from jmedllm.report.card.training import forgetting, stages_trained
from jmedllm.report.compare import Comparison
from jmedllm.report.deployment import DeployedFile, deployment
from jmedllm.report.memorization import Memorization, memorization
from jmedllm.report.rows import build_rows
from jmedllm.report.training import TrainedStage


@dataclass(frozen=True, slots=True)
class Findings:
    """Information on a run for its model card.

    Attributes:
        recipe: recipe of the run.
        stages: manifest entries of the recipe's stages: inputs, outputs, versions, hardware.
        training: logs of its training stages, at least one.
        final: name of the final model.
        model: information of the stages on the model: fingerprints, divergence of a merge.
        examples: lines of the stages about the questions and instructions that they were trained on.
        documents: documents of the training corpus.
        held_out: number of held-out documents by set.
        built: the `corpus.json` of each cleaned text, by name.
        parameters: number of parameters of the final model.
        results: evaluations of the run's models.
        compared: comparisons of the final model with the base, on each task.
        headlines: comparison of each adapted model with its base, in one sentence.
        deployed: files that were exported from the final model.
        memorized: what the models know of canaries, if there were any.
    """

    recipe: Recipe
    stages: Mapping[str, Mapping[str, Any]]
    training: Sequence[TrainedStage]
    final: str = ""
    model: Sequence[str] = ()
    examples: Sequence[str] = ()
    documents: Iterable[Document] = ()
    held_out: Mapping[str, int] = field(default_factory=dict)
    built: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: int | None = None
    results: Sequence[EvalResult] = ()
    compared: Sequence[Comparison] = ()
    headlines: Sequence[str] = ()
    deployed: Sequence[DeployedFile] = ()
    memorized: Sequence[Memorization] = ()


def model_card(found: Findings) -> str:
    """Format the card as Markdown."""
    recipe, stages = found.recipe, found.stages
    sources = count_sources(found.documents)
    rows = [row for row in build_rows(found.results) if row.model == found.final and not row.published]
    metadata = Metadata(
        name=recipe.name,
        base=recipe.base.path,
        relation="finetune",
        library="transformers",
        languages=[*sources.languages, *(row.language for row in rows)],
        rows=rows,
    )
    parts = [
        f"# {recipe.name}\n\n{WARNING}",
        *([bullets(f"**{line}**" for line in found.headlines)] if found.headlines else []),
        f"## Model\n\n{bullets(_model(found))}",
        f"## Corpus\n\n{corpus(sources, found.held_out, found.built, stages)}",
        f"## Questions and instructions\n\n{examples(found.examples)}",
        f"## Training\n\n{stages_trained(recipe, stages, found.training)}",
        f"## Forgetting\n\n{forgetting(found.training)}",
        f"## Evaluation\n\n{scores(found.results, found.compared)}",
        *([f"## Memorization\n\n{memorization(found.memorized)}"] if found.memorized else []),
        *([f"## Deployment\n\n{deployment(found.deployed)}"] if found.deployed else []),
        f"## Limits\n\n{bullets(LIMITS)}",
        f"## Recipe\n\n```yaml\n{_yaml(recipe)}```",
    ]
    return header(metadata) + "\n\n".join(parts) + "\n"


def _model(found: Findings) -> list[str]:
    lines = [base_line(found.recipe), *found.model]
    if found.parameters is not None:
        lines.append(f"Parameters: {found.parameters:,}")
    if ended := found.training[-1].ended:
        lines.append(f"Trained until: {ended.isoformat()}")
    return [*lines, "Licence: that of the base and of the texts named below; ask a lawyer where they differ"]


def _yaml(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json", exclude_none=True, exclude={"controls"})
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
