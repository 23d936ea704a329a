"""Answers that somebody else recorded, scored without any model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, unknown
from jmedllm.exam.benchmarks import load
from jmedllm.exam.benchmarks.reading import Line, lines
from jmedllm.exam.order import show
from jmedllm.exam.prompts.template import AnswerForm
from jmedllm.exam.question import Language, Question, label
from jmedllm.exam.selection import select
from jmedllm.exam.statistics import Score
from jmedllm.exam.tracks import TRACKS, Given, ReadVerdict, legacy
from jmedllm.exam.tracks.answer import AnswerVerdict, judge_letters
from jmedllm.exam.tracks.official import Board, award, boards, exam_of, exam_of_year

_LETTERS = re.compile(r"\s*[a-zA-Z](\s*,\s*[a-zA-Z])*\s*")

ID_KEYS, RESPONSE_KEYS = ("id", "problem_id"), ("response", "prediction")


@dataclass(frozen=True, slots=True)
class Scored:
    """What recorded responses were worth.

    Attributes:
        verdicts: by track and question id.
        missing: ids of questions without a response; they count as no answer.
    """

    questions: tuple[Question, ...]
    scores: tuple[Score, ...]
    official: tuple[Board, ...]
    verdicts: Mapping[str, Mapping[str, ReadVerdict]]
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the scores, and the board of each year."""
        return {
            "scores": [asdict(score) for score in self.scores],
            "official": [asdict(board) for board in self.official],
            "missing": list(self.missing),
        }


def questions_answered(
    benchmark: str | None,
    file: Path | None,
    language: Language,
    data: Path,
    *,
    year: int | None = None,
    selection: str = "all",
) -> list[Question]:
    """The questions of a benchmark, or of a user's own exam, that responses are about.

    Raises:
        InputError: not exactly one of benchmark and file is given, or they cannot be read.
    """
    if (benchmark is None) == (file is None):
        raise InputError("give either --benchmark or --questions")
    if file is not None and file.suffix != ".jsonl":
        raise InputError(f"--questions {file}: an exam of your own is a .jsonl file")
    if year is not None and benchmark != "igakuqa":
        raise InputError("--year goes with --benchmark igakuqa only; leave it out")
    questions = select(load(benchmark or str(file), language, data), selection)
    if year is not None:
        questions = [question for question in questions if exam_of(question) == exam_of_year(year)]
    return questions


def read_responses(files: Sequence[Path], known: Iterable[str]) -> dict[str, str]:
    """Responses by question id, from JSONL files in any order.

    Raises:
        InputError: a line is broken, or its id is unknown or was given before (names the line); or there is none.
    """
    ids = set(known)
    responses: dict[str, str] = {}
    places: dict[str, str] = {}
    for path in files:
        for line in lines(path):
            name = line.text(_key(line, ID_KEYS))
            if name not in ids:
                raise InputError(f"{path}:{line.number}: {unknown('question', name, ids)}")
            if name in places:
                raise InputError(
                    f"{path}:{line.number}: question {name} was answered in {places[name]}; remove one"
                )
            places[name] = f"{path}:{line.number}"
            responses[name] = line.text(_key(line, RESPONSE_KEYS), may_be_empty=True)
    if not responses:
        raise InputError(f"{', '.join(map(str, files))}: holds no response; check that it is the right file")
    return responses


def _key(line: Line, names: Sequence[str]) -> str:
    there = [name for name in names if name in line.record]
    if len(there) > 1:
        raise InputError(f"{line.path}:{line.number}: has both {there[0]} and {there[1]}; remove one")
    return there[0] if there else names[0]


def score_responses(
    questions: Sequence[Question],
    responses: Mapping[str, str],
    tracks: Sequence[str],
    *,
    strict_letters: bool = False,
) -> Scored:
    """Score recorded responses.

    Args:
        questions: at least one, all of one benchmark and language.
        responses: raw text by question id.
        tracks: names from `TRACKS` that read responses.
        strict_letters: read answers by the plain comma split of the published table of candidates, and count
            the prohibited choices as it does.

    Raises:
        InputError: no track is named, one needs a model, or one can judge none of the questions.
    """
    if not tracks:
        raise InputError("name at least one track: answer, legacy or official")
    if strict_letters and set(tracks) == {"legacy"}:
        raise InputError("--strict-letters reads answers for the tracks answer and official; legacy reads none")
    answer_as = _form(questions, responses)
    scores: list[Score] = []
    verdicts: dict[str, dict[str, ReadVerdict]] = {}
    official: list[Board] = []
    for name in dict.fromkeys(tracks):
        if name not in TRACKS:
            raise unknown("track", name, TRACKS)
        if TRACKS[name].needs != "response":
            raise InputError(f"track {name} needs a model's probabilities; choose answer, legacy or official")
        judged = [question for question in questions if TRACKS[name].applies(question)]
        if not judged:
            raise InputError(f"track {name} can judge none of these questions; choose another track")
        found = [
            _judge(name, question, responses.get(question.id, ""), answer_as, strict_letters)
            for question in judged
        ]
        scores += TRACKS[name].scores(judged, found)
        verdicts[name] = {question.id: verdict for question, verdict in zip(judged, found, strict=True)}
        if name == "official":
            official = boards(judged, found, plain_prohibited=strict_letters)
    missing = tuple(question.id for question in questions if question.id not in responses)
    return Scored(tuple(questions), tuple(scores), tuple(official), verdicts, missing)


def _form(questions: Sequence[Question], responses: Mapping[str, str]) -> AnswerForm:
    """Whether these are letters or texts, by what most of them are: a choice's text may be another's letter."""
    written = [responses[question.id] for question in questions if responses.get(question.id, "").strip()]
    letters = sum(bool(_LETTERS.fullmatch(response)) for response in written)
    return "letter" if 2 * letters > len(written) else "text"


def _judge(track: str, question: Question, response: str, answer_as: AnswerForm, strict_letters: bool) -> Any:
    if strict_letters and track != "legacy":
        verdict = judge_letters(question, response)
        return award(question, verdict) if track == "official" else verdict
    return TRACKS[track].judge(
        Given(show(question)[0], response, legacy.extract_response(response), answer_as=answer_as)
    )


def item_rows(scored: Scored) -> list[dict[str, Any]]:
    """One verdict per question, of the first track: what was chosen, whether it was right, how it was read."""
    verdicts = next(iter(scored.verdicts.values()))
    return [{"id": name, **_item(verdict)} for name, verdict in verdicts.items()]


def _item(verdict: ReadVerdict) -> dict[str, Any]:
    number = verdict.number if isinstance(verdict, AnswerVerdict) else None
    chosen = [label(index) for index in verdict.chosen]
    return {"chosen": number if number is not None else chosen, "correct": verdict.correct, "how": verdict.how}
