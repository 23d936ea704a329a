"""Score recorded responses of other tools: they become samples and are scored like those of `jmedllm eval`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom, load
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file, kinds
from jmedllm.evaluation.judge import Judge, collect_replies, judge_settings, require_judge
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import LANGUAGES, Language, Question, label
from jmedllm.evaluation.records import JudgeReply, Sample
from jmedllm.evaluation.responses import Recorded, read_responses, recorded_sample
from jmedllm.evaluation.scorable import scorable
from jmedllm.evaluation.score import Evaluation, ItemScores, aggregate_all, require_scorable, score_samples
from jmedllm.evaluation.scorers import SCORERS, scorers_named
from jmedllm.evaluation.scorers.base import ExamOutcome, Scorer
from jmedllm.evaluation.scorers.official import exam_of, exam_of_year
from jmedllm.evaluation.selection import WRONG, select_counted
from jmedllm.evaluation.statistics import Score
from jmedllm.evaluation.thought_evidence import resolve_thoughts, resolved_note

__all__ = [
    "QuestionSet",
    "item_rows",
    "load_answered",
    "read_responses",
    "score_recorded",
    "score_responses",
]

_LETTERS = re.compile(r"\s*[a-zA-Z](\s*,\s*[a-zA-Z])*\s*")


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of recorded responses.

    Attributes:
        item_scores: by scorer and question id.
        missing: ids of questions without a response; they count as no answer.
        skipped: places of invalid rows that were skipped.
        outside: number of responses to questions that the selection or the year leaves out.
        selection: name of the selection.
        left_out: number of items left out, by reason.
        notes: remarks for reports on how the questions were read.
        judge: name and fingerprint of the judge model, if one was asked.
    """

    questions: tuple[Question, ...]
    scores: tuple[Score, ...]
    exam_outcomes: tuple[ExamOutcome, ...]
    item_scores: ItemScores
    missing: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    outside: int = 0
    selection: str = "all"
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    judge: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values: the scores, the outcome of each exam, and the items that are not in them."""
        return {
            "scores": [asdict(score) for score in self.scores],
            "exam_outcomes": [asdict(outcome) for outcome in self.exam_outcomes],
            "missing": list(self.missing),
            "skipped": list(self.skipped),
            "outside": self.outside,
            "selection": self.selection,
            "left_out": self.left_out,
            "notes": list(self.notes),
            "judge": None if self.judge is None else dict(self.judge),
        }


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The benchmark or file that recorded responses answer.

    Attributes:
        benchmark: name of a registered benchmark, or None.
        file: file of custom questions, or None.
        language: language of the questions; None for all of a file, or for the first one of a benchmark.
        data: data directory.
        year: restrict a benchmark of yearly exams to this year.
        selection: name of the selection.
        read_options: options for reading `file`.
    """

    benchmark: str | None
    file: Path | None
    language: Language | None
    data: Path
    year: int | None = None
    selection: str = "all"
    read_options: custom.ReadOptions = custom.DEFAULT_READ_OPTIONS


@dataclass(frozen=True, slots=True)
class Answered:
    """The questions that responses answer.

    Attributes:
        selection: name of the selection.
        left_out: number of items left out, by reason.
        notes: remarks for reports on how the questions were read.
        outside: ids of the questions of the benchmark or file that the selection or the year leaves out.
    """

    questions: tuple[Question, ...]
    selection: str = "all"
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    outside: frozenset[str] = frozenset()


def load_answered(asked: QuestionSet) -> Answered:
    """Load the questions that recorded responses answer.

    Raises:
        InputError: not exactly one of benchmark and file is given, it cannot be read, or `language` is None and the
            file has the same ids in both languages.
    """
    benchmark, file, language = asked.benchmark, asked.file, asked.language
    if (benchmark is None) == (file is None):
        raise InputError("give either --benchmark or --questions")
    exam_number = None if asked.year is None else exam_of_year(benchmark or str(file), asked.year)
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    languages: Sequence[Language] = (language or "ja",)
    if file is not None:
        if not is_custom_file(str(file)):
            raise InputError(f"--questions {file}: your own questions are read from {kinds()}")
        custom_file = custom.read_file(file, asked.read_options)
        languages, notes = ((language,) if language else custom_file.languages or ("ja",)), custom_file.notes
        left_out = {WRONG: len(custom_file.skipped)} if custom_file.skipped else {}
    elif asked.read_options != custom.DEFAULT_READ_OPTIONS:
        raise InputError("--map goes with --questions, a file with your own questions; leave it out")
    elif language is None and benchmark is not None and benchmark in BENCHMARKS:
        first, *others = sorted(BENCHMARKS[benchmark].languages, key=LANGUAGES.index)
        languages = (first,)
        notes = (f"{benchmark} in {first}; choose another language with --language.",) if others else ()
    if benchmark in BENCHMARKS:
        notes = (*notes, *BENCHMARKS[benchmark].notes)
    found = [
        question
        for each in languages
        for question in load(benchmark or str(file), each, asked.data, read_options=asked.read_options)
    ]
    if len({question.id for question in found}) < len(found):
        raise InputError(f"{file}: has the same ids in {' and '.join(languages)}; choose with --language")
    of_year = [question for question in found if exam_number in (None, exam_of(question))]
    selected = select_counted(of_year, asked.selection)
    outside = {question.id for question in found} - {question.id for question in selected.questions}
    return Answered(selected.questions, asked.selection, selected.left_out | left_out, notes, frozenset(outside))


def score_recorded(
    asked: Answered,
    recorded: Recorded,
    scorers: Sequence[str],
    *,
    strict_letters: bool = False,
    judge: Judge | None = None,
    skip_invalid: bool = False,
) -> Scored:
    """Score recorded responses and account for every item.

    Args:
        scorers: names from `SCORERS` that read responses.
        strict_letters: read answers by the plain comma split of the published table of candidates, and count
            prohibited choices as it does.
        judge: judge model for scorers that use one; its replies are not stored.
        skip_invalid: whether items that the judge cannot grade count as no answer instead of an error.

    Raises:
        InputError: no scorer is named, one needs a model, a judge is missing, or one can score none of the questions;
            or all responses answer questions outside the selection.
    """
    chosen = _scorers(scorers, strict_letters=strict_letters)
    questions = asked.questions
    if recorded.samples and recorded.samples.keys() <= asked.outside:
        raise InputError(
            f"all {len(recorded.samples):,} responses answer questions outside the selection {asked.selection}; "
            "choose another with --selection or --year"
        )
    found = resolve_thoughts(recorded.samples)
    samples = {
        question.id: replace(
            found.get(question.id) or Sample(question.id, "", "", failure="missing"),
            order=tuple(range(len(question.choices))),
        )
        for question in questions
    }
    form = _answer_form([sample.response or "" for sample in samples.values()])
    settings = {"answer_as": form, "scorers": list(chosen)} | judge_settings(judge, None)
    evaluation = _judged(
        Evaluation(questions, samples, settings, len(questions)), chosen, judge, skip_invalid=skip_invalid
    )
    require_scorable(evaluation, chosen, "jmedllm eval")
    item_scores = score_samples(evaluation, chosen)
    presented = evaluation.presented()
    spoken = [language for language in LANGUAGES if any(question.language == language for question in questions)]
    aggregated = [
        aggregate_all([each for each in presented if each.question.language == language], samples, item_scores, chosen)
        for language in spoken
    ]
    return Scored(
        questions=questions,
        scores=tuple(score for scores, _ in aggregated for score in scores),
        exam_outcomes=tuple(outcome for _, outcomes in aggregated for outcome in outcomes),
        item_scores=item_scores,
        missing=tuple(question.id for question in questions if question.id not in recorded.samples),
        skipped=recorded.skipped,
        outside=len(recorded.samples.keys() & asked.outside),
        selection=asked.selection,
        left_out=asked.left_out | scorable(questions, scorers).left_out,
        notes=asked.notes + resolved_note(recorded.samples, found) + _ungraded(evaluation.replies.values()),
        judge=None if judge is None else judge.settings(),
    )


def _judged(
    evaluation: Evaluation, chosen: Mapping[str, Scorer], judge: Judge | None, *, skip_invalid: bool
) -> Evaluation:
    """Return an evaluation with the replies of the judge; as it is if no scorer asks one."""
    if judge is not None and not any(scorer.judge_prompt for scorer in chosen.values()):
        raise InputError(f"--judge: scorer {', '.join(chosen)} asks no judge; leave it out, or add a scorer that does")
    require_judge(chosen, judge)
    if judge is None:
        return evaluation
    return replace(evaluation, replies=collect_replies(evaluation, judge, None, skip_invalid=skip_invalid))


def _ungraded(replies: Iterable[JudgeReply]) -> tuple[str, ...]:
    """Return a note if the judge could not grade items."""
    ids = [reply.id for reply in replies if reply.failure]
    more = f" and {len(ids) - 5:,} more" if len(ids) > 5 else ""
    return (f"The judge could not grade {len(ids):,} items: {', '.join(ids[:5])}{more}.",) if ids else ()


def score_responses(
    questions: Sequence[Question],
    responses: Mapping[str, str],
    scorers: Sequence[str],
    *,
    strict_letters: bool = False,
) -> Scored:
    """Score texts by question id, see `score_recorded`; questions without a text count as no answer."""
    recorded = Recorded({name: recorded_sample(name, text) for name, text in responses.items()}, ())
    return score_recorded(Answered(tuple(questions)), recorded, scorers, strict_letters=strict_letters)


def _scorers(names: Sequence[str], *, strict_letters: bool) -> dict[str, Scorer]:
    """Return the scorers with these names, or their strict variants.

    Raises:
        InputError: see `score_recorded`.
    """
    readers = ", ".join(name for name, scorer in SCORERS.items() if scorer.needs == "response")
    if not names:
        raise InputError(f"name at least one scorer: {readers}")
    chosen = scorers_named(names)
    if unfit := [name for name, scorer in chosen.items() if scorer.needs != "response"]:
        raise InputError(f"scorer {unfit[0]} needs a model's probabilities; choose among {readers}")
    if not strict_letters:
        return chosen
    strict = {name: scorer.strict or scorer for name, scorer in chosen.items()}
    if not any(scorer.strict for scorer in chosen.values()):
        able = ", ".join(name for name, scorer in SCORERS.items() if scorer.strict)
        raise InputError(f"--strict-letters changes nothing for {', '.join(chosen)}; it goes with {able}")
    return strict


def _answer_form(texts: Sequence[str]) -> AnswerForm:
    """Determine whether most responses are letters or texts, because the text of a choice may be the letter of
    another."""
    written = [text for text in texts if text.strip()]
    letters = sum(bool(_LETTERS.fullmatch(text)) for text in written)
    return "letter" if 2 * letters > len(written) else "text"


def item_rows(scored: Scored) -> list[dict[str, Any]]:
    """Return one row per question for the first scorer: the chosen answer, its value, and how it was read."""
    item_scores = next(iter(scored.item_scores.values()))
    return [{"id": name, **_item(item_score)} for name, item_score in item_scores.items()]


def _item(item_score: Any) -> dict[str, Any]:
    return {"chosen": answer_of(item_score), "value": item_score.value, "how": item_score.how}


def answer_of(item_score: Any) -> str | list[str]:
    """Return the answer of an item score: a number, or the letters of choices."""
    number: str | None = getattr(item_score, "number", None)
    return [label(index) for index in item_score.chosen] if number is None else number
