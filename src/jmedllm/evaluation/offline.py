"""Answers that somebody else recorded, scored without any model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom, load
from jmedllm.evaluation.benchmarks.file_formats import is_table, kinds
from jmedllm.evaluation.order import show
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import LANGUAGES, Language, Question, label
from jmedllm.evaluation.responses import Delivery, Responses, read_responses
from jmedllm.evaluation.scorable import judgeable
from jmedllm.evaluation.scorers import SCORERS, ModelOutput, ReadItemScore, legacy
from jmedllm.evaluation.scorers.answer import AnswerItemScore, judge_letters
from jmedllm.evaluation.scorers.official import ExamOutcome, award, exam_of, exam_of_year, outcomes
from jmedllm.evaluation.selection import WRONG, select_counted
from jmedllm.evaluation.statistics import Score

__all__ = [
    "exam_answered",
    "item_rows",
    "questions_answered",
    "read_responses",
    "score_recorded",
    "score_responses",
]

_LETTERS = re.compile(r"\s*[a-zA-Z](\s*,\s*[a-zA-Z])*\s*")


@dataclass(frozen=True, slots=True)
class Scored:
    """What recorded responses were worth.

    Attributes:
        item_scores: by track and question id.
        missing: ids of questions without a response; they count as no answer.
        skipped: places of rows that were left out as wrong.
        selection: name of the step that chose the questions.
        left_out: how many items were left out, by reason.
        notes: what else there is to say of how the questions were read.
    """

    questions: tuple[Question, ...]
    scores: tuple[Score, ...]
    official: tuple[ExamOutcome, ...]
    item_scores: Mapping[str, Mapping[str, ReadItemScore]]
    missing: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    selection: str = "all"
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values: the scores, the board of each year, and what is not in them."""
        return {
            "scores": [asdict(score) for score in self.scores],
            "official": [asdict(outcome) for outcome in self.official],
            "missing": list(self.missing),
            "skipped": list(self.skipped),
            "selection": self.selection,
            "left_out": self.left_out,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Answered:
    """What responses are about.

    Attributes:
        selection: name of the step that chose the questions.
        left_out: how many items it left out, by reason.
        notes: what else there is to say of how the questions were read.
    """

    questions: tuple[Question, ...]
    selection: str
    left_out: dict[str, int]
    notes: tuple[str, ...]


def exam_answered(
    benchmark: str | None,
    file: Path | None,
    language: Language | None,
    data: Path,
    *,
    year: int | None = None,
    selection: str = "all",
    read_options: custom.ReadOptions = custom.DEFAULT_READ_OPTIONS,
) -> Answered:
    """The questions of a benchmark, or of a user's own file, that responses are about.

    Args:
        benchmark: a registered one; or None.
        file: the user's own questions; or None.
        language: None for the only one there is; of a benchmark that has both, Japanese.
        data: data directory.
        year: of IgakuQA.
        selection: which items.
        read_options: how the user's own file is read.

    Raises:
        InputError: not exactly one of benchmark and file is given, they cannot be read, or a file has both
            languages and none is chosen.
    """
    if (benchmark is None) == (file is None):
        raise InputError("give either --benchmark or --questions")
    if year is not None and benchmark != "igakuqa":
        raise InputError("--year goes with --benchmark igakuqa only; leave it out")
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    if file is not None:
        if not is_table(str(file)):
            raise InputError(f"--questions {file}: questions of your own are read from {kinds()}")
        exam = custom.read_exam(file, read_options)
        if language is None and len(exam.languages) > 1:
            raise InputError(f"{file}: has questions in {' and '.join(exam.languages)}; choose with --language")
        language, notes = language or next(iter(exam.languages), "ja"), exam.notes
        left_out = {WRONG: len(exam.skipped)} if exam.skipped else {}
    elif read_options != custom.DEFAULT_READ_OPTIONS:
        raise InputError("--map goes with --questions, a file of your own; leave it out")
    elif language is None and benchmark is not None and benchmark in BENCHMARKS:
        language, *others = sorted(BENCHMARKS[benchmark].languages, key=LANGUAGES.index)
        notes = (f"{benchmark} in {language}; choose another language with --language.",) if others else ()
    selected = select_counted(
        load(benchmark or str(file), language or "ja", data, read_options=read_options), selection
    )
    questions = selected.questions
    if year is not None:
        questions = tuple(question for question in questions if exam_of(question) == exam_of_year(year))
    return Answered(questions, selection, selected.left_out | left_out, notes)


def questions_answered(
    benchmark: str | None,
    file: Path | None,
    language: Language | None,
    data: Path,
    *,
    year: int | None = None,
    selection: str = "all",
) -> list[Question]:
    """The questions of `exam_answered`."""
    return list(exam_answered(benchmark, file, language, data, year=year, selection=selection).questions)


def score_recorded(
    asked: Answered, given: Responses, scorers: Sequence[str], *, strict_letters: bool = False
) -> Scored:
    """Score recorded responses and account for every item, see `score_responses`."""
    scored = score_responses(
        asked.questions, given.by_id, scorers, strict_letters=strict_letters, deliveries=given.deliveries
    )
    left_out = asked.left_out | judgeable(asked.questions, scorers).left_out
    return replace(scored, skipped=given.skipped, selection=asked.selection, left_out=left_out, notes=asked.notes)


def score_responses(
    questions: Sequence[Question],
    responses: Mapping[str, str],
    scorers: Sequence[str],
    *,
    strict_letters: bool = False,
    deliveries: Mapping[str, Delivery] | None = None,
) -> Scored:
    """Score recorded responses.

    Args:
        questions: at least one, all of one benchmark and language.
        responses: raw text by question id.
        scorers: names from `SCORERS` that read responses.
        strict_letters: read answers by the plain comma split of the published table of candidates, and count
            the prohibited choices as it does.
        deliveries: what else is known of responses, by question id.

    Raises:
        InputError: no track is named, one needs a model, or one can judge none of the questions.
    """
    if not scorers:
        raise InputError("name at least one track: answer, legacy or official")
    if strict_letters and set(scorers) == {"legacy"}:
        raise InputError("--strict-letters reads answers for the tracks answer and official; legacy reads none")
    answer_as, told = _form(questions, responses), deliveries or {}
    scores: list[Score] = []
    item_scores: dict[str, dict[str, ReadItemScore]] = {}
    official: list[ExamOutcome] = []
    for name in dict.fromkeys(scorers):
        if name not in SCORERS:
            raise unknown("scorer", name, SCORERS)
        if SCORERS[name].needs != "response":
            raise InputError(f"scorer {name} needs a model's probabilities; choose answer, legacy or official")
        judged = [question for question in questions if SCORERS[name].applies(question)]
        if not judged:
            raise InputError(f"scorer {name} can judge none of these questions; choose another track")
        found = [
            _judge_strictly(name, question, responses.get(question.id, ""))
            if strict_letters and name != "legacy"
            else _judge(name, question, responses.get(question.id, ""), answer_as, told.get(question.id, Delivery()))
            for question in judged
        ]
        scores += SCORERS[name].scores(judged, found)
        item_scores[name] = {question.id: item_score for question, item_score in zip(judged, found, strict=True)}
        if name == "official":
            official = outcomes(judged, found, plain_prohibited=strict_letters)
    missing = tuple(question.id for question in questions if question.id not in responses)
    return Scored(tuple(questions), tuple(scores), tuple(official), item_scores, missing)


def _form(questions: Sequence[Question], responses: Mapping[str, str]) -> AnswerForm:
    """Whether these are letters or texts, by what most of them are: a choice's text may be another's letter."""
    written = [responses[question.id] for question in questions if responses.get(question.id, "").strip()]
    letters = sum(bool(_LETTERS.fullmatch(response)) for response in written)
    return "letter" if 2 * letters > len(written) else "text"


def _judge_strictly(scorer: str, question: Question, response: str) -> AnswerItemScore:
    item_score = judge_letters(question, response)
    return award(question, item_score) if scorer == "official" else item_score


def _judge(scorer: str, question: Question, response: str, answer_as: AnswerForm, delivery: Delivery) -> Any:
    return SCORERS[scorer].judge(
        ModelOutput(
            show(question)[0],
            response,
            legacy.extract_response(response),
            truncated=delivery.truncated,
            answer_as=answer_as,
            thought_open=delivery.thought_open,
        )
    )


def item_rows(scored: Scored) -> list[dict[str, Any]]:
    """One verdict per question, of the first track: what was chosen, whether it was right, how it was read."""
    item_scores = next(iter(scored.item_scores.values()))
    return [{"id": name, **_item(item_score)} for name, item_score in item_scores.items()]


def _item(item_score: ReadItemScore) -> dict[str, Any]:
    number = item_score.number if isinstance(item_score, AnswerItemScore) else None
    chosen = [label(index) for index in item_score.chosen]
    return {
        "chosen": number if number is not None else chosen,
        "correct": item_score.correct,
        "how": item_score.how,
    }
