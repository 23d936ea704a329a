"""Stage report: training and scores of the run as Markdown and HTML page, and the model card."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, get_args

from jmedllm.deploy.shards import tensors_in
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.evaluate import split_language
from jmedllm.evaluation.stored_questions import QuestionPlaces
from jmedllm.files import hash_file, hash_text, read_json, to_json, write_atomic
from jmedllm.manifest import BASE, REPORTS, read_manifest, versions
from jmedllm.models.folder import fingerprint, weight_files
from jmedllm.recipe import Recipe
from jmedllm.report import CollectedResult, collect, headlines, markdown, questions_of
from jmedllm.report.card import Findings, model_card
from jmedllm.report.card.adapter import AdapterFindings, adapter_card
from jmedllm.report.compare import Comparison, compare
from jmedllm.report.page import write_page
from jmedllm.report.training import TrainedStage, read_training
from jmedllm.stages.corpus import Text, read_corpus, read_general, read_held_out
from jmedllm.stages.stage import (
    ModelOutputs,
    Outputs,
    Run,
    Stage,
    base_folder,
    fingerprint_before,
    model_folder,
    model_names,
    name_before,
    yielding,
)
from jmedllm.training.config import TrainingConfig

MODEL_CARD = "MODEL_CARD.md"
CARDS = (MODEL_CARD, "model/README.md")
"""File names of the model card: next to the final model, and in its folder, which users copy."""


def _inputs(run: Run) -> dict[str, Any]:
    # Include whole entries, because licences, hardware and hours can change while outputs stay the same.
    return {
        "recipe": hash_text(to_json(run.recipe.model_dump())),
        "stages": hash_text(to_json(_stages(run))),
        "built": hash_text(to_json(_built(run))),
        "scores": {path.relative_to(run.folder).as_posix(): hash_file(path) for path in _summaries(run)},
        "versions": versions(),
    }


def _summaries(run: Run) -> list[Path]:
    """Return the summaries of the evaluations, which `jmedllm score` may have changed since."""
    return [run.folder / name for name in run.outputs["eval"].files] if "eval" in run.outputs else []


def _stages(run: Run) -> dict[str, Any]:
    """Return the manifest's entries of the recipe's stages, without those of an earlier recipe."""
    manifest = read_manifest(run.folder) or {"stages": {}}
    return {stage: entry for stage, entry in manifest["stages"].items() if stage in run.outputs}


def _perform(run: Run, input_hash: str) -> Outputs:
    recipe = run.recipe
    results = collect([run.folder]) if recipe.eval else []
    training = [stage for stage in read_training([run.folder]) if stage.name in run.outputs]
    write_atomic(run.folder / REPORTS[0], _as_markdown(run, results, training))
    names = [split_language(name)[0] for name in (recipe.eval.benchmarks if recipe.eval else ())]
    custom_files = [Path(name) for name in names if is_custom_file(name)]
    questions = questions_of(results, QuestionPlaces(run.data, custom_files))
    write_page(run.folder / REPORTS[1], results, questions, recipe.name, training)
    cards = _write_cards(run, results, training) if training else []
    return Outputs(files=[*REPORTS, *cards])


def _as_markdown(run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> str:
    recipe = run.recipe
    base = recipe.base.path or "with random weights"
    scores = markdown([each.result for each in results], headlines(results)) if results else "Nothing was evaluated.\n"
    outputs = {name: each.to_dict() for name, each in run.outputs.items()}
    plain = {name: {key.replace("_", " "): each for key, each in found.items()} for name, found in outputs.items()}
    lines = [f"- {name}: {_plain(found)}\n" for name, found in plain.items()]
    lines += [f"- **{stage.failure}**\n" for stage in training if stage.failure]
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    head = f"# {recipe.name}\n\nBase {base}, seed {recipe.seed}, {run.precision.name}.\n\n"
    return f"{head}{scores}\n{''.join(lines)}\nMade with {used}.\n"


def _write_cards(run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> list[str]:
    """Write the model card next to the final model and into its folder; this does not change its fingerprint."""
    *_, final = model_names(run.stages, run.recipe)
    if final == BASE:
        return []
    folder = model_folder(run, final)
    card = model_card(
        Findings(
            recipe=run.recipe,
            stages=_stages(run),
            training=training,
            final=final,
            model=_about_model(run),
            examples=[line for stage in run.stages if stage.name in run.outputs for line in stage.card_data(run)],
            documents=chain(read_corpus(run), read_general(run)),
            held_out=Counter(name for name, _ in read_held_out(run)),
            built=_built(run),
            parameters=_parameters(folder),
            results=[each.result for each in results],
            compared=_compared(results, final),
            headlines=headlines(results),
        )
    )
    places = [folder.parent / name for name in CARDS]
    for place in places:
        write_atomic(place, card)
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
                stages=_stages(run),
                training=logs[stage.name],
                base=base,
                base_fingerprint=fingerprint_before(run, stage.name),
                model=model.name,
                about=stage.card(run),
                data=stage.card_data(run),
                results=[each.result for each in both],
                compared=[each for each in compare(both) if each.kind == "models"],
            )
        )
        path = f"{model.adapter}/README.md"
        write_atomic(run.folder / path, card)
        yield path


def _about_model(run: Run) -> list[str]:
    """Return the lines of the finished stages about the model, and its fingerprint after each of them."""
    lines = [] if run.recipe.corpus else [f"Fingerprint of the base: `{fingerprint(base_folder(run))}`"]
    for stage in run.stages:
        outputs = run.outputs.get(stage.name)
        if isinstance(outputs, ModelOutputs):
            lines.append(f"Fingerprint of the model ({stage.name}): `{outputs.model}`")
        if outputs is not None:
            lines += stage.card(run)
    return lines


def _parameters(folder: Path) -> int:
    """Count the parameters of a model; shared ones count once."""
    return sum(prod(each["shape"]) for file in weight_files(folder) for each in tensors_in(file).values())


def _built(run: Run) -> dict[str, Any]:
    """Return how each text of the corpus was cleaned, by the user before and by the run, if known."""
    corpus = run.recipe.corpus
    if corpus is None:
        return {}
    folders = {f"input {name}": Path(name) for name in (*corpus.inputs, *corpus.mixing.general)}
    folders |= {f"{text} text": run.folder / "corpus" / text for text in get_args(Text)}
    return {
        name: read_json(folder / "corpus.json")
        for name, folder in folders.items()
        if (folder / "corpus.json").is_file()
    }


def _compared(results: Sequence[CollectedResult], final: str) -> list[Comparison]:
    both = [each for each in results if each.result.model in (BASE, final)]
    return [each for each in compare(both) if each.kind == "models"]


def _plain(values: Mapping[str, Any]) -> str:
    """Format values as text, with the values of a mapping in brackets after its name."""
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items() if name != "files")


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
