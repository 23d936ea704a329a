"""Scorer `legacy`: the published evaluation protocol with its quirks, for comparable numbers.

Source: stardust-coder/japanese-lm-med-harness at ef9544a. The quirks are part of the protocol: choices are compared
without cleaning; a comma inside a choice counts as a second answer; among equally similar choices the first is taken.
Every score is therefore reported with its floor and ceiling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cydifflib import SequenceMatcher
from rapidfuzz.distance import JaroWinkler

from jmedllm.evaluation.order import PresentedQuestion, present
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import ModelOutput, Scorer
from jmedllm.evaluation.statistics import Metric, Score, score, share

NO_TEXT_RIGHT = "no answer, yet counted right by the protocol"
NO_TEXT_WRONG = "no answer"
"""The protocol compares an empty or dotted response like any other, so some of them count as right."""

_MARKERS = ("### 応答：\n", "### Answer:", "### Response:")


@dataclass(frozen=True, slots=True)
class LegacyItemScore:
    """Comparison of one response with the choices and the gold text.

    Attributes:
        response: answer that `extract_response` extracted.
        chosen: indices of the printed choices most similar to the response, as many as the gold text has parts.
        exact: whether the response equals the gold text.
        gestalt: whether the most similar choices are the right ones.
        similarity: JMedLoRA's gestalt score: similarity of the response to the gold text, 0 to 1.
        nearest: JMedLoRA's accuracy: whether the most similar choice is a right one.
        jaro_winkler: Jaro-Winkler similarity to the gold text, which the published code defines but never uses.
    """

    response: str
    chosen: tuple[int, ...]
    exact: bool
    gestalt: bool
    similarity: float
    nearest: bool
    jaro_winkler: float

    @property
    def correct(self) -> bool:
        """Whether the gestalt match, which the published tables report, is right."""
        return self.gestalt

    @property
    def value(self) -> float:
        """1 if the gestalt match is right, else 0."""
        return float(self.gestalt)

    @property
    def answered(self) -> bool:
        """Whether the response has text; without text the protocol still picks the choice most similar to the empty
        text."""
        return bool(_clean(self.response))

    @property
    def how(self) -> str:
        """How the choices were picked; it states if the protocol picked them without an answer."""
        if self.answered:
            return "most similar"
        return NO_TEXT_RIGHT if self.correct else NO_TEXT_WRONG


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`, which must have a right choice."""
    return bool(question.gold)


def gold_text(question: Question) -> str:
    """Return the texts of the right choices joined by ",", as the published protocol compares them."""
    return ",".join(question.gold_choices)


def extract_response(decoded: str) -> str:
    """Extract the answer from the whole decoded text, including the prompt.

    The answer is the text between the first marker and its next occurrence. "### 応答：" is searched first, then "###
    Answer:", then "### Response:". Without a marker the whole text is the answer. Only its first line (up to a line
    feed) counts. If the prompt contains solved examples, pass only the last block.
    """
    marker = next((marker for marker in _MARKERS if marker in decoded), None)
    answer = decoded if marker is None else decoded.split(marker)[1]
    return answer.strip().split("\n")[0].strip()


def is_final(decoded: str) -> bool:
    """Return whether no further token can change the result of `extract_response`.

    True once the first line after the marker of highest priority is complete. After other markers it is never true,
    because a marker of higher priority may still follow.
    """
    _, marker, answer = decoded.partition(_MARKERS[0])
    return bool(marker) and "\n" in answer.lstrip()


def after_marker(completion: str) -> str:
    """Put a published marker before `completion`, for prompts that end without one."""
    return _MARKERS[0] + completion


def exact_match(gold: str, response: str) -> bool:
    """Return whether both texts are equal after removing every "." and stripping white space."""
    return _clean(gold) == _clean(response)


def nearest(choices: Sequence[str], gold: str, response: str) -> tuple[int, ...]:
    """Return the indices of the choices most similar to `response`, best first, as many as `gold` has comma-separated
    parts.

    A comma inside a choice therefore makes an item unanswerable. If there are fewer choices, return none.
    """
    parts = gold.split(",")
    if len(parts) > len(choices):
        return ()
    cleaned = _clean(response)
    # A stable sort keeps equally similar choices in order, like the published code.
    by_similarity = sorted(range(len(choices)), key=lambda index: similarity(choices[index], cleaned), reverse=True)
    return tuple(by_similarity[: len(parts)])


def gestalt_match(choices: Sequence[str], gold: str, response: str) -> bool:
    """Return whether the choices most similar to `response` are those in `gold`, a text of choices joined by ","."""
    return _matches(choices, gold, nearest(choices, gold, response))


def _matches(choices: Sequence[str], gold: str, picked: Sequence[int]) -> bool:
    return bool(picked) and sorted(choices[index] for index in picked) == sorted(gold.split(","))


def score_response(presented: PresentedQuestion, response: str) -> LegacyItemScore:
    """Score a response that `extract_response` returned. The gold text keeps the printed order."""
    question, choices = presented.question, presented.permuted.choices
    gold = gold_text(question)
    picked = nearest(choices, gold, response)
    return LegacyItemScore(
        response=response,
        chosen=presented.printed(picked),
        exact=exact_match(gold, response),
        gestalt=_matches(choices, gold, picked),
        similarity=round(similarity(gold, _clean(response)), 6),
        nearest=bool(picked) and presented.order[picked[0]] in question.gold,
        jaro_winkler=round(JaroWinkler.similarity(gold, response), 6),
    )


def floor(questions: Sequence[Question]) -> list[LegacyItemScore]:
    """Return the item scores of an empty answer."""
    return [score_response(present(question)[0], "") for question in questions]


def ceiling(questions: Sequence[Question]) -> list[LegacyItemScore]:
    """Return the item scores of the right answer."""
    return [score_response(present(question)[0], gold_text(question)) for question in questions]


def aggregate(questions: Sequence[Question], item_scores: Sequence[LegacyItemScore]) -> list[Score]:
    """Aggregate both metrics over the items of one benchmark and language, in the order of `questions`.

    Floor and ceiling are measured on the same items.
    """
    low, high = floor(questions), ceiling(questions)

    def one(metric: str, right: Callable[[LegacyItemScore], bool]) -> Score:
        return score(
            Metric("legacy", metric, share(list(map(right, low))), share(list(map(right, high)))),
            questions,
            list(map(right, item_scores)),
            no_answer=sum(not item_score.answered for item_score in item_scores),
        )

    return [one("exact_match", lambda item_score: item_score.exact), one("gestalt_match", lambda v: v.gestalt)]


def _clean(text: str) -> str:
    return text.replace(".", "").strip()


def similarity(choice: str, response: str) -> float:
    """Compute the gestalt similarity of two texts, 0 to 1."""
    # The ratio depends on the order of its arguments; the protocol averages both orders.
    forward = SequenceMatcher(None, choice, response).ratio()
    backward = SequenceMatcher(None, response, choice).ratio()
    return float((forward + backward) / 2)


def _text_to_read(text: str, plain: str | None, decoded: str | None) -> str:
    """Return the text for `extract_response`.

    For a published prompt, raw and zero-shot, this is the whole decoded text, as in the published code. Any other
    prompt may contain the same markers, so only the response is read.
    """
    return after_marker(text if plain is None else plain) if decoded is None else decoded


def score_item(output: ModelOutput) -> LegacyItemScore:
    """Score one model output."""
    nothing = output.text is None
    line = "" if nothing else extract_response(_text_to_read(output.text or "", output.plain, output.decoded))
    return score_response(output.presented, line)


SCORER = Scorer(
    summary="compares as published",
    needs="response",
    applies=applies,
    score_item=score_item,
    item_score=LegacyItemScore,
    aggregate=aggregate,
    is_final=lambda completion: is_final(_text_to_read(completion.text, completion.plain, completion.decoded)),
)
