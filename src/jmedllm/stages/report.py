"""Stage report: training and scores of the run as Markdown and as a page with every item, and the model card."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jmedllm.exam.examine import split_language
from jmedllm.exam.sitting import Sitting
from jmedllm.files import hash_text, read_json, to_json, write_atomic
from jmedllm.manifest import REPORTS, read_manifest
from jmedllm.recipe import Recipe
from jmedllm.report import collect_records, markdown, questions_of
from jmedllm.report.card import model_card
from jmedllm.report.page import write_page
from jmedllm.report.training import TrainedStage, read_training
from jmedllm.run import Run, Step, versions
from jmedllm.stages.corpus import read_corpus, read_general

CARD = "MODEL_CARD.md"


def _inputs(run: Run) -> dict[str, Any]:
    return {
        "made": hash_text(to_json(run.made)),
        "seed": run.recipe.seed,
        "versions": versions(),
    }


def _perform(run: Run, identity: str) -> dict[str, Any]:
    recipe = run.recipe
    sat = collect_records([run.folder]) if recipe.exam else []
    head = (
        f"# {recipe.name}\n\nBase {recipe.base.path or 'from scratch'}, seed {recipe.seed}, {run.precision.name}"
    )
    made = "".join(f"- {stage}: {_plain(values)}\n" for stage, values in run.made.items() if stage != "exam")
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    scores = markdown([each.sitting for each in sat]) if sat else "No exam was sat.\n"
    write_atomic(run.folder / REPORTS[0], f"{head}.\n\n{scores}\n{made}\nMade with {used}.\n")
    names = [split_language(name)[0] for name in (recipe.exam.benchmarks if recipe.exam else ())]
    own = [Path(name) for name in names if name.endswith(".jsonl")]
    training = read_training([run.folder])
    write_page(run.folder / REPORTS[1], sat, questions_of(sat, run.data, own), recipe.name, training)
    card = _write_card(run, [each.sitting for each in sat], training)
    return {"files": [*REPORTS, *card]}


def _write_card(run: Run, sittings: Sequence[Sitting], training: Sequence[TrainedStage]) -> list[str]:
    """Put a model card beside the final model; a run that trains nothing has none."""
    manifest = read_manifest(run.folder)
    if not training or manifest is None:
        return []
    place = f"{'merge' if run.recipe.mpeft else 'mfpt'}/{CARD}"
    documents = chain(read_corpus(run), read_general(run))
    inputs = run.recipe.corpus.inputs if run.recipe.corpus else []
    folders = [*map(Path, inputs), *(run.folder / "corpus" / text for text in ("medical", "general"))]
    built = [read_json(folder / "corpus.json") for folder in folders if (folder / "corpus.json").is_file()]
    card = model_card(run.recipe, manifest["stages"], documents, built, sittings, training)
    write_atomic(run.folder / place, card)
    return [place]


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if name != "files")


def _wanted(recipe: Recipe) -> bool:
    return bool(recipe.exam or recipe.mfpt or recipe.mpeft)


STEP = Step("report", _wanted, _inputs, _perform)
