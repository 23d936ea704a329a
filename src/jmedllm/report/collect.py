"""Finished sittings, found again on disk."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.question import LANGUAGES
from jmedllm.evaluation.records import Record, read_finished
from jmedllm.evaluation.sharding import is_share
from jmedllm.evaluation.task import EvalResult, read_result
from jmedllm.manifest import NAME, Manifest, read_manifest

_STAGES = ("base", "mfpt", "mpeft")


@dataclass(frozen=True, slots=True)
class CollectedResult:
    """A finished sitting with the records it rests on, by question id.

    Attributes:
        records: of the first showing of each question.
        turns: of the further showings, where the choices were turned.
    """

    result: EvalResult
    records: dict[str, Record]
    turns: dict[str, list[Record]]

    @property
    def task(self) -> tuple[str, str]:
        """Benchmark and language."""
        return self.result.settings["benchmark"], self.result.settings["language"]


def collect_records(folders: Iterable[Path]) -> list[CollectedResult]:
    """All finished sittings below the folders with their records, see `collect_files`."""
    return [_with_records(path, result) for path, result in collect_files(folders)]


def _with_records(path: Path, result: EvalResult) -> CollectedResult:
    every = read_finished(path.with_suffix(".jsonl")).values()
    first = [record for record in every if not record.turn]
    # Those of an earlier sitting without this one's --limit stand behind its own.
    asked = {record.id: record for record in first[: result.asked]}
    turns: dict[str, list[Record]] = {}
    for record in every:
        if record.turn and record.question in asked:
            turns.setdefault(record.question, []).append(record)
    return CollectedResult(result, asked, turns)


def collect(folders: Iterable[Path]) -> list[EvalResult]:
    """All finished sittings below the folders, see `collect_files`."""
    return [result for _, result in collect_files(folders)]


def collect_files(folders: Iterable[Path]) -> list[tuple[Path, EvalResult]]:
    """Summary files with their sittings below the folders; models in the order a run trains them, then by name,
    each with Japanese first. Models of one name that sat the same paper have their folder added to it.

    Raises:
        InputError: a folder is missing or holds no finished sitting.
    """
    found: dict[Path, EvalResult] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the --output of an exam or a run")
        # Resolved, so that a folder given twice counts once.
        here = {path: result for path in _summaries(folder.resolve()) if (result := read_result(path))}
        if not here:
            raise InputError(f"{folder}: holds no finished evaluation; run `jmedllm eval` or `jmedllm run` first")
        found |= here
    return _told_apart(sorted(found.items(), key=lambda item: _order(item[1])))


def _summaries(folder: Path) -> list[Path]:
    """Files that may hold a sitting: of a run those of its present recipe, which older ones lie beside."""
    manifests = {path.parent: read_manifest(path.parent) for path in folder.rglob(NAME)}
    runs = {run: manifest for run, manifest in manifests.items() if manifest}
    present = [run / name for run, manifest in runs.items() for name in _results_in(manifest)]
    single = [
        path
        for path in sorted(folder.rglob("*.json"))
        if path.with_suffix(".jsonl").exists()
        and not is_share(path.parent)
        and not any(run in path.parents for run in runs)
    ]
    return present + single


def _results_in(manifest: Manifest) -> list[str]:
    exam = manifest["stages"].get("eval")
    return exam["made"]["files"] if exam else []


def _told_apart(found: Sequence[tuple[Path, EvalResult]]) -> list[tuple[Path, EvalResult]]:
    """The sittings, with its folder added to a name that stands for several models or sat a paper twice."""
    models = {(s.model, s.settings["fingerprint"], s.settings.get("adapter_fingerprint")) for _, s in found}
    tasks = Counter((s.model, s.settings["benchmark"], s.settings["language"]) for _, s in found)
    alike = {name for name, count in Counter(name for name, *_ in models).items() if count > 1}
    alike |= {name for (name, *_), count in tasks.items() if count > 1}
    places = [path.parent for path, result in found if result.model in alike]
    above = os.path.commonpath(places) if places else ""
    return [
        (path, _renamed(result, path.parent.relative_to(above)) if result.model in alike else result)
        for path, result in found
    ]


def _renamed(result: EvalResult, place: Path) -> EvalResult:
    return replace(result, settings=result.settings | {"model": f"{result.model} ({place})"})


def _order(result: EvalResult) -> tuple[int, str, str, int]:
    place = _STAGES.index(result.model) if result.model in _STAGES else len(_STAGES)
    language = LANGUAGES.index(result.settings["language"])
    return place, result.model, result.settings["benchmark"], language
