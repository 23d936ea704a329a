"""The files of one evaluation, and the settings under which it began: only the same settings may resume it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic

SAMPLES, SCORES, JUDGE, SUMMARY = ".samples.jsonl", ".scores.jsonl", ".judge.jsonl", ".json"
"""What follows the task's name in the names of its files."""


@dataclass(frozen=True, slots=True)
class EvalFiles:
    """Where an evaluation keeps what it stores of one task.

    Attributes:
        samples: what the model gave, appended as it comes.
        scores: what scorers made of it, derived from `samples`.
        judge: what a judge model replied, appended as it comes.
        summary: settings, scores and all else that reports show.
    """

    samples: Path
    scores: Path
    judge: Path
    summary: Path

    def every(self) -> tuple[Path, ...]:
        """All of them, whether they exist or not."""
        return self.samples, self.scores, self.judge, self.summary


def files_of(task: str, folder: Path) -> EvalFiles:
    """The files of the task of this name, such as "igakuqa.ja"."""
    return EvalFiles(*(folder / f"{task}{ending}" for ending in (SAMPLES, SCORES, JUDGE, SUMMARY)))


def begin(summary_file: Path, settings: dict[str, Any], asked: int, source: dict[str, str]) -> None:
    """Write down the settings of the samples to come.

    Args:
        asked: how many items are evaluated.
        source: see `EvalTask.source`.
    """
    trace = {"jmedllm": __version__}
    if summary_file.exists():  # the version that gave the first sample
        trace = {"jmedllm": read_json(summary_file)["trace"]["jmedllm"]}
    summary = {"settings": settings, "asked": asked, "source": source, "trace": trace}
    write_atomic(summary_file, to_json(summary, indent=2) + "\n")


def begun_settings(files: EvalFiles) -> dict[str, Any] | None:
    """Settings under which the samples there were begun; None if there are no samples.

    Raises:
        InputError: the files exist, and they are not ours.
    """
    summary = read_json(files.summary) if files.summary.exists() else None
    if files.summary.exists() and not is_summary(summary):
        raise InputError(f"{files.summary}: is not a summary of jmedllm eval; choose another --output")
    if not files.samples.exists():
        return None
    if summary is None:
        raise InputError(f"{files.samples}: has no {files.summary.name} beside it; choose another --output")
    return dict(summary["settings"])


def date_begun(tasks: Iterable[str], folders: Iterable[Path]) -> str | None:
    """The date in the prompts of the first of these tasks that was begun in one of the folders and has one."""
    found = (begun_settings(files_of(task, folder)) for folder in folders for task in tasks)
    return next((settings["date"] for settings in found if settings and settings.get("date")), None)


FREE = {"skip_invalid", "scorers", "judge"}
"""Settings that may change when an evaluation is resumed: they change no sample."""


def differing_settings(before: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Names of the settings that shape samples and differ."""
    names = [name for name in before | settings if name not in FREE]
    return [name for name in names if before.get(name) != settings.get(name)]


def require_same(summary_file: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    """Check that an evaluation is resumed under the settings that it began with.

    Raises:
        InputError: it is not; names the settings that differ.
    """
    if differing := differing_settings(before, settings):
        changes = ", ".join(f"{key} {before.get(key)!r} is now {settings.get(key)!r}" for key in differing)
        raise InputError(f"{summary_file}: evaluated with other settings ({changes}); choose another --output")


def is_summary(summary: Any) -> bool:
    """Whether a JSON value is the summary of an evaluation, finished or not."""
    if not isinstance(summary, dict):
        return False
    parts = {"settings": "fingerprint", "trace": "jmedllm"}
    return all(isinstance(summary.get(part), dict) and key in summary[part] for part, key in parts.items())
