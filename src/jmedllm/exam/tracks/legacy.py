"""Track `legacy`: the published evaluation protocol, oddities included, so that numbers can be compared.

Source: what stardust-coder/japanese-lm-med-harness at ef9544a measures. The oddities are the protocol: the
choices are compared uncleaned; a comma inside a choice counts as a second answer; of equally similar choices
the first is taken. Hence no score without its floor and its ceiling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cydifflib import SequenceMatcher

from jmedllm.exam.question import Question
from jmedllm.exam.statistics import Score, score, share

_MARKERS = ("### 応答：\n", "### Answer:", "### Response:")


@dataclass(frozen=True, slots=True)
class LegacyVerdict:
    """What one response was worth.

    Attributes:
        response: the answer as `extract_response` cut it out.
        exact: it equals the gold text.
        gestalt: the choices most similar to it are the right ones.
    """

    response: str
    exact: bool
    gestalt: bool


def applies(question: Question) -> bool:
    """Whether this track can judge `question`: it needs choices of which some are right."""
    return bool(question.gold)


def gold_text(question: Question) -> str:
    """Texts of the right choices joined by ",", which is what the published protocol compares with."""
    return ",".join(question.gold_choices)


def extract_response(decoded: str) -> str:
    """Cut the answer out of the whole decoded text, prompt included.

    The answer lies between the first marker and its next occurrence; "### 応答：" is looked for first, then
    "### Answer:", then "### Response:"; a text without any is all answer. Of it counts the first line (up to
    a line feed). With solved examples in the prompt the first marker is theirs: give the last block only.
    """
    marker = next((marker for marker in _MARKERS if marker in decoded), None)
    answer = decoded if marker is None else decoded.split(marker)[1]
    return answer.strip().split("\n")[0].strip()


def is_final(decoded: str) -> bool:
    """Whether no further token could change what `extract_response` cuts out of `decoded`.

    True once the first line after the marker that is looked for first is complete. After the other markers
    it never is: a marker of higher rank may still come.
    """
    _, marker, answer = decoded.partition(_MARKERS[0])
    return bool(marker) and "\n" in answer.lstrip()


def after_marker(completion: str) -> str:
    """`completion` as it would stand in a decoded text, for prompts that end without a published marker."""
    return _MARKERS[0] + completion


def exact_match(gold: str, response: str) -> bool:
    """Whether both are the same text once every "." is removed and the ends are stripped."""
    return _clean(gold) == _clean(response)


def gestalt_match(choices: Sequence[str], gold: str, response: str) -> bool:
    """Whether the choices most similar to `response` are those in `gold`, a text of choices joined by ",".

    As many are picked as `gold` has parts between commas, so a comma inside a choice makes an item that no
    answer can win.
    """
    parts = gold.split(",")
    if len(parts) > len(choices):
        return False
    cleaned = _clean(response)
    # A stable sort keeps the first of equally similar choices in front, as the published code does.
    by_similarity = sorted(choices, key=lambda choice: _similarity(choice, cleaned), reverse=True)
    return sorted(by_similarity[: len(parts)]) == sorted(parts)


def judge(question: Question, response: str) -> LegacyVerdict:
    """Judge a response that `extract_response` cut out."""
    gold = gold_text(question)
    exact = exact_match(gold, response)
    return LegacyVerdict(response, exact, gestalt_match(question.choices, gold, response))


def floor(questions: Sequence[Question]) -> list[LegacyVerdict]:
    """What an empty answer earns on each item."""
    return [judge(question, "") for question in questions]


def ceiling(questions: Sequence[Question]) -> list[LegacyVerdict]:
    """What the right answer earns on each item."""
    return [judge(question, gold_text(question)) for question in questions]


def scores(questions: Sequence[Question], verdicts: Sequence[LegacyVerdict]) -> list[Score]:
    """Both metrics over items of one benchmark and language, `verdicts` in the order of `questions`.

    Floor and ceiling are measured on these very items.
    """
    low, high = floor(questions), ceiling(questions)
    return [
        score(
            questions,
            track="legacy",
            metric="exact_match",
            right=[verdict.exact for verdict in verdicts],
            floor=share([verdict.exact for verdict in low]),
            ceiling=share([verdict.exact for verdict in high]),
        ),
        score(
            questions,
            track="legacy",
            metric="gestalt_match",
            right=[verdict.gestalt for verdict in verdicts],
            floor=share([verdict.gestalt for verdict in low]),
            ceiling=share([verdict.gestalt for verdict in high]),
        ),
    ]


def _clean(text: str) -> str:
    return text.replace(".", "").strip()


def _similarity(choice: str, response: str) -> float:
    # The ratio depends on the order of its arguments; the protocol takes the mean of both.
    forward = SequenceMatcher(None, choice, response).ratio()
    backward = SequenceMatcher(None, response, choice).ratio()
    return float((forward + backward) / 2)
