"""The model card of a run: what the model was made from, how, what it is worth, and what it is not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from jmedllm.corpus.read import Document
from jmedllm.data.catalogue import SOURCES
from jmedllm.exam.sitting import Sitting
from jmedllm.files import hash_text, to_json
from jmedllm.recipe import Recipe
from jmedllm.report.table import Row, build_rows
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


def model_card(
    recipe: Recipe,
    stages: Mapping[str, Mapping[str, Any]],
    documents: Iterable[Document],
    built: Sequence[Mapping[str, Any]],
    sittings: Sequence[Sitting],
    training: Sequence[TrainedStage],
) -> str:
    """The card as Markdown.

    Args:
        recipe: what was carried out.
        stages: the run's manifest: for each stage its inputs, what it made, seconds, versions and hardware.
        documents: the corpus that was trained on.
        built: the `corpus.json` of each input that `jmedllm corpus build` made.
        sittings: what the models of the run sat.
        training: the logs of its stages.
    """
    parts = [
        f"# {recipe.name}\n\n{WARNING}",
        f"## Model\n\n{_list(_model(recipe, stages))}",
        f"## Corpus\n\n{_corpus(recipe, documents, stages)}\n\n{_removed(built)}",
        f"## Questions and instructions\n\n{_examples(recipe, stages)}",
        f"## Training\n\n{_training(recipe, stages, training)}",
        f"## Forgetting\n\n{_forgetting(training)}",
        f"## Exam\n\n{_exam(sittings)}",
        f"## Limits\n\n{_list(LIMITS)}",
        f"## Recipe\n\n```yaml\n{_yaml(recipe)}```",
    ]
    return "\n\n".join(parts) + "\n"


def recipe_hash(recipe: Recipe) -> str:
    """Hash over all values of a recipe, defaults included."""
    return hash_text(to_json(recipe.model_dump()))


def _model(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    base = recipe.base.path or f"built from nothing: {recipe.base.scratch!r}"
    found = [f"Base: {base}"]
    if recipe.base.path:
        found.append(
            f"Revision: {recipe.base.revision or 'as found on disk; its content is named by the fingerprint'}"
        )
    for stage, name in (("corpus", "base"), ("mfpt", "model"), ("mpeft", "adapter"), ("merge", "model")):
        if stage in stages:
            found.append(f"Fingerprint of the {name} ({stage}): `{stages[stage]['made'][name]}`")
    found.append("Licence: that of the base and of the texts named below; ask a lawyer where they differ")
    return found


def _corpus(recipe: Recipe, documents: Iterable[Document], stages: Mapping[str, Mapping[str, Any]]) -> str:
    size, count = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for document in documents:
        kind = (document.source or "unnamed", document.language or "unknown", document.license or "**unknown**")
        size[kind] += len(document.text.encode())
        count[kind] += 1
    if not count:
        return "None: the model was tuned on questions and instructions only."
    rows = [(*kind, f"{count[kind]:,}", f"{size[kind]:,}") for kind in sorted(size)]
    if len(rows) > 50:
        rows = [*rows[:50], (f"and {len(rows) - 50:,} more sources", "", "", "", "")]
    table = _table(("Source", "Language", "Licence", "Documents", "UTF-8 bytes"), rows)
    epochs = stages.get("mfpt", {}).get("made", {}).get("epochs", {})
    told = "".join(f"\n- {name}: read {value:g} times in stage 1" for name, value in epochs.items())
    held = f"\n\nHeld out of training: {recipe.evaluate.held_out:.1%} of the documents." if recipe.evaluate else ""
    return f"{table}{held}{told and chr(10) + told}"


def _examples(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]]) -> str:
    """What stage 2 was trained on."""
    if recipe.mpeft is None:
        return "None: the model has no stage 2."
    lines = [
        f"{source.benchmark} ({', '.join(source.languages)}; split {source.split}), "
        f"licence: {_licence(source.benchmark)}"
        for source in recipe.mpeft.questions
    ]
    lines += [f"Instructions {name}, licence: **unknown**" for name in recipe.mpeft.instructions]
    lines.append(f"Examples: {stages['mpeft']['made']['examples']:,}")
    return _list(lines)


def _licence(benchmark: str) -> str:
    if benchmark.startswith("demo"):
        return "Apache-2.0"
    return SOURCES[benchmark].licence if benchmark in SOURCES else "**unknown**"


def _removed(built: Sequence[Mapping[str, Any]]) -> str:
    if not built:
        return "What was removed before is not known: the inputs were not made by `jmedllm corpus build`."
    lines = []
    for corpus in built:
        copies = corpus["duplicates"]
        lines.append(f"Left out: {copies['exact']:,} documents that repeat another, {copies['near']:,} nearly so")
        lines.append(f"Emptied by cleaning: {corpus['emptied']:,} documents; not readable: {corpus['unread']:,}")
        lines += [
            f"Cut out for {name}: {found['places']:,} passages that give away {found['items']:,} of its items"
            for name, found in corpus["leaked"].items()
        ]
        searched = ", ".join(f"{name} ({count:,} items)" for name, count in corpus["questions"].items())
        lines.append(f"Searched for: {searched or 'no exam; leaks were not looked for'}")
    return _list(lines)


def _training(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]], training: Sequence[TrainedStage]) -> str:
    rows = []
    for stage in training:
        made, entry = stage.made, stages[stage.name]
        hours = stage.metrics[-1]["seconds"] / 3600
        shown = entry["inputs"]["settings"]["learning_rate"]
        best = f", weights of step {made['best_step']:,}" if "best_step" in made else ""
        rows.append(
            (
                stage.name,
                f"{made['steps']:,}{best}",
                f"{made['trained_tokens']:,}",
                f"{shown:g}",
                f"{made['final_loss']:.4f}",
                f"{hours:.2f}",
                entry.get("hardware", "not recorded"),
            )
        )
    head = ("Stage", "Steps", "Trained tokens", "Learning rate", "Final loss", "Hours", "Hardware")
    versions = ", ".join(f"{name} {number}" for name, number in stages[training[-1].name]["versions"].items())
    return (
        f"{_table(head, rows)}\n\n- Recipe hash: `{recipe_hash(recipe)}`\n- Seed: {recipe.seed}\n"
        f"- Made with {versions}"
    )


def _forgetting(training: Sequence[TrainedStage]) -> str:
    rows = [
        (
            stage.name,
            name,
            f"{stage.made['evaluated'][name]['documents']:,}",
            f"{stage.made['evaluated'][name]['bytes']:,}",
            f"{before:.4f}",
            f"{after:.4f}",
            f"{100 * (after / before - 1):+.2f} %",
        )
        for stage in training
        for name, (before, after) in stage.changes().items()
    ]
    if not rows:
        return "Not measured: the recipe has no `evaluate` section with texts."
    head = ("Stage", "Held-out text", "Texts", "UTF-8 bytes", "Bits per byte before", "After", "Change")
    general = any(row[1] == "general" for row in rows)
    note = (
        "A rise on general text is forgetting."
        if general
        else "**No general text was held out**: forgetting is not known."
    )
    return f"{_table(head, rows)}\n\n{note}"


def _exam(sittings: Sequence[Sitting]) -> str:
    rows = [_score(row) for row in build_rows(sittings) if not row.published]
    if not rows:
        return "Not sat."
    head = ("Model", "Benchmark", "Language", "Measure", "n", "Score", "95 % interval", "Floor", "Ceiling")
    return (
        f"{_table(head, rows)}\n\nAll in %. Floor: what no skill earns on these items; ceiling: what the right "
        "answer earns. ~: the interval reaches down to the floor, so no skill is shown."
    )


def _score(row: Row) -> tuple[str, ...]:
    low, high = row.interval or (0.0, 1.0)
    bounds = [f"{100 * each:.1f}" if each is not None else "–" for each in (row.floor, row.ceiling)]
    return (
        row.model,
        row.benchmark,
        row.language,
        row.measure.replace("_", " "),
        f"{row.n or 0:,}",
        f"{100 * row.value:.1f}{row.mark}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        *bounds,
    )


def _yaml(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json", exclude_none=True, exclude={"controls"})
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell would end it."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
