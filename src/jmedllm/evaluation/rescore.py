"""Score stored evaluations again, finished or not, without the model."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.judge import current_replies
from jmedllm.evaluation.lengths import is_marked, measure
from jmedllm.evaluation.offline import answer_of
from jmedllm.evaluation.question import LANGUAGES, Question, content_hash
from jmedllm.evaluation.records import Sample, ScoredItem, read_judge_replies, read_samples, read_scores
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import SAMPLES, EvalFiles, files_of, is_summary
from jmedllm.evaluation.scorable import cannot_score
from jmedllm.evaluation.score import Evaluation, ItemScores, require_scorable, score_samples, summarize, write_result
from jmedllm.evaluation.scorers import SCORERS, from_values, scorers_named
from jmedllm.evaluation.sharding import is_share
from jmedllm.evaluation.stored_questions import QuestionPlaces, load_questions, require_evaluated
from jmedllm.evaluation.thought_evidence import resolve_thoughts, resolved_note
from jmedllm.files import read_json
from jmedllm.locks import locked
from jmedllm.progress import notice


@dataclass(frozen=True, slots=True)
class Change:
    """An item whose new score differs from the stored one.

    Attributes:
        kind: "right → wrong", "wrong → right", "value 0.40 → 0.60", or "same value, read differently".
        before: the stored reading: `chosen`, `how`, `value`.
        after: the new reading.
    """

    model: str
    task: str
    scorer: str
    id: str
    kind: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Differences:
    """The new item scores of an evaluation beside the stored ones.

    Attributes:
        compared: number of item scores that are stored and computed again.
        changes: those that differ.
        other_version: number of stored item scores that another version of their scorer wrote, which are not compared.
        new: number of item scores that are not stored.
        dropped: number of stored item scores that are no longer computed.
    """

    compared: int
    changes: tuple[Change, ...]
    other_version: int
    new: int
    dropped: int


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """A stored evaluation with its new item scores.

    Attributes:
        asked: number of items of the evaluation; more than it has samples while it is unfinished.
        differences: the new item scores beside the stored ones.
    """

    name: str
    files: EvalFiles
    evaluation: Evaluation
    item_scores: ItemScores
    asked: int
    differences: Differences

    @property
    def is_finished(self) -> bool:
        """Whether all items have all samples, in all rotations."""
        rotations = self.evaluation.settings["rotations"]
        presentations = sum(max(1, min(rotations, len(question.choices))) for question in self.evaluation.questions)
        wanted = presentations * self.evaluation.settings.get("samples", 1)
        return len(self.evaluation.questions) == self.asked and len(self.evaluation.samples) == wanted

    @property
    def is_truncated(self) -> bool:
        """Whether so many responses were cut off that its scores are too low."""
        lengths = measure(self.evaluation.samples.values())
        return lengths is not None and is_marked(lengths.truncated, lengths.n)

    def write(self) -> EvalResult:
        """Return the result; of a finished evaluation, also write scores and summary."""
        if not self.is_finished:
            return summarize(self.evaluation, self.item_scores, {})
        with locked(self.files.summary.parent):
            return write_result(self.evaluation, self.files)

    @property
    def command(self) -> str:
        """How to ask the model for the samples that are missing."""
        return _again(self.evaluation, self.files.summary.parent)

    def is_below(self, folder: Path) -> bool:
        """Return whether its files are in this folder or in a folder below it."""
        return self.files.summary.is_relative_to(folder.resolve())


def stored_evaluations(
    folders: Iterable[Path], scorers: Sequence[str], places: QuestionPlaces
) -> list[StoredEvaluation]:
    """Score every evaluation below the folders; nothing is written.

    Args:
        folders: directories of evaluations or runs.
        scorers: scorers to add to those of each evaluation with questions that they can score.
        places: where the questions are now.

    Raises:
        InputError: a folder has no evaluation, questions are missing or have changed, or samples lack what a scorer
            needs.
    """
    scorers_named(scorers)
    found = [each for folder in folders for each in _score_below(folder, scorers, places)]
    require_evaluated(places.custom, (each.evaluation.settings["benchmark"] for each in found))
    for name in scorers:
        if not any(name in each.evaluation.settings["scorers"] for each in found):
            raise cannot_score(name, [question for each in found for question in each.evaluation.questions])

    def place(each: StoredEvaluation) -> tuple[str, str, int]:
        settings = each.evaluation.settings
        return settings["model"], settings["benchmark"], LANGUAGES.index(settings["language"])

    return sorted(found, key=place)


def _score_below(folder: Path, scorers: Sequence[str], places: QuestionPlaces) -> Iterator[StoredEvaluation]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the --output of an evaluation or a run")
    paths = [path for path in sorted(folder.resolve().rglob(f"*{SAMPLES}")) if not is_share(path.parent)]
    if not paths:
        raise InputError(f"{folder}: has no evaluation; run `jmedllm eval` or `jmedllm run` first")
    for path in paths:
        name = path.name.removesuffix(SAMPLES)
        yield _score_one(name, files_of(name, path.parent), scorers, places)


def _score_one(name: str, files: EvalFiles, scorers: Sequence[str], places: QuestionPlaces) -> StoredEvaluation:
    summary: Any = read_json(files.summary) if files.summary.exists() else None
    if not is_summary(summary):
        raise InputError(f"{files.summary}: is not a summary of jmedllm eval; give the --output of an evaluation")
    settings, asked = summary["settings"], summary["asked"]
    questions, stored = _asked(files, summary, load_questions(settings, summary["source"], places))
    samples = resolve_thoughts(stored)
    if gone := [each for each in settings["scorers"] if each not in SCORERS]:
        raise InputError(f"{files.summary}: scorer {gone[0]} is not installed; install the package that registers it")
    every = scorers_named(list(dict.fromkeys([*settings["scorers"], *scorers])))
    applied = {each: scorer for each, scorer in every.items() if any(map(scorer.applies, questions))}
    chosen = {each: scorer for each, scorer in every.items() if each in applied or each in settings["scorers"]}
    names = list(chosen)
    evaluation = Evaluation(
        questions,
        samples,
        settings | {"scorers": names},
        summary.get("selected", asked),
        summary.get("left_out", {}),
        tuple(dict.fromkeys([*summary.get("notes", ()), *resolved_note(stored, samples)])),
        summary["source"],
    )
    replies = current_replies(evaluation, names, read_judge_replies(files.judge))
    evaluation = replace(evaluation, replies=replies)
    require_scorable(evaluation, applied, _again(evaluation, files.summary.parent))
    item_scores = score_samples(evaluation, chosen)
    differences = _differences(name, evaluation, item_scores, _stored_scores(files.scores))
    return StoredEvaluation(name, files, evaluation, item_scores, asked, differences)


def _again(evaluation: Evaluation, folder: Path) -> str:
    """Return how to ask the model for what the samples lack."""
    names = evaluation.settings["scorers"]
    command = evaluation.source.get("command")
    if command is None:
        return f"evaluate again with the scorers {', '.join(names)} (eval.scorers of the recipe, or scorers in Python)"
    judged = any(scorer.judge_prompt for scorer in scorers_named(names).values())
    judge = ["--judge", "MODEL_DIR"] if judged and "--judge" not in shlex.split(command) else []
    return f"{command} {shlex.join(['--output', str(folder), '--scorer', ','.join(names), *judge])}"


def _asked(
    files: EvalFiles, summary: Mapping[str, Any], questions: Mapping[str, Question]
) -> tuple[tuple[Question, ...], dict[str, Sample]]:
    """Return the questions that have samples, and these samples, without those of an earlier, longer evaluation.

    Raises:
        InputError: a question is missing, or its text or choices have changed.
    """
    every = read_samples(files.samples)
    first = [sample for sample in every.values() if not sample.rotation and not sample.sample_number]
    ids = [sample.question for sample in first][: summary["asked"]]
    asked, number = set(ids), summary["settings"].get("samples", 1)
    samples = {
        name: sample for name, sample in every.items() if sample.question in asked and sample.sample_number < number
    }
    for sample in samples.values():
        question = questions.get(sample.question)
        if question is None or content_hash(question) != sample.content_hash:
            what = (
                "is not in the questions" if question is None else "has another text, other choices or other pictures"
            )
            raise InputError(
                f"{files.samples}: question {sample.question} {what} now; evaluate again to ask what has changed"
            )
    return tuple(questions[name] for name in ids), samples


def _stored_scores(file: Path) -> dict[str, ScoredItem]:
    """Return the stored item scores; none from an invalid file, because they are derived from the samples."""
    try:
        return read_scores(file)
    except InputError as error:
        notice(f"{str(error).partition('; ')[0]}; all item scores are computed again")
        return {}


def _differences(
    name: str, evaluation: Evaluation, item_scores: ItemScores, stored: Mapping[str, ScoredItem]
) -> Differences:
    changes, compared, other_version, new = [], 0, 0, 0
    for scorer, found in item_scores.items():
        for sample, now in found.items():
            values = stored[sample].item_scores.get(scorer) if sample in stored else None
            before = None if values is None else from_values(scorer, values)
            new += values is None
            other_version += values is not None and before is None
            compared += before is not None
            if before is not None and before != now:
                change = Change(
                    str(evaluation.settings["model"]), name, scorer, sample, _kind(before.value, now.value),
                    _reading(before), _reading(now),
                )  # fmt: skip
                changes.append(change)
    dropped = sum(len(each.item_scores) for each in stored.values()) - compared - other_version
    return Differences(compared, tuple(changes), other_version, new, dropped)


_OUTCOMES = {0: "wrong", 1: "right"}


def _kind(before: float, after: float) -> str:
    if before == after:
        return "same value, read differently"
    if before in _OUTCOMES and after in _OUTCOMES:
        return f"{_OUTCOMES[int(before)]} → {_OUTCOMES[int(after)]}"
    return f"value {before:.2f} → {after:.2f}"


def _reading(item_score: Any) -> dict[str, Any]:
    return {"chosen": answer_of(item_score), "how": item_score.how, "value": item_score.value}


def count_item_scores(stored: Iterable[StoredEvaluation]) -> dict[str, int]:
    """Count the item scores of all evaluations that were compared with stored ones, and those that were not."""
    found = [each.differences for each in stored]
    names = ("compared", "other_version", "new", "dropped")
    return {name: sum(getattr(each, name) for each in found) for name in names}


def count_changes(changes: Iterable[Change]) -> dict[str, dict[str, int]]:
    """Count the changes of each scorer by kind, most frequent first; graded changes are higher or lower."""
    counts: dict[str, Counter[str]] = {}
    for change in changes:
        kind = change.kind
        if kind.startswith("value "):
            kind = "higher value" if change.after["value"] > change.before["value"] else "lower value"
        counts.setdefault(change.scorer, Counter())[kind] += 1
    return {scorer: dict(found.most_common()) for scorer, found in counts.items()}
