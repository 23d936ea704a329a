"""Stage report: training and scores of the run as Markdown and HTML page, and the model card."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.evaluate import split_language
from jmedllm.evaluation.stored_questions import QuestionPlaces
from jmedllm.files import hash_file, hash_text, to_json, write_atomic
from jmedllm.manifest import BASE, REPORTS, versions
from jmedllm.recipe import Recipe
from jmedllm.report import CollectedResult, collect, headlines, markdown, questions_of
from jmedllm.report.card import model_card
from jmedllm.report.card.adapter import AdapterFindings, adapter_card
from jmedllm.report.compare import compare
from jmedllm.report.deployment import deployment
from jmedllm.report.memorization import memorization
from jmedllm.report.page import write_page
from jmedllm.report.training import TrainedStage, read_training
from jmedllm.stages.canary import about_canaries
from jmedllm.stages.card import cleaning, deployed, findings, manifest_entries, memorized, write_readme
from jmedllm.stages.stage import (
    Outputs,
    Run,
    Stage,
    fingerprint_before,
    model_folder,
    model_names,
    name_before,
    yielding,
)
from jmedllm.training.config import TrainingConfig

MODEL_CARD = "MODEL_CARD.md"
"""Name of the model card next to the final model."""


def _inputs(run: Run) -> dict[str, Any]:
    # Include whole entries, because licences, hardware and hours can change while outputs stay the same.
    return {
        "recipe": hash_text(to_json(run.recipe.model_dump())),
        "stages": hash_text(to_json(manifest_entries(run))),
        "built": hash_text(to_json(cleaning(run))),
        "scores": {path.relative_to(run.folder).as_posix(): hash_file(path) for path in _summaries(run)},
        "versions": versions(),
    }


def _summaries(run: Run) -> list[Path]:
    """Return the summaries of the evaluations, which `jmedllm score` may have changed since."""
    return [run.folder / name for name in run.outputs["eval"].files] if "eval" in run.outputs else []


def _perform(run: Run, input_hash: str) -> Outputs:
    recipe = run.recipe
    results = collect([run.folder]) if recipe.eval else []
    training = [stage for stage in read_training([run.folder]) if stage.name in run.outputs]
    write_atomic(run.folder / REPORTS[0], _as_markdown(run, results, training))
    names = [split_language(name)[0] for name in (recipe.eval.benchmarks if recipe.eval else ())]
    custom_files = [Path(name) for name in names if is_custom_file(name)]
    questions = questions_of(results, QuestionPlaces(run.data, custom_files))
    write_page(run.folder / REPORTS[1], results, questions, recipe.name, training, deployed(run), memorized(run))
    cards = _write_cards(run, results, training) if training else []
    return Outputs(files=[*REPORTS, *cards])


def _as_markdown(run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> str:
    recipe = run.recipe
    base = recipe.base.path or "with random weights"
    scores = markdown([each.result for each in results], headlines(results)) if results else "Nothing was evaluated.\n"
    outputs = {name: each.to_dict() for name, each in run.outputs.items()}
    plain = {name: {key.replace("_", " "): each for key, each in found.items()} for name, found in outputs.items()}
    lines = [f"- {name}: {_plain(found)}\n" for name, found in plain.items() if found.keys() - _LISTED]
    lines += [f"- **{stage.failure}**\n" for stage in training if stage.failure]
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    head = f"# {recipe.name}\n\nBase {base}, seed {recipe.seed}, {run.precision.name}.\n\n"
    files = deployment(deployed(run))
    shown = f"\n## Deployment\n\n{files}\n" if files else ""
    known = memorization(memorized(run))
    shown = (f"\n## Memorization\n\n{known}\n" if known else "") + shown
    return f"{head}{scores}\n{''.join(lines)}{shown}\nMade with {used}.\n"


def _write_cards(run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> list[str]:
    """Write the model card next to the final model and into its folder; this does not change its fingerprint."""
    *_, final = model_names(run.stages, run.recipe)
    if final == BASE:
        return []
    card = model_folder(run, final).parent / MODEL_CARD
    found = findings(run, results, training)
    write_atomic(card, model_card(replace(found, deployed=deployed(run))))
    places = [card, write_readme(run, results, training)]
    paths = [place.relative_to(run.folder).as_posix() for place in places]
    return [*paths, *_write_adapter_cards(run, results, training)]


def _write_adapter_cards(
    run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]
) -> Iterator[str]:
    """Write a card into the folder of each adapter; this does not change its fingerprint."""
    by_name = {stage.name: stage for stage in run.stages}
    logs = {stage.name: stage for stage in training}
    for _, model in yielding(run.stages, run.recipe):
        if not model.adapter or not model.adapter_base:
            continue
        stage = by_name[model.adapter_base]
        base = name_before(run, stage.name)
        both = [each for each in results if each.result.model in (base, model.name)]
        card = adapter_card(
            AdapterFindings(
                recipe=run.recipe,
                stages=manifest_entries(run),
                training=logs[stage.name],
                base=base,
                base_fingerprint=fingerprint_before(run, stage.name),
                model=model.name,
                about=[*about_canaries(run), *stage.card(run)],
                data=stage.card_data(run),
                results=[each.result for each in both],
                compared=[each for each in compare(both) if each.kind == "models"],
            )
        )
        path = f"{model.adapter}/README.md"
        write_atomic(run.folder / path, card)
        yield path


_LISTED = frozenset({"files", "deployed", "deidentification", "checks"})
"""Outputs that are shown elsewhere."""


def _plain(values: Mapping[str, Any]) -> str:
    """Format values as text, with the values of a mapping in brackets after its name."""
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items() if name not in _LISTED)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_plain(value)})"
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _enabled(recipe: Recipe) -> bool:
    return recipe.eval is not None or any(isinstance(section, TrainingConfig) for _, section in recipe)


REPORT = Stage(name="report", enabled=_enabled, inputs=_inputs, perform=_perform, outputs=Outputs)
