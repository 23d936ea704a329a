"""Samples and item scores on disk: outputs of the model are stored apart from their scores."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from jmedllm.errors import InputError
from jmedllm.evaluation.order import ROTATION_MARK, SAMPLE_MARK
from jmedllm.files import append_jsonl, cut_unfinished_line, hash_text, read_jsonl, to_json, write_jsonl
from jmedllm.models.backends.base import EARLY_STOP, Failure, is_truncated
from jmedllm.models.thoughts import SPECIAL_TOKEN, Thought, split_reply


@dataclass(frozen=True, slots=True)
class Sample:
    """All outputs of a model for one item, which depend on the model, the prompt and decoding, but not on scorers.

    Attributes:
        id: the question's id; "116A1~2" if its choices were rotated by two places, "116A1#3" for the fourth of several
            samples, "116A1~2#3" for both.
        prompt_hash: hash of the prompt, or of the chat messages if a server renders them, and of the pictures that it
            shows.
        content_hash: hash of the question's text, choices and pictures, without its gold.
        order: index of the printed choice at each position of the prompt.
        response: the response without its thought, or with it if they cannot be separated; None if no scorer asked
            for it.
        plain: the response without special tokens, if that is different.
        decoded: prompt and response decoded together; only for published prompts, whose protocol reads both.
        finish_reason: why the response ended, as reported by the backend; "early_stop" if the scorers read no further.
        new_tokens: tokens that the model generated; None where unknown.
        seconds: from the start of the request's batch to its end; None where unknown.
        thought_open: whether the prompt had opened a thought; None if neither the template nor the reply shows it.
        thoughts: thought markers that only the model's chat template has.
        reasoning: the thought, without its markers; None if there is none.
        reasoning_tokens: tokens of the thought; None where unknown.
        reasoning_seconds: from the reading of the prompt to the end of the thought; None where unknown.
        thought_cut: whether the reply ended inside its thought.
        forced: whether the thought was closed because it had reached the thinking budget.
        failure: why there is no response: "too long", "rejected", or "missing" from recorded responses.
        log_probs: natural log-probability of each printed choice; None if no scorer asked or the backend gives none.
        log_probs_of: "texts" or "labels" of the choices, whose log-probabilities these are; None if not asked for.
        numbered: whether the prompt numbered the choices; None where unknown.
        images: hashes of the pictures that the prompt showed, in order. Lines without pictures do not have the field.
        sample_number: number of the sample of this prompt. Lines of the first sample, 0, do not have the field.
    """

    id: str
    prompt_hash: str
    content_hash: str
    order: tuple[int, ...] = ()
    response: str | None = None
    plain: str | None = None
    decoded: str | None = None
    finish_reason: str | None = None
    new_tokens: int | None = None
    seconds: float | None = None
    thought_open: bool | None = False
    thoughts: tuple[Thought, ...] = ()
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    reasoning_seconds: float | None = None
    thought_cut: bool = False
    forced: bool = False
    failure: Failure | None = None
    log_probs: tuple[float, ...] | None = None
    log_probs_of: Literal["texts", "labels"] | None = None
    numbered: bool | None = None
    images: tuple[str, ...] = ()
    sample_number: int = 0

    @property
    def presentation(self) -> str:
        """Return the id without the number of the sample."""
        return self.id.removesuffix(f"{SAMPLE_MARK}{self.sample_number}") if self.sample_number else self.id

    @property
    def question(self) -> str:
        """Return the id of the question."""
        return self.presentation.partition(ROTATION_MARK)[0]

    @property
    def rotation(self) -> int:
        """Return the number of positions by which the choices were rotated; 0 for the first presentation."""
        return int(self.presentation.partition(ROTATION_MARK)[2] or 0)

    @property
    def truncated(self) -> bool:
        """Whether the response was cut off."""
        return is_truncated(self.finish_reason)

    @property
    def stopped_early(self) -> bool:
        """Whether generation stopped because the scorers read no further."""
        return self.finish_reason == EARLY_STOP


def split_sample(sample: Sample) -> Sample:
    """Separate the thought from a response as the model wrote it, with markers.

    A thought that a server has returned separately stays, before those in the response.
    """
    if sample.response is None:
        return sample
    split = split_reply(sample.response, thought_open=sample.thought_open, thoughts=sample.thoughts)
    reasoning = "\n\n".join(filter(None, (sample.reasoning, split.thought))) or None
    is_alone = reasoning is not None and not split.answer.strip()
    cut = split.cut or (is_alone and sample.truncated)
    if is_alone and cut and sample.reasoning_tokens is None:
        sample = replace(sample, reasoning_tokens=sample.new_tokens)
    if split.unsure or split.answer == sample.response:
        return replace(sample, thought_open=split.thought_open, thought_cut=cut)
    answer = split.answer.lstrip()
    plain = SPECIAL_TOKEN.sub("", answer)
    return replace(
        sample,
        response=answer,
        plain=None if plain == answer else plain,
        thought_open=split.thought_open,
        reasoning=reasoning,
        thought_cut=cut,
    )


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """Item scores of one sample.

    Attributes:
        id: id of the sample.
        question_hash: hash of the question with its gold, which the item scores depend on.
        item_scores: fields of the item score of each scorer.
    """

    id: str
    question_hash: str
    item_scores: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A sample with its item scores."""

    sample: Sample
    scored: ScoredItem


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """Reply of a judge model about one sample.

    Attributes:
        scorer: scorer that asked.
        id: the sample's id.
        judge: fingerprint of the judge.
        prompt_hash: hash of `prompt`.
        prompt: prompt to the judge.
        response: reply of the judge without its thought; empty if it could not answer.
        finish_reason: as in a sample; `new_tokens`, `seconds`, `failure` and `reasoning` likewise.
    """

    scorer: str
    id: str
    judge: str
    prompt_hash: str
    prompt: str
    response: str
    finish_reason: str | None = None
    new_tokens: int | None = None
    seconds: float | None = None
    failure: Failure | None = None
    reasoning: str | None = None


ReplyKey = tuple[str, str, str]
"""Key of a judge's reply: scorer, sample id, fingerprint of the judge."""


def read_samples(path: Path, *, repair: bool = False) -> dict[str, Sample]:
    """Read samples by id. A later line replaces an earlier one with the same id, so that additions can be appended.

    A last line without a line feed is skipped: a killed process has left it, or a running one is writing it.

    Args:
        path: the samples file.
        repair: first remove such a last line. Only for the process that appends to the file.

    Raises:
        InputError: a line is invalid.
    """
    if repair and path.exists():
        cut_unfinished_line(path)
    return {sample.id: sample for sample in map(_sample, _rows(path, Sample))}


def append_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Append samples, and flush them to the operating system."""
    append_jsonl(path, map(_values, samples))


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Rewrite all samples atomically."""
    write_jsonl(path, map(_values, samples))


def samples_hash(samples: Iterable[Sample]) -> str:
    """Hash samples without their times, so that equal answers have equal hashes."""
    return hash_text(
        "".join(to_json(_values(replace(sample, seconds=None, reasoning_seconds=None))) for sample in samples)
    )


def read_scores(path: Path) -> dict[str, ScoredItem]:
    """Read item scores by sample id.

    Raises:
        InputError: a line is invalid; the message says how to write the file again.
    """
    try:
        return {row["id"]: ScoredItem(**row) for row in _score_rows(path)}
    except InputError as error:
        problem = str(error).partition("; ")[0]
        raise InputError(f"{problem}; write the file again with: jmedllm score {path.parent}") from None


def _score_rows(path: Path) -> Iterable[dict[str, Any]]:
    for number, row in read_jsonl(path) if path.exists() else ():
        if not _has_fields(row, ScoredItem) or not _are_item_scores(row["item_scores"]):
            raise InputError(f"{path}:{number}: not item scores of this version of jmedllm")
        yield row


def _are_item_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def write_scores(path: Path, scored: Iterable[ScoredItem]) -> None:
    """Write all item scores, atomically."""
    write_jsonl(path, map(_values, scored))


def read_judge_replies(path: Path, *, repair: bool = False) -> dict[ReplyKey, JudgeReply]:
    """Read judge replies by scorer, sample id and judge; see `read_samples`."""
    if repair and path.exists():
        cut_unfinished_line(path)
    return {(row["scorer"], row["id"], row["judge"]): JudgeReply(**row) for row in _rows(path, JudgeReply)}


def append_judge_replies(path: Path, replies: Iterable[JudgeReply]) -> None:
    """Append judge replies, and flush them to the operating system."""
    append_jsonl(path, map(_values, replies))


def _rows(path: Path, kind: type[Any]) -> Iterable[dict[str, Any]]:
    for number, row in read_jsonl(path, skip_unfinished=True) if path.exists() else ():
        if not _has_fields(row, kind):
            raise InputError(f"{path}:{number}: not a row of this version of jmedllm; choose another --output")
        yield row


_ADDED = {
    Sample: {"images", "sample_number", "reasoning_tokens", "reasoning_seconds", "thought_cut", "forced"},
    JudgeReply: {"reasoning"},
}
"""Fields that lines lack without pictures, for a first sample, if a time is unknown, or from an earlier version."""


def _has_fields(row: Mapping[str, Any], kind: type[Any]) -> bool:
    optional = _ADDED.get(kind, set())
    return row.keys() | optional == {each.name for each in fields(kind)} | optional


def _values(row: Any) -> Mapping[str, Any]:
    values = {each.name: getattr(row, each.name) for each in fields(row)}
    if isinstance(row, Sample):
        values["thoughts"] = [(each.opening, each.closing, each.nested) for each in row.thoughts]
        for name in ("images", "sample_number", "reasoning_seconds"):
            if not values[name]:
                del values[name]
    return values


def _sample(row: dict[str, Any]) -> Sample:
    lists = {name: None if row[name] is None else tuple(row[name]) for name in ("order", "log_probs")}
    lists["images"] = tuple(row.get("images", ()))
    sample = Sample(**{**row, **lists, "thoughts": tuple(Thought(*each) for each in row["thoughts"])})
    # An earlier version stored responses with their thoughts.
    return sample if "thought_cut" in row else split_sample(sample)
