"""Sections of the model card on training and forgetting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.markdown import bullets, table
from jmedllm.recipe import AdapterTrainingConfig, Recipe, recipe_hash
from jmedllm.report.training import TrainedStage
from jmedllm.training.config import TrainingConfig
from jmedllm.training.lora import AdapterConfig

SMALL = 10_000
"""Bytes of held-out text below which a change in bits per byte is not interpreted: a few sentences decide it."""


def stages_trained(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]], training: Sequence[TrainedStage]) -> str:
    """Format a row for each stage, and the settings that all stages share."""
    rows = [_trained(recipe, stages[stage.name], stage) for stage in training]
    head = ("Stage", "Steps", "Weights kept", "Trained tokens", "Learning rate", "Loss of the last step")
    versions = ", ".join(f"{name} {number}" for name, number in stages[training[-1].name]["versions"].items())
    lines = [f"**{stage.failure}**" for stage in training if stage.failure]
    sections = [recipe.section(stage.name) for stage in training]
    lines += [_adapter(section.adapter) for section in sections if isinstance(section, AdapterTrainingConfig)]
    lines += [f"Recipe hash: `{recipe_hash(recipe)}`", f"Seed: {recipe.seed}", f"Made with {versions}"]
    return f"{table((*head, 'Hours', 'Hardware'), rows)}\n\n{bullets(lines)}"


def _adapter(adapter: AdapterConfig) -> str:
    targets = adapter.targets if isinstance(adapter.targets, str) else ", ".join(adapter.targets)
    base = "not quantized" if adapter.quantization == "none" else f"quantized to {adapter.quantization}"
    return (
        f"Adapter: {adapter.kind}, rank {adapter.r}, alpha {adapter.alpha}, dropout {adapter.dropout:g}, on "
        f"{targets}; its base was {base} while it was trained"
    )


def _trained(recipe: Recipe, entry: Mapping[str, Any], stage: TrainedStage) -> tuple[str, ...]:
    settings = recipe.section(stage.name)
    chosen_by = ", ".join(settings.early_stopping.metric) if isinstance(settings, TrainingConfig) else ""
    outputs = stage.outputs
    return (
        stage.name,
        f"{outputs['steps']:,}",
        f"step {stage.kept_step:,}, {f'the best by {chosen_by}' if 'best_step' in outputs else 'the last'}",
        f"{outputs['trained_tokens']:,}",
        f"{entry['inputs']['settings']['learning_rate']:g}",
        f"{outputs['final_loss']:.4f}",
        f"{stage.metrics[-1]['seconds'] / 3600:.2f}",
        entry.get("hardware", "not recorded"),
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """Bits per byte of a held-out set before and after."""

    stage: str
    name: str
    documents: int
    bytes: int
    before: float
    after: float

    @property
    def is_small(self) -> bool:
        return self.bytes < SMALL

    def cells(self) -> tuple[str, ...]:
        change = f"{100 * (self.after / self.before - 1):+.2f} %{', too little text' if self.is_small else ''}"
        amounts = f"{self.documents:,}", f"{self.bytes:,}"
        return (self.stage, self.name, *amounts, f"{self.before:.4f}", f"{self.after:.4f}", change)


def forgetting(training: Sequence[TrainedStage]) -> str:
    """Format bits per byte of held-out texts before and after training."""
    changes = [change for stage in training for change in _changes(stage)]
    if not changes:
        return "Not measured: the recipe has no `validation` section with texts."
    joined, apart = _joined(training)
    head = ("Stage", "Held-out text", "Texts", "UTF-8 bytes", "Bits per byte before", "After", "Change")
    changed = table(head, [change.cells() for change in (*changes, *joined)])
    return "\n\n".join([changed, *apart, _conclusion([change for change in changes if change.name == "general"])])


def _conclusion(general: Sequence[_Change]) -> str:
    if not general:
        return "**No general text was held out**: forgetting is not known."
    if all(change.is_small for change in general):
        return f"**Less than {SMALL:,} bytes of general text were held out**: forgetting is not known."
    return "A rise on general text is forgetting."


def _changes(stage: TrainedStage) -> list[_Change]:
    sizes = stage.outputs.get("evaluated", {})
    return [
        _Change(stage.name, name, sizes[name]["documents"], sizes[name]["bytes"], before, after)
        for name, (before, after) in stage.changes().items()
    ]


def _joined(training: Sequence[TrainedStage]) -> tuple[list[_Change], list[str]]:
    """Return the change of each set from the base to the final model, or why the stages cannot be joined."""
    measured = [{change.name: change for change in _changes(stage)} for stage in training]
    if len(training) < 2 or not all(measured):
        return [], []
    if len({stage.outputs["block_size"] for stage in training}) > 1:
        windows = ", ".join(f"{stage.name} in windows of {stage.outputs['block_size']:,} tokens" for stage in training)
        return [], [f"There is no row from the base to the final model: the texts were read by {windows}."]
    first, last = measured[0], measured[-1]
    rows = [
        _Change("base to final", name, old.documents, old.bytes, old.before, last[name].after)
        for name, old in first.items()
        if name in last and (old.documents, old.bytes) == (last[name].documents, last[name].bytes)
    ]
    return rows, []
