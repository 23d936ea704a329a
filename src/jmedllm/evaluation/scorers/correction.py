"""Scorer `correction`: whether a clinical text has an error, in which sentence, and the right sentence.

It applies to questions whose stem has numbered sentences and whose `reference` is `CORRECT` or "NUMBER: SENTENCE",
such as those of MedRECT. Its metrics are MedRECT's, except for the quality of the correction: BERTScore and BLEURT
need models, so this is chrF, on all texts with an error, where a text without a correction counts 0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading.corrections import CORRECT, Correction, numbered_sentences, read_correction
from jmedllm.evaluation.scorers.base import ModelOutput, Scorer, text_for_the_reader
from jmedllm.evaluation.scorers.reference import chrf
from jmedllm.evaluation.statistics import Metric, Score, bootstrap_statistic, samples_of, score

_REFERENCE = re.compile(r"(\d{1,3}): (.*\S.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CorrectionItemScore:
    """What one response says about the text.

    Attributes:
        error: whether the response says that there is an error; None for no answer.
        sentence: number of the sentence that it calls wrong.
        correct: whether it names the wrong sentence, or says rightly that there is no error.
        detected: whether it says rightly that there is an error or none.
        similarity: chrF of its correction with the right sentence; 0 without a correction or an error.
        how: how it was read, or why there is no answer.
    """

    error: bool | None
    sentence: int | None
    correct: bool
    detected: bool
    similarity: float
    how: str

    @property
    def value(self) -> float:
        """1 if the wrong sentence is named, or rightly none, else 0."""
        return float(self.correct)

    @property
    def chosen(self) -> tuple[int, ...]:
        """Empty, because there are no choices."""
        return ()

    @property
    def answered(self) -> bool:
        """Whether the response says that there is an error or none."""
        return self.error is not None

    @property
    def number(self) -> str | None:
        """The answer as votes count it: the number of the sentence that it calls wrong, "" for one without number, "0"
        for no error; None for no answer."""
        return None if self.error is None else str(self.sentence or "") if self.error else "0"


def target(question: Question) -> tuple[int, str] | None:
    """Return the number of the wrong sentence and the right sentence; None if the text has no error."""
    match = _REFERENCE.fullmatch(question.reference or "")
    return (int(match[1]), match[2]) if match else None


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`."""
    wanted, sentences = target(question), numbered_sentences(question.stem)
    return bool(sentences) and (question.reference == CORRECT if wanted is None else wanted[0] in sentences)


def score_item(output: ModelOutput) -> CorrectionItemScore:
    """Score one model output."""
    question = output.presented.question
    wanted, found = target(question), _read(output)
    if found.error is None:
        return CorrectionItemScore(None, None, correct=False, detected=False, similarity=0.0, how=found.how)
    detected = found.error == (wanted is not None)
    right = detected and (wanted is None or found.sentence == wanted[0])
    similarity = chrf(found.corrected, wanted[1]) if found.corrected and wanted else 0.0
    return CorrectionItemScore(found.error, found.sentence, right, detected, round(similarity, 6), found.how)


def _read(output: ModelOutput) -> Correction:
    text, missing = text_for_the_reader(output)
    if missing:
        return Correction(None, how=missing)
    sentences = numbered_sentences(output.presented.question.stem)
    found = read_correction(text, sentences, truncated=output.truncated)
    return Correction(None, how="truncated") if output.truncated and found.error is None else found


def aggregate(questions: Sequence[Question], item_scores: Sequence[CorrectionItemScore]) -> list[Score]:
    """Compute accuracy, accuracy and F1 of detection, and on texts with an error the accuracy of the
    sentence and the similarity of the correction."""
    targets = [target(question) for question in questions]
    flawed = [wanted is not None for wanted in targets]
    none = sum(item_score.error is None for item_score in item_scores)
    share = sum(flawed) / len(flawed)
    places = fmean(1 / (1 + len(numbered_sentences(question.stem))) for question in questions)
    found = [
        score(
            Metric("correction", "accuracy", places, 1.0, constant_floor=1 - share),
            questions,
            [item_score.value for item_score in item_scores],
            no_answer=none,
        ),
        score(
            Metric("correction", "detection_accuracy", 0.5, 1.0, constant_floor=max(share, 1 - share)),
            questions,
            [float(item_score.detected) for item_score in item_scores],
            no_answer=none,
        ),
        _detection_f1(questions, item_scores, flawed, share),
    ]
    errors = [place for place, wanted in enumerate(targets) if wanted is not None]
    if not errors:
        return found
    asked, given = [questions[place] for place in errors], [item_scores[place] for place in errors]
    sentences = [numbered_sentences(question.stem) for question in asked]
    wanted = [each for each in targets if each is not None]
    copied = fmean(chrf(own[number], text) for own, (number, text) in zip(sentences, wanted, strict=True))
    unanswered = sum(item_score.error is None for item_score in given)
    return [
        *found,
        score(
            Metric("correction", "sentence_accuracy", fmean(1 / len(own) for own in sentences), 1.0),
            asked,
            [item_score.value for item_score in given],
            no_answer=unanswered,
        ),
        score(
            # Its best constant answer is a copy of the wrong sentence.
            Metric("correction", "correction_chrf", 0.0, 1.0, binary=False, constant_floor=copied),
            asked,
            [item_score.similarity for item_score in given],
            no_answer=unanswered,
        ),
    ]


def _detection_f1(
    questions: Sequence[Question],
    item_scores: Sequence[CorrectionItemScore],
    flawed: Sequence[bool],
    share: float,
) -> Score:
    """Compute F1 of the texts with an error; no answer is a miss, or a false alarm, as published."""
    alarms = [
        each.error is True or (each.error is None and not has) for each, has in zip(item_scores, flawed, strict=True)
    ]
    found_and_missed = np.array([[True, True], [True, False]])
    value, low, high = bootstrap_statistic(
        np.column_stack([flawed, alarms]), _f1, samples=samples_of(questions), extremes=found_and_missed
    )
    always, even = 2 * share / (1 + share), share / (share + 0.5) if share else 0.0
    return Score(
        questions[0].benchmark, questions[0].language, "correction", "detection_f1", len(questions),
        sum(each.detected for each in item_scores), value, low, high, even, 1.0,
        sum(each.error is None for each in item_scores), binary=False, constant_floor=always,
    )  # fmt: skip


def _f1(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    flawed, alarms = rows[..., 0], rows[..., 1]
    hits = (flawed & alarms).sum(axis=-1)
    wrong = (flawed ^ alarms).sum(axis=-1)
    return np.asarray(2 * hits / np.maximum(2 * hits + wrong, 1), dtype=np.float64)


SCORER = Scorer(
    summary="finds and corrects an error",
    needs="response",
    applies=applies,
    score_item=score_item,
    item_score=CorrectionItemScore,
    aggregate=aggregate,
)
