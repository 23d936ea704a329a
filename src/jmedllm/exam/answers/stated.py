"""What a text says about the choices that it mentions."""

import re
from collections.abc import Sequence
from typing import Literal

from jmedllm.exam.answers import words
from jmedllm.exam.answers.mentions import Run
from jmedllm.exam.question import Question

Stand = Literal["concluded", "likeliest", "affirmed", "ruled out", "mentioned"]
"""Concluded: called the answer; likeliest: called the most fitting; affirmed: called right, as others may be."""

_CLAUSE = re.compile(r"[。.,;\n]|\bbut\b")

_WINDOW = 90
"""Characters before and behind a mention that say what it is worth."""


def stands(question: Question, text: str, runs: Sequence[Run]) -> list[tuple[Run, Stand]]:
    """What `text` says about each of `runs`, all its mentions in order."""
    found: list[tuple[Run, Stand]] = []
    for place, run in enumerate(runs):
        before = runs[place - 1] if place else None
        # "The answer is not A but C": what stands before A speaks of C.
        bridged = before is not None and words.CONTRAST.fullmatch(text, before.end, run.start)
        head = text[max(0, before.start - _WINDOW) : before.start] if bridged and before else None
        found.append((run, _stand(question, text, run, head)))
    return found


def may_conclude(text: str) -> bool:
    """Whether a conclusion may follow `text`: nothing denies or doubts it."""
    head = text[-_WINDOW:].rstrip()
    clause = _CLAUSE.split(head)[-1]
    return not (
        words.RULED_OUT_BEFORE.search(head) or words.SUPPOSED_BEFORE.search(head) or words.CANNOT.search(clause)
    )


def _stand(question: Question, text: str, run: Run, bridged: str | None) -> Stand:
    before = text[max(0, run.start - _WINDOW) : run.start]
    after = text[run.end : run.end + _WINDOW]
    if bridged is None:
        head = words.FILLER.sub("", before)
    else:
        head = words.FILLER.sub("", re.sub(r"\bnot\s*$", "", words.FILLER.sub("", bridged)))
    # "A: 誤り" in one line says nothing about the next; "Eliminated:" does.
    gap = before[len(head) :]
    announced = bridged is not None or "\n" not in gap or ":" in gap
    if (announced and words.RULED_OUT_BEFORE.search(head)) or words.RULED_OUT_BEHIND.match(after):
        return "ruled out"
    clause = _CLAUSE.split(head)[-1]
    if words.SUPPOSED_BEFORE.search(head) or words.SUPPOSED_BEHIND.match(after) or words.CANNOT.search(clause):
        return "mentioned"
    if words.WRONG_IS.search(head):
        # Where the question asks for what is wrong, this is the answer.
        return "concluded" if words.NEGATIVE_STEM.search(question.stem) else "ruled out"
    if bridged is not None and words.ASSERTED.match(after):
        return "concluded"
    return _praise(head, before, after, free=_free(before, run))


def _praise(head: str, before: str, after: str, *, free: bool) -> Stand:
    if words.ANSWER_IS.search(head) or (free and words.IS_ANSWER.match(after)):
        return "concluded"
    therefore = words.THEREFORE.search(head) or words.THEREFORE_ITSELF.search(before)
    if therefore and words.ASSERTED.match(after):
        return "concluded"
    if words.LIKELIEST_IS.search(head) or (free and words.IS_LIKELIEST.match(after)):
        return "likeliest"
    return "affirmed" if free and words.IS_RIGHT.match(after) else "mentioned"


def _free(before: str, run: Run) -> bool:
    """Whether `run` is a noun of its own: not so in "vitamin C is the answer" and "ビタミンCが正解"."""
    if run.items[0].by_text or words.NAMED.search(before):
        return True
    if re.search(r"[ァ-ー一-鿿々]$", before):
        return False
    return not re.search(r"[A-Za-z] $", before) or bool(words.OPENING.search(before))
