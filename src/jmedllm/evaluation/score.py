"""Compute item scores and results from samples and questions, without the model."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import fsum
from numbers import Real
from typing import Any, TypeVar

from jmedllm import __version__
from jmedllm.errors import InputError
from jmedllm.evaluation.calibration import calibrate
from jmedllm.evaluation.exam_years import by_exam_year
from jmedllm.evaluation.human_baseline import compare_with_examinees
from jmedllm.evaluation.lengths import is_cut, measure
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.pictures import by_pictures
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.evaluation.records import JudgeReply, Sample, ScoredItem, samples_hash, write_scores
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import EvalFiles
from jmedllm.evaluation.rotations import compare_rotations
from jmedllm.evaluation.scorable import cannot_score
from jmedllm.evaluation.scorers import SCORERS, aggregate, as_values, scorers_named
from jmedllm.evaluation.scorers.base import ExamOutcome, GradedItemScore, ItemScore, ModelOutput, Scorer
from jmedllm.evaluation.statistics import Score
from jmedllm.evaluation.task import questions_hash
from jmedllm.evaluation.votes import LogProbs, compare_samples, texts_differ
from jmedllm.files import read_json, to_json, write_atomic

T = TypeVar("T")

ItemScores = dict[str, dict[str, Any]]
"""Scorer → sample id → item score."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that scores are computed from.

    Attributes:
        questions: questions of one benchmark and language, in order.
        samples: samples of these questions, by id.
        settings: everything that shaped the samples, and the scorers.
        selected: number of items in the selection.
        left_out: number of items that the selection left out, by reason.
        notes: remarks for reports on how the questions were read.
        source: origin of the questions, see `EvalTask.source`.
        replies: replies of a judge model, by scorer and sample id.
    """

    questions: tuple[Question, ...]
    samples: dict[str, Sample]
    settings: dict[str, Any]
    selected: int
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: dict[str, str] = field(default_factory=dict)
    replies: Mapping[tuple[str, str], JudgeReply] = field(default_factory=dict)

    def presented(self) -> list[PresentedQuestion]:
        """Return the presented questions, in the order of the samples."""
        questions = {question.id: question for question in self.questions}
        return [
            PresentedQuestion(questions[sample.question], sample.order, sample.rotation, sample.sample_number)
            for sample in self.samples.values()
        ]


def output_of(
    presented: PresentedQuestion, sample: Sample, answer_as: AnswerForm, reply: JudgeReply | None = None
) -> ModelOutput:
    """Build the scorers' input from a sample, whose thought is not part of it."""
    return ModelOutput(
        presented=presented,
        text=sample.response,
        plain=sample.plain,
        decoded=sample.decoded,
        truncated=sample.truncated or sample.thought_cut,
        log_probs=sample.log_probs,
        answer_as=answer_as,
        thought_open=None if sample.thought_open is None and not sample.reasoning else False,
        thoughts=sample.thoughts,
        failure=sample.failure,
        numbered=sample.numbered,
        judge_reply=None if reply is None or reply.failure else reply.response,
        judge_failure=None if reply is None else reply.failure,
    )


def score_samples(evaluation: Evaluation, scorers: Mapping[str, Scorer]) -> ItemScores:
    """Compute the item scores of each scorer on the samples that it applies to.

    Raises:
        InputError: a scorer cannot score an item, such as one whose log-probabilities are NaN, or returns an invalid
            value.
    """
    answer_as = evaluation.settings["answer_as"]
    found: ItemScores = {name: {} for name in scorers}
    for presented, sample in zip(evaluation.presented(), evaluation.samples.values(), strict=True):
        for name, scorer in scorers.items():
            if _is_scored(scorer, presented):
                reply = evaluation.replies.get((name, sample.id))
                item_score = scorer.score_item(output_of(presented, sample, answer_as, reply))
                _require_value(item_score.value, name, scorer, sample)
                found[name][sample.id] = item_score
    return found


def _is_scored(scorer: Scorer, presented: PresentedQuestion) -> bool:
    """Return whether a scorer scores a sample; of several samples, only the first has log-probabilities."""
    is_first = presented.sample_number == 0
    return scorer.applies(presented.question) and (is_first or scorer.needs != "log_probs")


def _require_value(value: Any, name: str, scorer: Scorer, sample: Sample) -> None:
    """Check the value of an item score, which may come from a scorer of another package."""
    is_number = isinstance(value, Real)
    if not is_number or not (value in (0, 1) if scorer.binary else 0 <= value <= 1):
        wanted = "0 or 1; a scorer with partial credit declares binary=False" if scorer.binary else "from 0 to 1"
        raise InputError(f"scorer {name}, item {sample.id}: value {value!r} is not {wanted}")


def aggregate_all(
    presented: Sequence[PresentedQuestion],
    samples: Mapping[str, Sample],
    item_scores: ItemScores,
    scorers: Mapping[str, Scorer],
) -> tuple[tuple[Score, ...], tuple[ExamOutcome, ...]]:
    """Aggregate scores of all scorers on all samples of the first presentation of each question, and exam outcomes on
    the first sample."""
    scores: list[Score] = []
    outcomes: list[ExamOutcome] = []
    for name, scorer in scorers.items():
        scored = _complete([each for each in presented if each.key in item_scores[name] and not each.rotation])
        questions, found = [each.question for each in scored], [item_scores[name][each.key] for each in scored]
        if scored:
            scores += _of_samples(
                aggregate(name, scorer, questions, found), scorer, [samples[each.key] for each in scored]
            )
        if scorer.exam_outcomes:
            first = [each for each in scored if not each.sample_number]
            outcomes += scorer.exam_outcomes(
                [each.question for each in first], [item_scores[name][each.key] for each in first]
            )
    return tuple(scores), tuple(outcomes)


def _complete(presented: Sequence[PresentedQuestion]) -> list[PresentedQuestion]:
    """Return the presentations question by question, with as many samples of each as all have."""
    by_question: dict[str, list[PresentedQuestion]] = {}
    for each in presented:
        by_question.setdefault(each.question.id, []).append(each)
    samples = min(map(len, by_question.values()), default=0)
    return [
        each for found in by_question.values() for each in sorted(found, key=lambda each: each.sample_number)[:samples]
    ]


def _of_samples(scores: Iterable[Score], scorer: Scorer, samples: Sequence[Sample]) -> list[Score]:
    """Complete scores with the number of samples, where their scorer has not, and with that of truncated responses."""
    number = len(samples) // len({sample.question for sample in samples})
    read = samples if scorer.needs == "response" else ()
    truncated = sum(map(is_cut, read)) if read else None
    return [
        replace(
            each,
            n=each.n if each.samples == number else each.n // number,
            samples=number,
            truncated=truncated,
            responses=len(read),
        )
        for each in scores
    ]


def count_readings(item_scores: Iterable[Any]) -> dict[str, int]:
    """Count the ways in which responses were read, most frequent first; empty if no scorer reads text."""
    return dict(Counter(item_score.how for item_score in item_scores if item_score.how).most_common())


def summarize(evaluation: Evaluation, item_scores: ItemScores, trace: dict[str, str]) -> EvalResult:
    """Build the result of an evaluation from its item scores."""
    questions, names = evaluation.questions, list(item_scores)
    main = names[0]
    presented, samples = evaluation.presented(), evaluation.samples
    scores, outcomes = aggregate_all(presented, samples, item_scores, scorers_named(names))
    if evaluation.settings.get("shuffle") is not None:  # a constant answer picks random choices then
        scores = tuple(replace(score, constant_floor=None) for score in scores)
    log_probs = {sample.id: sample.log_probs for sample in samples.values()}
    counted = {name: _counted(SCORERS[name], presented, found) for name, found in item_scores.items()}
    first = [each for each in presented if not each.rotation]
    number = max((each.sample_number for each in first), default=0) + 1
    by_item = {name: _by_item(first, counted[name]) for name in names}
    return EvalResult(
        settings=evaluation.settings | {"scorers": names},
        selected=evaluation.selected,
        asked=len(questions),
        scores=scores,
        exam_outcomes=outcomes,
        calibration=calibrate(questions, [samples[question.id].log_probs for question in questions]),
        rotations=tuple(_each(compare_rotations, presented, counted, log_probs)),
        trace=trace,
        human_baseline=tuple(
            compare_with_examinees(main, questions, by_item[main], binary=SCORERS[main].binary, samples=number)
        ),
        exam_years=tuple(by_exam_year(main, questions, by_item[main], binary=SCORERS[main].binary, samples=number)),
        readings={
            name: ways
            for name in names
            if (ways := count_readings(found[each.key] for each in first if each.key in (found := item_scores[name])))
        },
        left_out=evaluation.left_out,
        notes=tuple(dict.fromkeys([*evaluation.notes, *_thoughts_although_off(evaluation)])),
        failures=_failures(evaluation),
        source=evaluation.source,
        pictures=tuple(
            group
            for name in names
            for group in by_pictures(
                name,
                questions,
                by_item[name],
                evaluation.settings.get("images", "none"),
                binary=SCORERS[name].binary,
                samples=number,
            )
        ),
        samples=tuple(
            replace(found, texts_differ=texts_differ(_texts(first, samples)))
            for found in _each(compare_samples, presented, counted, log_probs)
        ),
        lengths=measure(samples.values()),
    )


def _counted(
    scorer: Scorer, presented: Sequence[PresentedQuestion], item_scores: Mapping[str, ItemScore]
) -> dict[str, ItemScore]:
    """Return the item scores of the questions that the scores include."""
    counts = scorer.counts or scorer.applies
    return {each.key: item_scores[each.key] for each in presented if each.key in item_scores and counts(each.question)}


def _thoughts_although_off(evaluation: Evaluation) -> Iterator[str]:
    """Yield a note if a server was asked for answers without thoughts and has ignored it."""
    thoughts = sum(bool(sample.reasoning) for sample in evaluation.samples.values())
    if evaluation.settings.get("thinking") == "off" and thoughts:
        yield (
            f"{evaluation.settings['model']}: {thoughts:,} of {len(evaluation.samples):,} responses contain a thought "
            "although thinking is off: the server ignores the setting."
        )


def _texts(first: Sequence[PresentedQuestion], samples: Mapping[str, Sample]) -> dict[str, list[str | None]]:
    """Return the texts of all samples of each question."""
    found: dict[str, list[str | None]] = {}
    for each in first:
        found.setdefault(each.question.id, []).append(samples[each.key].response)
    return found


def _each(
    compare: Callable[..., T | None],
    presented: Sequence[PresentedQuestion],
    item_scores: ItemScores,
    log_probs: LogProbs,
) -> Iterator[T]:
    """Yield what a comparison of presentations finds for each scorer."""
    for name, found in item_scores.items():
        if (compared := compare(name, presented, found, log_probs, binary=SCORERS[name].binary)) is not None:
            yield compared


def _by_item(first: Sequence[PresentedQuestion], item_scores: Mapping[str, ItemScore]) -> Mapping[str, ItemScore]:
    """Return the item scores of the first presentation by question; of several samples their mean."""
    if not any(each.sample_number for each in first):
        return item_scores
    values: dict[str, list[float]] = {}
    for each in first:
        if each.key in item_scores:
            values.setdefault(each.question.id, []).append(item_scores[each.key].value)
    return {question: GradedItemScore(fsum(found) / len(found)) for question, found in values.items()}


def _failures(evaluation: Evaluation) -> dict[str, tuple[str, ...]]:
    """Return the ids of items without a response, or without a judge's reply, in at least one presentation, by
    reason."""
    found: dict[str, dict[str, None]] = {}
    for sample in evaluation.samples.values():
        if sample.failure:
            found.setdefault(sample.failure, {})[sample.question] = None
    for (_, sample_id), reply in evaluation.replies.items():
        if reply.failure:
            found.setdefault(f"judge: {reply.failure}", {})[evaluation.samples[sample_id].question] = None
    return {failure: tuple(ids) for failure, ids in found.items()}


def scored_items(evaluation: Evaluation, item_scores: ItemScores) -> list[ScoredItem]:
    """Convert item scores to the rows of a scores file."""
    hashes = {question.id: question_hash(question) for question in evaluation.questions}
    return [
        ScoredItem(
            sample.id,
            hashes[sample.question],
            {name: as_values(found[sample.id]) for name, found in item_scores.items() if sample.id in found},
        )
        for sample in evaluation.samples.values()
    ]


def write_result(evaluation: Evaluation, files: EvalFiles) -> EvalResult:
    """Score an evaluation whose samples are complete, and write scores and summary.

    Raises:
        InputError: see `score_samples`; or the files cannot be written.
    """
    item_scores = score_samples(evaluation, scorers_named(evaluation.settings["scorers"]))
    trace = {
        "questions": questions_hash(evaluation.questions),
        "samples": samples_hash(evaluation.samples.values()),
        "jmedllm": read_json(files.summary)["trace"]["jmedllm"],
        "scored_with": __version__,
    }
    result = summarize(evaluation, item_scores, trace)
    write_scores(files.scores, scored_items(evaluation, item_scores))
    write_atomic(files.summary, to_json(asdict(result), indent=2) + "\n")
    return result


def require_scorable(evaluation: Evaluation, scorers: Mapping[str, Scorer], command: str) -> None:
    """Check that the samples have what the scorers need.

    Args:
        command: command that completes the samples, for the message.

    Raises:
        InputError: a scorer applies to none of the questions, or samples lack what it needs.
    """
    for name, scorer in scorers.items():
        judged = [
            sample
            for presented, sample in zip(evaluation.presented(), evaluation.samples.values(), strict=True)
            if _is_scored(scorer, presented)
        ]
        if not judged:
            raise cannot_score(name, evaluation.questions)
        what, lacking = _lacking(name, scorer, judged, evaluation)
        if lacking:
            raise InputError(
                f"scorer {name} needs {what}, which {lacking:,} of {len(judged):,} samples do not have; get them "
                f"from the model: {command}"
            )


def _lacking(name: str, scorer: Scorer, judged: Sequence[Sample], evaluation: Evaluation) -> tuple[str, int]:
    """Return what a scorer needs, and the number of samples without it."""
    asked = [sample for sample in judged if sample.failure is None]
    if scorer.needs == "log_probs":
        return "log-probabilities", sum(sample.log_probs_of is None for sample in asked)
    whole = scorer.is_final is None
    lacking = sum(sample.response is None or (whole and sample.stopped_early) for sample in asked)
    if not lacking and scorer.judge_prompt is not None:
        return "replies of a judge model", sum((name, sample.id) not in evaluation.replies for sample in asked)
    return "whole responses" if whole else "responses", lacking
