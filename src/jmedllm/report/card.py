"""The model card of a run: what the model was made from, how, what it is worth, and what it is not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from jmedllm.corpus.read import Document
from jmedllm.data.catalogue import SOURCES
from jmedllm.exam.sitting import Sitting
from jmedllm.exam.statistics import holm
from jmedllm.files import hash_text, to_json
from jmedllm.recipe import Recipe
from jmedllm.report.compare import Comparison
from jmedllm.report.table import Row, build_rows
from jmedllm.report.training import TrainedStage
from jmedllm.training.adapter import Adapter

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

SMALL = 10_000
"""Bytes of held-out text below which a change in bits per byte is not judged: a few sentences decide it."""

_MOST_SOURCES = 20
"""Rows for single sources; the rest are summed up by language and licence, so that every licence is named."""


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
        sittings: what the models of the run sat.
        compared: the final model against the base, on each paper both sat.
    """

    recipe: Recipe
    stages: Mapping[str, Mapping[str, Any]]
    training: Sequence[TrainedStage]
    documents: Iterable[Document] = ()
    held_out: Mapping[str, int] = field(default_factory=dict)
    built: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: int | None = None
    sittings: Sequence[Sitting] = ()
    compared: Sequence[Comparison] = ()


def model_card(found: Findings) -> str:
    """The card as Markdown."""
    recipe, stages = found.recipe, found.stages
    parts = [
        f"# {recipe.name}\n\n{WARNING}",
        f"## Model\n\n{_list(_model(found))}",
        f"## Corpus\n\n{_corpus(found)}",
        f"## Questions and instructions\n\n{_examples(recipe, stages)}",
        f"## Training\n\n{_training(recipe, stages, found.training)}",
        f"## Forgetting\n\n{_forgetting(recipe, found.training)}",
        f"## Exam\n\n{_exam(found.sittings, found.compared)}",
        f"## Limits\n\n{_list(LIMITS)}",
        f"## Recipe\n\n```yaml\n{_yaml(recipe)}```",
    ]
    return "\n\n".join(parts) + "\n"


def recipe_hash(recipe: Recipe) -> str:
    """Hash over all values of a recipe, defaults included."""
    return hash_text(to_json(recipe.model_dump()))


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
    if base.scratch:
        return f"Base: built from nothing: {_plain(base.scratch.model_dump())}"
    revision = base.revision or "as found on disk; its content is named by the fingerprint"
    return f"Base: {base.path}, revision {revision}"


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _corpus(found: Findings) -> str:
    size, count = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for document in found.documents:
        kind = (document.source or "unnamed", document.language or "unknown", document.license or "**unknown**")
        size[kind] += len(document.text.encode())
        count[kind] += 1
    if not count:
        return "None: the model was tuned on questions and instructions only."
    shown = set(sorted(size, key=lambda kind: (-size[kind], kind))[:_MOST_SOURCES])
    rows: list[tuple[str, ...]] = [(*kind, f"{count[kind]:,}", f"{size[kind]:,}") for kind in sorted(shown)]
    rest = sorted(size.keys() - shown)
    for language, licence in sorted({kind[1:] for kind in rest}):
        alike = [kind for kind in rest if kind[1:] == (language, licence)]
        amounts = [f"{sum(counts[kind] for kind in alike):,}" for counts in (count, size)]
        rows.append((f"smaller sources: {len(alike):,}", language, licence, *amounts))
    table = _table(("Source", "Language", "Licence", "Documents", "UTF-8 bytes"), rows)
    more = [*_held_out(found.held_out, count.total()), *_epochs(found.stages), _removed(found.built)]
    return "\n\n".join([table, *more])


def _held_out(held_out: Mapping[str, int], trained: int) -> list[str]:
    held = sum(held_out.values())
    if not held:
        return []
    every = held + trained
    return [f"Held out of training: {held:,} of {every:,} documents, {held / every:.1%} ({_counts(held_out)})."]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _epochs(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    epochs = stages.get("mfpt", {}).get("made", {}).get("epochs", {})
    most_read = sorted(epochs.items(), key=lambda item: -item[1])[:_MOST_SOURCES]
    told = ", ".join(f"{name} {times:g} times" for name, times in most_read)
    more = f" and {len(epochs) - len(most_read):,} others less often" if len(epochs) > len(most_read) else ""
    return [f"Read in stage 1: {told}{more}."] if told else []


def _examples(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]]) -> str:
    """What stage 2 was trained on."""
    if recipe.mpeft is None:
        return "None: the model has no stage 2."
    made = stages["mpeft"]["made"]
    lines = [
        f"{source.benchmark} ({', '.join(source.languages)}; split {source.split}), "
        f"licence: {_licence(source.benchmark)}"
        for source in recipe.mpeft.questions
    ]
    lines += [f"Instructions {name}, licence: **unknown**" for name in recipe.mpeft.instructions]
    skipped = f"; left out as too long: {made['skipped']:,}" if "skipped" in made else ""
    lines.append(f"Examples: {made['examples']:,}{skipped}")
    lines.append("Before training all were held against every exam item then on the disk: none is among them")
    return _list(lines)


def _licence(benchmark: str) -> str:
    if benchmark.startswith("demo"):
        return "Apache-2.0"
    return SOURCES[benchmark].licence if benchmark in SOURCES else "**unknown**"


def _removed(built: Mapping[str, Mapping[str, Any]]) -> str:
    if not built:
        return "What was removed before is not known: the inputs were not made by `jmedllm corpus build`."
    rows = [
        (name, *(f"{n:,}" for n in (*_repeats(corpus), corpus["emptied"], corpus["unread"])))
        for name, corpus in built.items()
    ]
    lines = [
        f"Cut out of the {name} for {exam}: {leak['places']:,} places that tell {leak['items']:,} of its items"
        for name, corpus in built.items()
        for exam, leak in corpus["leaked"].items()
    ]
    searched: dict[str, list[str]] = {}
    for name, corpus in built.items():
        exams = ", ".join(f"{exam} ({count:,} items)" for exam, count in corpus["questions"].items())
        searched.setdefault(exams or "no exam; leaks were not looked for", []).append(name)
    lines += [f"Searched for in the {' and the '.join(names)}: {exams}" for exams, names in searched.items()]
    head = ("Documents left out of the", "Repeat another", "Nearly so", "Emptied by cleaning", "Not readable")
    return f"{_table(head, rows)}\n\n{_list(lines)}"


def _repeats(corpus: Mapping[str, Any]) -> tuple[int, int]:
    return corpus["duplicates"]["exact"], corpus["duplicates"]["near"]


def _training(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]], training: Sequence[TrainedStage]) -> str:
    rows = [_trained(recipe, stages[stage.name], stage) for stage in training]
    head = ("Stage", "Steps", "Weights handed on", "Trained tokens", "Learning rate", "Loss of the last step")
    versions = ", ".join(f"{name} {number}" for name, number in stages[training[-1].name]["versions"].items())
    lines = [f"**{stage.failure}**" for stage in training if stage.failure]
    if recipe.mpeft:
        lines.append(_adapter(recipe.mpeft.adapter))
    lines += [f"Recipe hash: `{recipe_hash(recipe)}`", f"Seed: {recipe.seed}", f"Made with {versions}"]
    return f"{_table((*head, 'Hours', 'Hardware'), rows)}\n\n{_list(lines)}"


def _adapter(adapter: Adapter) -> str:
    targets = adapter.targets if isinstance(adapter.targets, str) else ", ".join(adapter.targets)
    base = "not quantised" if adapter.quantization == "none" else f"quantised to {adapter.quantization}"
    return (
        f"Adapter: {adapter.kind}, rank {adapter.r}, alpha {adapter.alpha}, dropout {adapter.dropout:g}, on "
        f"{targets}; its base was {base} while it was trained"
    )


def _trained(recipe: Recipe, entry: Mapping[str, Any], stage: TrainedStage) -> tuple[str, ...]:
    settings = recipe.mfpt if stage.name == "mfpt" else recipe.mpeft
    chosen_by = ", ".join(settings.watch.best_by) if settings else ""
    made = stage.made
    return (
        stage.name,
        f"{made['steps']:,}",
        f"step {stage.handed_on:,}, {f'the best by {chosen_by}' if 'best_step' in made else 'the last'}",
        f"{made['trained_tokens']:,}",
        f"{entry['inputs']['settings']['learning_rate']:g}",
        f"{made['final_loss']:.4f}",
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
        change = f"{100 * (self.after / self.before - 1):+.2f} %{', too small to judge' if self.is_small else ''}"
        amounts = f"{self.documents:,}", f"{self.bytes:,}"
        return (self.stage, self.name, *amounts, f"{self.before:.4f}", f"{self.after:.4f}", change)


def _forgetting(recipe: Recipe, training: Sequence[TrainedStage]) -> str:
    changes = [change for stage in training for change in _changes(stage)]
    if not changes:
        return "Not measured: the recipe has no `evaluate` section with texts."
    joined, apart = _joined(recipe, training)
    head = ("Stage", "Held-out text", "Texts", "UTF-8 bytes", "Bits per byte before", "After", "Change")
    table = _table(head, [change.cells() for change in (*changes, *joined)])
    return "\n\n".join([table, *apart, _verdict([change for change in changes if change.name == "general"])])


def _verdict(general: Sequence[_Change]) -> str:
    if not general:
        return "**No general text was held out**: forgetting is not known."
    if all(change.is_small for change in general):
        return f"**Less than {SMALL:,} bytes of general text were held out**: forgetting is not known."
    return "A rise on general text is forgetting."


def _changes(stage: TrainedStage) -> list[_Change]:
    census = stage.made.get("evaluated", {})
    return [
        _Change(stage.name, name, census[name]["documents"], census[name]["bytes"], before, after)
        for name, (before, after) in stage.changes().items()
    ]


def _joined(recipe: Recipe, training: Sequence[TrainedStage]) -> tuple[list[_Change], list[str]]:
    """Of each set the way from the base to the final model; or why the stages cannot be joined."""
    measured = [{change.name: change for change in _changes(stage)} for stage in training]
    if len(training) < 2 or not all(measured) or not recipe.corpus or not recipe.mpeft:
        return [], []
    windows = recipe.corpus.block_size, recipe.mpeft.block_size
    if windows[0] != windows[1]:
        reason = "stage 1 read the texts in windows of {:,} tokens, stage 2 of {:,}".format(*windows)
        return [], [f"No row leads from the base to the final model: {reason}."]
    first, last = measured
    rows = [
        _Change("base to final", name, old.documents, old.bytes, old.before, last[name].after)
        for name, old in first.items()
        if name in last and (old.documents, old.bytes) == (last[name].documents, last[name].bytes)
    ]
    return rows, []


def _exam(sittings: Sequence[Sitting], compared: Sequence[Comparison]) -> str:
    rows = [row for row in build_rows(sittings) if not row.published]
    if not rows:
        return "Not sat."
    models = list(dict.fromkeys(row.model for row in rows))
    papers: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        papers.setdefault(_paper(row), {})[row.model] = _score(row)
    head = ("Benchmark", "Language", "Measure", "n", "Floor", "Ceiling", *models)
    lines = [(*paper, *(scores.get(name, "–") for name in models)) for paper, scores in papers.items()]
    return (
        f"{_table(head, lines)}\n\nAll in %, with the 95 % interval. Floor: what no skill earns on these items; "
        "ceiling: what the right answer earns. ~: the interval reaches down to the floor, so no skill is shown."
        f"\n\n{_gain(compared)}"
    )


def _paper(row: Row) -> tuple[str, ...]:
    bounds = [f"{100 * each:.1f}" if each is not None else "–" for each in (row.floor, row.ceiling)]
    return row.benchmark, row.language, row.measure.replace("_", " "), f"{row.n or 0:,}", *bounds


def _score(row: Row) -> str:
    low, high = row.interval or (0.0, 1.0)
    return f"{100 * row.value:.1f}{row.mark} ({100 * low:.1f} to {100 * high:.1f})"


def _gain(compared: Sequence[Comparison]) -> str:
    """The final model against the base, item by item."""
    if not compared:
        return "The final model was not compared with its base: there is no paper that both sat."
    adjusted = holm([each.paired.p for each in compared])
    rows = [
        (
            each.benchmark,
            each.track,
            f"{each.first} → {each.second}",
            f"{each.paired.n:,}",
            f"{100 * each.paired.difference:+.1f}",
            f"{100 * each.paired.low:+.1f} to {100 * each.paired.high:+.1f}",
            f"{each.paired.p:.3f}",
            f"{p:.3f}",
        )
        for each, p in zip(compared, adjusted, strict=True)
    ]
    head = ("Benchmark", "Track", "Base → final", "n", "Difference", "95 % interval", "p", "p (Holm)")
    return (
        f"{_table(head, rows)}\n\nDifference in points on the same items; p: exact McNemar, and adjusted for all "
        "rows of this table. An interval that holds 0 shows no gain."
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
