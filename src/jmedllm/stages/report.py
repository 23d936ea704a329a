"""Stage report: training and scores of the run as Markdown and as a page with every item, and the model card."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, get_args

from jmedllm.deploy.shards import tensors_in
from jmedllm.evaluation.benchmarks.file_formats import is_table
from jmedllm.evaluation.evaluate import split_language
from jmedllm.files import hash_text, read_json, to_json, write_atomic
from jmedllm.manifest import REPORTS, read_manifest
from jmedllm.models.folder import weight_files
from jmedllm.pipeline import Run, Stage, versions
from jmedllm.recipe import CollectedResult as Model
from jmedllm.recipe import Recipe
from jmedllm.report import CollectedResult, collect, headlines, markdown, questions_of
from jmedllm.report.card import Findings, model_card
from jmedllm.report.compare import Comparison, compare
from jmedllm.report.page import write_page
from jmedllm.report.training import TrainedStage, read_training
from jmedllm.stages.corpus import Text, read_corpus, read_general, read_held_out
from jmedllm.stages.models import folder_of

CARDS = ("MODEL_CARD.md", "model/README.md")
"""Beside the final model, and in its folder, which is what people copy."""


def _inputs(run: Run) -> dict[str, Any]:
    # Not what the stages made alone: licences, hardware and hours change without it.
    return {
        "recipe": hash_text(to_json(run.recipe.model_dump())),
        "stages": hash_text(to_json(_stages(run))),
        "built": hash_text(to_json(_built(run))),
        "versions": versions(),
    }


def _stages(run: Run) -> dict[str, Any]:
    """The manifest's entries of the recipe's stages: those of an earlier recipe may lie beside them."""
    manifest = read_manifest(run.folder) or {"stages": {}}
    return {stage: entry for stage, entry in manifest["stages"].items() if stage in run.outputs}


def _perform(run: Run, input_hash: str) -> dict[str, Any]:
    recipe = run.recipe
    sat = collect([run.folder]) if recipe.eval else []
    head = f"# {recipe.name}\n\nBase {recipe.base.path or 'from scratch'}, seed {recipe.seed}, {run.precision.name}"
    training = [stage for stage in read_training([run.folder]) if stage.name in run.outputs]
    made = "".join(f"- {stage}: {_plain(values)}\n" for stage, values in run.outputs.items() if stage != "eval")
    made += "".join(f"- **{stage.failure}**\n" for stage in training if stage.failure)
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    scores = markdown([each.result for each in sat], headlines(sat)) if sat else "Nothing was evaluated.\n"
    write_atomic(run.folder / REPORTS[0], f"{head}.\n\n{scores}\n{made}\nMade with {used}.\n")
    names = [split_language(name)[0] for name in (recipe.eval.benchmarks if recipe.eval else ())]
    own = [Path(name) for name in names if is_table(name)]
    write_page(run.folder / REPORTS[1], sat, questions_of(sat, run.data, own), recipe.name, training)
    cards = _write_cards(run, sat, training) if training else []
    return {"files": [*REPORTS, *cards]}


def _write_cards(run: Run, sat: Sequence[CollectedResult], training: Sequence[TrainedStage]) -> list[str]:
    """Put the model card beside the final model and into it; neither is part of its fingerprint."""
    final: Model = "mpeft" if run.recipe.mpeft else "mfpt"
    folder = folder_of(run, final)
    card = model_card(
        Findings(
            recipe=run.recipe,
            stages=_stages(run),
            training=training,
            documents=chain(read_corpus(run), read_general(run)),
            held_out=Counter(name for name, _ in read_held_out(run)),
            built=_built(run),
            parameters=_parameters(folder),
            results=[each.result for each in sat],
            compared=_compared(sat, final),
            headlines=headlines(sat),
        )
    )
    places = [folder.parent / name for name in CARDS]
    for place in places:
        write_atomic(place, card)
    return [place.relative_to(run.folder).as_posix() for place in places]


def _parameters(folder: Path) -> int:
    """How many numbers a model consists of; one that two of its parts share counts once."""
    return sum(prod(each["shape"]) for file in weight_files(folder) for each in tensors_in(file).values())


def _built(run: Run) -> dict[str, Any]:
    """What is known of how each text of the corpus was cleaned: by the user before, and by the run."""
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


def _compared(sat: Sequence[CollectedResult], final: str) -> list[Comparison]:
    both = [each for each in sat if each.result.model in ("base", final)]
    return [each for each in compare(both) if each.kind == "models"]


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if name != "files")


def _enabled(recipe: Recipe) -> bool:
    return bool(recipe.eval or recipe.mfpt or recipe.mpeft)


STAGE = Stage("report", _enabled, _inputs, _perform)
