"""Effect of new tokens on a small model: bits per byte with and without them, before and after stage 1, as a table.

python benchmarks/vocabulary.py --data DIR --output /tmp/vocabulary      a second call resumes

DIR contains the project's corpus of real texts. The base is a randomly initialized model, trained on statutes and an
English textbook. Stage 1 then trains it on Japanese medical text, the same text for as many epochs, with new
tokens and without. The held-out text is the same, by the hash of the text.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.documents import Document, as_line
from jmedllm.corpus.language import language
from jmedllm.corpus.readers.reader import read_documents
from jmedllm.files import atomic_file
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe import Recipe
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Run

SHAPE = {"vocabulary": 4096, "hidden_size": 128, "layers": 3, "feed_forward": 384, "context": 512}
TRAINING = {"batch_size": 8, "micro_batch_size": 8, "save_steps": 100_000, "early_stopping": {"every": 100_000}}
ADDED = (0, 500)
SEEDS = (0, 1, 2)
LENGTH = 1_500
"""Characters of a document. With short documents the held-out share contains many."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Stage 1 on one file of text.

    Attributes:
        base: the recipe's section of the base model.
        corpus: file with the text.
        added: number of tokens to add.
    """

    folder: Path
    base: dict[str, Any]
    corpus: str
    epochs: int
    seed: int = 0
    added: int = 0


def main() -> None:
    """Run the missing runs and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--output", type=Path, required=True)
    given = options.parse_args()
    texts = _texts(given.data / "corpus", given.output / "texts")
    first = _Run(given.output / "base", base={"random_init": SHAPE}, corpus=texts["old"], epochs=1)
    _train(first, texts)
    base = {"path": str(first.folder / "mfpt" / "model")}
    runs = [
        _Run(given.output / f"{added}-{seed}", base=base, corpus=texts["medical"], epochs=2, seed=seed, added=added)
        for added in ADDED
        for seed in SEEDS
    ]
    for run in runs:
        _train(run, texts)
    print(_table([(run.added, run.folder) for run in runs]))


def _texts(corpus: Path, folder: Path) -> dict[str, str]:
    """Files with the text of the base model, the text of stage 1, and other text like that of the base model."""
    laws = sorted((corpus / "ja_laws").glob("*.md"))
    english = list(read_documents(corpus / "en_openstax_microbiology.jsonl"))
    medical = [
        *read_documents(corpus / "ja_wikipedia_medical.jsonl"),
        *read_documents(corpus / "ja_case_reports.jsonl"),
    ]
    medical += list(read_documents(corpus / "ja_pharmacopoeia.jsonl"))[::12]
    statutes = [document for law in laws for document in read_documents(law)]
    parts = {
        "old": [*statutes[:10], *english[:40]],
        "medical": medical,
        "en": english[100:110],
        "general": statutes[30:34],
    }
    for name, documents in parts.items():
        with atomic_file(folder / f"{name}.jsonl") as handle:
            handle.writelines(as_line(piece) for piece in _pieces(documents))
    return {name: str(folder / f"{name}.jsonl") for name in parts}


def _pieces(documents: Iterable[Document]) -> Iterable[Document]:
    for document in documents:
        text = clean(document.text).text
        for start in range(0, len(text), LENGTH):
            piece = text[start : start + LENGTH]
            yield Document(f"{document.id}.{start}", piece, language(piece), document.source, document.license)


def _train(run: _Run, texts: dict[str, str]) -> None:
    recipe = Recipe.model_validate(
        {
            "name": run.folder.name,
            "seed": run.seed,
            "threads": 1,
            "base": run.base,
            "corpus": {"inputs": [run.corpus], "block_size": 256}
            | ({"vocabulary": {"add": run.added}} if run.added else {}),
            "validation": {"held_out": 0.1, "texts": {name: [texts[name]] for name in ("en", "general")}},
            "mfpt": {"epochs": run.epochs, "learning_rate": 2e-3, **TRAINING},
        }
    )
    context = Run(recipe, run.folder, choose_precision("float32", "cpu", 1), {})
    run_pipeline(STAGES.values(), context, "mfpt", lambda stage, state: print(f"{recipe.name} {stage}: {state}"))


def _table(runs: list[tuple[int, Path]]) -> str:
    head = (
        "New tokens", "Asked for", "Characters per token", "Trained tokens", "Seconds",
        *(f"{name} {when}" for name in ("ja", "general", "en") for when in ("before", "after")),
    )  # fmt: skip
    lines = [head, ("---:",) * len(head)]
    for asked in ADDED:
        folders = [folder for added, folder in runs if added == asked]
        stages_of_runs = [
            json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"] for folder in folders
        ]
        corpus = stages_of_runs[0]["corpus"]["outputs"]
        cells = [
            f"{corpus.get('tokens_added', 0):,}",
            f"{asked:,}",
            f"{corpus.get('characters_per_token_after', '')}",
            f"{stages_of_runs[0]['mfpt']['outputs']['trained_tokens']:,}",
            f"{mean(each['mfpt']['seconds'] for each in stages_of_runs):.0f}",
        ]
        measured = [_evaluations(folder) for folder in folders]
        for name in ("ja", "general", "en"):
            for row in (0, -1):
                values = [each[row]["bits_per_byte"][name] for each in measured]
                cells.append(f"{mean(values):.3f} ± {stdev(values):.3f}")
        lines.append(tuple(cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "mfpt" / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
