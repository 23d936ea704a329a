"""The model card of a run: what its stages, files and evaluations say about the final model."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, get_args

from jmedllm.deploy.shards import tensors_in
from jmedllm.files import read_json, write_atomic
from jmedllm.manifest import BASE, read_manifest
from jmedllm.models.folder import fingerprint, weight_files
from jmedllm.report import CollectedResult, headlines
from jmedllm.report.card import Findings, model_card
from jmedllm.report.compare import Comparison, compare
from jmedllm.report.deployment import DeployedFile, read_deployment
from jmedllm.report.memorization import Memorization, read_memorization
from jmedllm.report.training import TrainedStage
from jmedllm.stages.canary import about_canaries
from jmedllm.stages.corpus import Text, read_corpus, read_general, read_held_out
from jmedllm.stages.stage import ModelOutputs, Run, base_folder, model_folder, model_names


def findings(run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> Findings:
    """Return what is known about the final model of a run.

    Args:
        run: a run with at least one finished training stage.
        results: its evaluations.
        training: logs of its training stages.
    """
    *_, final = model_names(run.stages, run.recipe)
    return Findings(
        recipe=run.recipe,
        stages=manifest_entries(run),
        training=training,
        final=final,
        model=_about_model(run),
        examples=[line for stage in run.stages if stage.name in run.outputs for line in stage.card_data(run)],
        documents=chain(read_corpus(run), read_general(run)),
        held_out=Counter(name for name, _ in read_held_out(run)),
        built=cleaning(run),
        parameters=_parameters(model_folder(run, final)),
        results=[each.result for each in results],
        compared=_compared(results, final),
        headlines=headlines(results),
        memorized=memorized(run),
    )


def write_readme(run: Run, results: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> Path:
    """Write the card into the folder of the final model, which users copy; this does not change its fingerprint.

    It says nothing about exported files, because these contain it.
    """
    *_, final = model_names(run.stages, run.recipe)
    path = model_folder(run, final) / "README.md"
    write_atomic(path, model_card(findings(run, results, training)))
    return path


def deployed(run: Run) -> list[DeployedFile]:
    """Return the exported files of a run, if its recipe has any."""
    return read_deployment([run.folder]) if "deploy" in run.outputs else []


def memorized(run: Run) -> list[Memorization]:
    """Return what the models of a run know of its canaries, if its recipe has any."""
    return read_memorization(run.folder) if "memorization" in run.outputs else []


def manifest_entries(run: Run) -> dict[str, Any]:
    """Return the manifest's entries of the recipe's stages, without those of an earlier recipe."""
    manifest = read_manifest(run.folder) or {"stages": {}}
    return {stage: entry for stage, entry in manifest["stages"].items() if stage in run.outputs}


def _about_model(run: Run) -> list[str]:
    """Return the lines of the finished stages about the model, and its fingerprint after each of them."""
    lines = [] if run.recipe.corpus else [f"Fingerprint of the base: `{fingerprint(base_folder(run))}`"]
    lines += about_canaries(run)
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


def cleaning(run: Run) -> dict[str, Any]:
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
