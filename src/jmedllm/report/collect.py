"""Read finished evaluations from disk; all reports get samples and scores from here."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from pathlib import Path
from typing import Any, Literal

from jmedllm.errors import InputError
from jmedllm.evaluation.question import LANGUAGES
from jmedllm.evaluation.reading import NO_ANSWER
from jmedllm.evaluation.records import Sample, ScoredItem, read_samples, read_scores
from jmedllm.evaluation.result import EvalResult, read_result
from jmedllm.evaluation.resume import FREE, SAMPLES, SUMMARY, files_of
from jmedllm.evaluation.scorers import SCORERS, ItemScore, from_values
from jmedllm.evaluation.sharding import is_share
from jmedllm.evaluation.thought_evidence import resolve_thoughts
from jmedllm.files import to_json
from jmedllm.manifest import BASE, NAME, Manifest, read_manifest

SERVED = "served "
"""Prefix of the fingerprint of a model on a server, whose content is unknown."""

Outcome = Literal["right", "partial", "wrong", "none", "counted"]
"""Outcome of an item: "none" is no answer, "counted" is no answer that the published protocol counts as right."""


@dataclass(frozen=True, slots=True)
class CollectedItem:
    """One presentation of a question, with the outputs of the model and their scores.

    Attributes:
        order: index of the printed choice at each position of the prompt.
        scores: for each scorer the fields of its item score, with its `value` (from 0 to 1) and `outcome`.
        reasoning: the thought; None if there is none. Further fields are those of the sample.
    """

    question_hash: str
    order: tuple[int, ...]
    response: str | None
    truncated: bool
    log_probs: tuple[float, ...] | None
    scores: Mapping[str, Mapping[str, Any]]
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    thought_cut: bool = False
    forced: bool = False


@dataclass(frozen=True, slots=True)
class CollectedResult:
    """A finished evaluation with its items, by question id.

    Attributes:
        items: first presentation of each question.
        rotated: further presentations with rotated choices, and further samples of these.
        base: name of the model from which this one was adapted, if it was evaluated on the same task.
        aliases: other names under which the same model was evaluated with the same settings.
        unchanged: aliases of models that a run adapted from this one without any change of the weights.
        descriptions: what the models of its run are, by name.
        unreadable: notes on scorers that are left out because their item scores cannot be read here.
        is_adapted: whether a run trained the model, or it has an adapter.
        sampled: further samples of the first presentation.
    """

    result: EvalResult
    items: dict[str, CollectedItem]
    rotated: dict[str, list[CollectedItem]]
    base: str | None = None
    aliases: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    is_adapted: bool = False
    sampled: Mapping[str, Sequence[CollectedItem]] = field(default_factory=dict)

    @property
    def task(self) -> tuple[str, str]:
        """Benchmark and language."""
        return self.result.settings["benchmark"], self.result.settings["language"]

    def value(self, id: str, scorer: str) -> float:
        """Return the value of a question by one scorer, the mean of its samples."""
        every = [self.items[id], *(item for item in self.sampled.get(id, ()) if scorer in item.scores)]
        return fsum(item.scores[scorer]["value"] for item in every) / len(every)


def collect(folders: Iterable[Path]) -> list[CollectedResult]:
    """Read all finished evaluations below the folders, in the order in which a run trains the models, then by name;
    Japanese first.

    Evaluations of the same model with the same settings on the same task become one result with aliases. The folder is
    added to the names of different models with the same name.

    Raises:
        InputError: a folder is missing or has no finished evaluation.
    """
    found: dict[Path, _Found] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the --output of an evaluation or a run")
        # Resolved, so that a folder given twice counts once.
        here = {each.path: each for each in _find(folder.resolve())}
        if not here:
            raise InputError(f"{folder}: has no finished evaluation; run `jmedllm eval` or `jmedllm run` first")
        found |= here
    in_order = sorted(found.values(), key=_order)
    groups: dict[str, list[_Found]] = {}
    for each in in_order:
        groups.setdefault(_identity(each), []).append(each)
    # Of equal evaluations, show the first with the most items, and of these the one with the most samples and scorers.
    kept = {key: max(group, key=_size) for key, group in groups.items()}
    names = _distinct_names(list(kept.values()))
    shown = {each.path: names[kept[key].path] for key, group in groups.items() for each in group}
    bases = {each.path: base.path for each in in_order if (base := _base_of(each, in_order))}
    return [_collected(kept[key], group, shown, bases) for key, group in groups.items()]


def _size(found: "_Found") -> tuple[int, int, int]:
    settings = found.result.settings
    return found.result.asked, settings.get("samples", 1), len(settings["scorers"])


@dataclass(frozen=True, slots=True)
class _Found:
    """A summary file, its content, the run directory that it is in, and this run's manifest."""

    path: Path
    result: EvalResult
    run: Path | None
    manifest: Manifest

    @property
    def models(self) -> Sequence[str]:
        """Models of the run, in order."""
        models: Sequence[str] = self.manifest.get("models", (BASE,))
        return models


def _find(folder: Path) -> list[_Found]:
    """Find summaries below a folder; of a run only those of its current recipe."""
    manifests = {path.parent: read_manifest(path.parent) for path in folder.rglob(NAME)}
    runs = {run: manifest for run, manifest in manifests.items() if manifest}
    present = [(run / name, run, manifest) for run, manifest in runs.items() for name in _results_in(run, manifest)]
    single: list[tuple[Path, None, Manifest]] = [
        (path, None, {})
        for path in sorted(folder.rglob("*.json"))
        if path.with_suffix(SAMPLES).exists()
        and not is_share(path.parent)
        and not any(run in path.parents for run in runs)
    ]
    return [
        _Found(path, result, run, manifest)
        for path, run, manifest in (*present, *single)
        if (result := read_result(path))
    ]


def _results_in(run: Path, manifest: Manifest) -> list[str]:
    """Return the summaries among the outputs of a run's stages."""
    files = [name for entry in manifest["stages"].values() for name in entry["outputs"].get("files", ())]
    return [name for name in files if name.endswith(".json") and (run / name).with_suffix(SAMPLES).exists()]


def _order(found: _Found) -> tuple[int, str, str, int]:
    result = found.result
    place = found.models.index(result.model) if result.model in found.models else len(found.models)
    language = LANGUAGES.index(result.settings["language"])
    return place, result.model, result.settings["benchmark"], language


def _identity(found: _Found) -> str:
    """Identify the model and the settings of an evaluation independent of names; a served model has only its name."""
    settings = found.result.settings
    if settings["fingerprint"].startswith(SERVED):
        return str(found.path)
    return to_json({key: settings[key] for key in sorted(settings.keys() - FREE - {"model"})})


def _distinct_names(found: Sequence[_Found]) -> dict[Path, str]:
    """Name the model of each evaluation, with the folder if several models or results share the name."""
    models = {
        (each.result.model, each.result.settings["fingerprint"], each.result.settings.get("adapter_fingerprint"))
        for each in found
    }
    tasks = Counter((each.result.model, *_task(each.result)) for each in found)
    shared = {name for name, count in Counter(name for name, *_ in models).items() if count > 1}
    shared |= {name for (name, *_), count in tasks.items() if count > 1}
    folders = [each.path.parent for each in found if each.result.model in shared]
    above = os.path.commonpath(folders) if folders else ""
    return {
        each.path: f"{each.result.model} ({each.path.parent.relative_to(above)})"
        if each.result.model in shared
        else each.result.model
        for each in found
    }


def _base_of(found: _Found, others: Sequence[_Found]) -> _Found | None:
    """Find the evaluation of the base model on the same task: in the same run, or that of an adapter's base."""
    for other in others:
        if other is found or _task(other.result) != _task(found.result):
            continue
        if found.run is not None:
            is_base = other.run == found.run and other.result.model == BASE
        else:
            is_base = _is_below_adapter(other.result.settings, found.result.settings)
        if is_base:
            return other
    return None


def _is_below_adapter(base: Mapping[str, Any], adapted: Mapping[str, Any]) -> bool:
    key = "adapter_fingerprint"
    return key in adapted and key not in base and base["fingerprint"] == adapted["fingerprint"]


def _task(result: EvalResult) -> tuple[str, str]:
    return result.settings["benchmark"], result.settings["language"]


def _collected(
    kept: _Found, group: Sequence[_Found], shown: Mapping[Path, str], bases: Mapping[Path, Path]
) -> CollectedResult:
    name = shown[kept.path]
    items = _items(kept)
    aliases = tuple(dict.fromkeys(each.result.model for each in group if each.result.model != kept.result.model))
    unchanged = tuple(
        each.result.model
        for each in group
        if each.path in bases and shown[bases[each.path]] == name and each.result.model in aliases
    )
    base = shown.get(bases[kept.path]) if kept.path in bases else None
    where = f"{name}, {' '.join(_task(kept.result))}"
    unreadable = tuple(f"{where}: left out scorer {scorer}, which {why}." for scorer, why in items.left_out.items())
    result = _without(kept, items.left_out)
    result = replace(result, settings=result.settings | {"model": name}, notes=(*result.notes, *unreadable))
    if len(group) > 1:
        result = replace(result, notes=(*result.notes, _same_model(name, aliases, kept, group)))
    descriptions = kept.manifest.get("descriptions", {})
    return CollectedResult(
        result,
        items.first,
        items.rotated,
        base if base != name else None,
        aliases,
        unchanged,
        descriptions,
        unreadable,
        _is_adapted(kept),
        items.sampled,
    )


def _is_adapted(found: _Found) -> bool:
    in_run = found.run is not None and found.result.model in found.models and found.result.model != BASE
    return in_run or "adapter_fingerprint" in found.result.settings


def _same_model(name: str, aliases: Sequence[str], kept: _Found, group: Sequence[_Found]) -> str:
    """Note that several evaluations are shown as one, and on how many items they differ."""
    first = _items(kept).first
    differing = {
        id
        for each in group
        for id, item in _items(each).first.items()
        if id in first
        and any(item.scores[name] != first[id].scores[name] for name in item.scores.keys() & first[id].scores.keys())
    }
    where = f" on {' '.join(_task(kept.result))}" if differing or not aliases else ""
    is_same = f"{' and '.join(aliases)}: the same model as {name}" if aliases else f"{name}{where} was evaluated twice"
    same = f"{is_same} (same fingerprint and settings), shown once."
    return f"{same} {len(differing):,} items{where} were scored differently." if differing else same


@dataclass(frozen=True, slots=True)
class _Items:
    """First presentations, rotated ones and further samples by question, and why scorers are left out."""

    first: dict[str, CollectedItem]
    rotated: dict[str, list[CollectedItem]]
    sampled: dict[str, list[CollectedItem]]
    left_out: dict[str, str]


def _items(found: _Found) -> _Items:
    """Read first and rotated presentations by question. Samples beyond the evaluation's --limit have no scores."""
    files = files_of(found.path.name.removesuffix(SUMMARY), found.path.parent)
    samples, scores = resolve_thoughts(read_samples(files.samples)), read_scores(files.scores)
    left_out = _unreadable(found.result.settings["scorers"], scores.values())
    items: dict[str, CollectedItem] = {}
    rotated: dict[str, list[CollectedItem]] = {}
    sampled: dict[str, list[CollectedItem]] = {}
    for name, scored in scores.items():
        if name not in samples:
            raise InputError(f"{files.samples}: has no sample {name}, which has scores; evaluate again to ask for it")
        sample = samples[name]
        readable = {scorer: values for scorer, values in scored.item_scores.items() if scorer not in left_out}
        item = _item(sample, scored.question_hash, readable)
        if sample.rotation:
            rotated.setdefault(sample.question, []).append(item)
        elif sample.sample_number:
            sampled.setdefault(sample.question, []).append(item)
        else:
            items[name] = item
    return _Items(items, rotated, sampled, left_out)


def _unreadable(scorers: Iterable[str], scored: Collection[ScoredItem]) -> dict[str, str]:
    """Return the scorers whose item scores cannot be read here, and why."""
    found = {}
    for name in scorers:
        values = [each.item_scores[name] for each in scored if name in each.item_scores]
        if name not in SCORERS:
            found[name] = "is not installed; install the package that registers it"
        elif any(from_values(name, each) is None for each in values):
            found[name] = "has changed since the item scores were written; run jmedllm score"
    return found


def _without(found: _Found, left_out: Mapping[str, str]) -> EvalResult:
    """Return the result without scorers that are left out.

    Raises:
        InputError: no scorer remains.
    """
    result = found.result
    scorers = [each for each in result.settings["scorers"] if each not in left_out]
    if not left_out:
        return result
    if not scorers:
        scorer, why = next(iter(left_out.items()))
        raise InputError(f"{found.path}: scorer {scorer} {why}")
    outcomes = any(SCORERS[each].exam_outcomes for each in scorers)
    return replace(
        result,
        settings=result.settings | {"scorers": scorers},
        scores=tuple(each for each in result.scores if each.scorer in scorers),
        exam_outcomes=result.exam_outcomes if outcomes else (),
        rotations=tuple(each for each in result.rotations if each.scorer in scorers),
        human_baseline=tuple(each for each in result.human_baseline if each.scorer in scorers),
        pictures=tuple(each for each in result.pictures if each.scorer in scorers),
        samples=tuple(each for each in result.samples if each.scorer in scorers),
        readings={each: ways for each, ways in result.readings.items() if each in scorers},
    )


def _item(sample: Sample, question_hash: str, item_scores: Mapping[str, dict[str, Any]]) -> CollectedItem:
    scores = {name: _score(name, values) for name, values in item_scores.items()}
    return CollectedItem(
        question_hash=question_hash,
        order=sample.order,
        response=sample.response,
        truncated=sample.truncated,
        log_probs=sample.log_probs,
        scores=scores,
        reasoning=sample.reasoning,
        reasoning_tokens=sample.reasoning_tokens,
        thought_cut=sample.thought_cut,
        forced=sample.forced,
    )


def _score(scorer: str, values: dict[str, Any]) -> dict[str, Any]:
    """Convert an item score to plain values, with `value` and `outcome`, and with the reason for no answer as
    `how`."""
    item_score = from_values(scorer, values)
    outcome = _outcome(item_score)
    reason = {} if _is_answered(item_score) else {"how": item_score.how}
    return {**values, "value": item_score.value, "outcome": outcome, **reason}


def _outcome(item_score: ItemScore) -> Outcome:
    if not _is_answered(item_score):
        return "counted" if item_score.value else "none"
    return "right" if item_score.value == 1 else "partial" if item_score.value else "wrong"


def _is_answered(item_score: ItemScore) -> bool:
    """Return whether there is an answer, from `answered` or `how` of the item score."""
    return bool(getattr(item_score, "answered", item_score.how not in NO_ANSWER))
