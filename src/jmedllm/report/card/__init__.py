"""The model card of a run: data, training, evaluation and limits of the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from jmedllm.corpus.documents import Document
from jmedllm.evaluation.result import EvalResult
from jmedllm.recipe import Recipe
from jmedllm.report.card.scores import scores
from jmedllm.report.card.texts import corpus, examples
from jmedllm.report.card.training import forgetting, stages_trained
from jmedllm.report.compare import Comparison
from jmedllm.report.markdown import bullets
from jmedllm.report.training import TrainedStage

WARNING = (
    "This model is software for research. **It is not a medical device**, it was not tested on patients, and it "
    "must not be used to diagnose, treat or advise anyone. A model that passes an exam is not a doctor."
)

LIMITS = (
    "Exams measure knowledge in multiple choice, not safety, judgement or care.",
    "The model writes fluent text that can be wrong, without any sign of it.",
    "Medical knowledge ages; the model knows nothing newer than its texts.",
    "The training data of its base model is not known here and may include exam items.",
    "Scores apply to the languages, prompts and items named here; their intervals do not include the seed.",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """Information on a run for its model card.

    Attributes:
        recipe: recipe of the run.
        stages: manifest entries of the recipe's stages: inputs, outputs, versions, hardware.
        training: logs of its training stages, at least one.
        model: information of the stages on the model: fingerprints, divergence of a merge.
        documents: documents of the training corpus.
        held_out: number of held-out documents by set.
        built: the `corpus.json` of each cleaned text, by name.
        parameters: number of parameters of the final model.
        results: evaluations of the run's models.
        compared: comparisons of the final model with the base, on each task.
        headlines: comparison of each adapted model with its base, in one sentence.
    """

    recipe: Recipe
    stages: Mapping[str, Mapping[str, Any]]
    training: Sequence[TrainedStage]
    model: Sequence[str] = ()
    documents: Iterable[Document] = ()
    held_out: Mapping[str, int] = field(default_factory=dict)
    built: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: int | None = None
    results: Sequence[EvalResult] = ()
    compared: Sequence[Comparison] = ()
    headlines: Sequence[str] = ()


def model_card(found: Findings) -> str:
    """Format the card as Markdown."""
    recipe, stages = found.recipe, found.stages
    parts = [
        f"# {recipe.name}\n\n{WARNING}",
        *([bullets(f"**{line}**" for line in found.headlines)] if found.headlines else []),
        f"## Model\n\n{bullets(_model(found))}",
        f"## Corpus\n\n{corpus(found.documents, found.held_out, found.built, stages)}",
        f"## Questions and instructions\n\n{examples(recipe, stages)}",
        f"## Training\n\n{stages_trained(recipe, stages, found.training)}",
        f"## Forgetting\n\n{forgetting(found.training)}",
        f"## Evaluation\n\n{scores(found.results, found.compared)}",
        f"## Limits\n\n{bullets(LIMITS)}",
        f"## Recipe\n\n```yaml\n{_yaml(recipe)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _model(found: Findings) -> list[str]:
    lines = [_base(found.recipe), *found.model]
    if found.parameters is not None:
        lines.append(f"Parameters: {found.parameters:,}")
    if ended := found.training[-1].ended:
        lines.append(f"Trained until: {ended.isoformat()}")
    return [*lines, "Licence: that of the base and of the texts named below; ask a lawyer where they differ"]


def _base(recipe: Recipe) -> str:
    base = recipe.base
    if base.random_init:
        return f"Base: randomly initialized: {_plain(base.random_init.model_dump())}"
    revision = base.revision or "as found on disk; the fingerprint identifies its content"
    return f"Base: {base.path}, revision {revision}"


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _yaml(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json", exclude_none=True, exclude={"controls"})
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
