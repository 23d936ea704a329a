"""Files and settings of a stored evaluation, which can be resumed only with the same settings."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic

SAMPLES, SCORES, JUDGE, SUMMARY = ".samples.jsonl", ".scores.jsonl", ".judge.jsonl", ".json"
"""Suffixes of a task's files."""


@dataclass(frozen=True, slots=True)
class EvalFiles:
    """Files of one task in the directory of an evaluation.

    Attributes:
        samples: outputs of the model, appended one by one.
        scores: item scores, derived from `samples`.
        judge: replies of a judge model, appended one by one.
        summary: settings, scores and everything else that reports show.
    """

    samples: Path
    scores: Path
    judge: Path
    summary: Path

    def every(self) -> tuple[Path, ...]:
        """Return all files, whether they exist or not."""
        return self.samples, self.scores, self.judge, self.summary


def files_of(task: str, folder: Path) -> EvalFiles:
    """Return the files of a task such as "igakuqa.ja"."""
    return EvalFiles(*(folder / f"{task}{ending}" for ending in (SAMPLES, SCORES, JUDGE, SUMMARY)))


def begin(summary_file: Path, settings: dict[str, Any], asked: int, source: dict[str, str]) -> None:
    """Write the settings before the first sample.

    Args:
        summary_file: summary of the evaluation.
        settings: everything that shapes the samples.
        asked: number of items to evaluate.
        source: see `EvalTask.source`.
    """
    trace = {"jmedllm": __version__}
    if summary_file.exists():  # the version that wrote the first sample
        trace = {"jmedllm": read_json(summary_file)["trace"]["jmedllm"]}
    summary = {"settings": settings, "asked": asked, "source": source, "trace": trace}
    write_atomic(summary_file, to_json(summary, indent=2) + "\n")


def begun_settings(files: EvalFiles) -> dict[str, Any] | None:
    """Return the settings of the stored samples; None if there are no samples.

    Raises:
        InputError: the files were not written by `jmedllm eval`.
    """
    summary = read_json(files.summary) if files.summary.exists() else None
    if files.summary.exists() and not is_summary(summary):
        raise InputError(f"{files.summary}: is not a summary of jmedllm eval; choose another --output")
    if not files.samples.exists():
        return None
    if summary is None:
        raise InputError(
            f"{files.samples}: {files.summary.name} is missing in the same folder; choose another --output"
        )
    return dict(summary["settings"])


def date_begun(tasks: Iterable[str], folders: Iterable[Path]) -> str | None:
    """Return the date in the prompts of the first of these tasks that has one in one of the folders."""
    found = (begun_settings(files_of(task, folder)) for folder in folders for task in tasks)
    return next((settings["date"] for settings in found if settings and settings.get("date")), None)


FREE = {"skip_invalid", "scorers", "judge", "samples"}
"""Settings that do not affect samples, so they may change when an evaluation is resumed."""


OF_SOME = {"images"}
"""Settings that only some questions have, so that a part of the questions, such as the first ones, may lack them."""


def differing_settings(before: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Return the names of settings that affect samples and differ."""
    some = OF_SOME - (before.keys() & settings.keys())
    names = [name for name in before | settings if name not in FREE | some]
    return [name for name in names if before.get(name) != settings.get(name)]


def require_same(summary_file: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    """Check that an evaluation is resumed with its original settings.

    Raises:
        InputError: settings differ; the message names them.
    """
    if differing := differing_settings(before, settings):
        changes = ", ".join(f"{key} {before.get(key)!r} is now {settings.get(key)!r}" for key in differing)
        raise InputError(f"{summary_file}: evaluated with other settings ({changes}); choose another --output")


def is_summary(summary: Any) -> bool:
    """Return whether a JSON value is the summary of an evaluation, finished or not."""
    if not isinstance(summary, dict):
        return False
    parts = {"settings": "fingerprint", "trace": "jmedllm"}
    return all(isinstance(summary.get(part), dict) and key in summary[part] for part, key in parts.items())
