"""The model card of a run: what the model was made from, how, what it is worth, and what it is not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from jmedllm.corpus.readers.read import Document
from jmedllm.evaluation.task import EvalResult
from jmedllm.recipe import Recipe
from jmedllm.report.card.markdown import bullets
from jmedllm.report.card.scores import scores
from jmedllm.report.card.texts import corpus, examples
from jmedllm.report.card.training import forgetting, stages_trained
from jmedllm.report.compare import Comparison
from jmedllm.report.training import TrainedStage

WARNING = (
    "This model is software for research. **It is not a medical device**, it was not tested on patients, and it "
    "must not be used to diagnose, treat or advise anyone. A model that passes an exam is not a doctor."
)

LIMITS = (
    "Exams measure knowledge in multiple choice, not safety, judgement or care.",
    "The model writes fluent text that is wrong, and gives no sign of it.",
    "Medical knowledge ages; the model knows none that is newer than its texts.",
    "What its base was trained on is not known here: exam items may have been among it.",
    "Scores hold for the languages, prompts and items named here; their intervals say nothing of the seed.",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run wrote down of itself.

    Attributes:
        recipe: what was carried out.
        stages: the manifest's entries of the recipe's stages: inputs, what each made, versions, hardware.
        training: the logs of its training stages, at least one.
        documents: the corpus that was trained on.
        held_out: how many documents of the corpus were not trained on, by set.
        built: the `corpus.json` of each text that was cleaned, by a name for it.
        parameters: how many the final model has.
        results: what the models of the run sat.
        compared: the final model against the base, on each paper both sat.
    """

    recipe: Recipe
    stages: Mapping[str, Mapping[str, Any]]
    training: Sequence[TrainedStage]
    documents: Iterable[Document] = ()
    held_out: Mapping[str, int] = field(default_factory=dict)
    built: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: int | None = None
    results: Sequence[EvalResult] = ()
    compared: Sequence[Comparison] = ()


def model_card(found: Findings) -> str:
    """The card as Markdown."""
    recipe, stages = found.recipe, found.stages
    parts = [
        f"# {recipe.name}\n\n{WARNING}",
        f"## Model\n\n{bullets(_model(found))}",
        f"## Corpus\n\n{corpus(found.documents, found.held_out, found.built, stages)}",
        f"## Questions and instructions\n\n{examples(recipe, stages)}",
        f"## Training\n\n{stages_trained(recipe, stages, found.training)}",
        f"## Forgetting\n\n{forgetting(recipe, found.training)}",
        f"## Exam\n\n{scores(found.results, found.compared)}",
        f"## Limits\n\n{bullets(LIMITS)}",
        f"## Recipe\n\n```yaml\n{_yaml(recipe)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _model(found: Findings) -> list[str]:
    recipe, stages = found.recipe, found.stages
    lines = [_base(recipe)]
    for stage, name in (("corpus", "base"), ("mfpt", "model"), ("mpeft", "adapter"), ("merge", "model")):
        if stage in stages:
            more = " with its new tokens" if name == "base" and recipe.corpus and recipe.corpus.vocabulary else ""
            lines.append(f"Fingerprint of the {name}{more} ({stage}): `{stages[stage]['made'][name]}`")
    if "corpus" not in stages:
        lines.insert(1, f"Fingerprint of the base: `{stages['mpeft']['inputs']['model']}`")
    if found.parameters is not None:
        lines.append(f"Parameters: {found.parameters:,}")
    if ended := found.training[-1].ended:
        lines.append(f"Trained until: {ended.isoformat()}")
    if "merge" in stages:
        nats = stages["merge"]["made"]["divergence"]
        lines.append(f"Merge: {nats:.2g} nats a token from the model as it was trained (mean KL divergence)")
    return [*lines, "Licence: that of the base and of the texts named below; ask a lawyer where they differ"]


def _base(recipe: Recipe) -> str:
    base = recipe.base
    if base.random_init:
        return f"Base: built from nothing: {_plain(base.random_init.model_dump())}"
    revision = base.revision or "as found on disk; its content is named by the fingerprint"
    return f"Base: {base.path}, revision {revision}"


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _yaml(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json", exclude_none=True, exclude={"controls"})
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
