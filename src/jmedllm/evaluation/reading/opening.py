"""Replies that begin with their answer and go on to explain it."""

import re
from collections.abc import Sequence

from jmedllm.evaluation.question import letter_index
from jmedllm.evaluation.reading.extracted import Reading
from jmedllm.evaluation.reading.mentions import Run
from jmedllm.evaluation.reading.reply import AROUND, Reply
from jmedllm.evaluation.reading.stated import Stand
from jmedllm.evaluation.reading.whole import EDGE, reading_of

_AFTER = re.compile(
    r"[\"'」』)\]}】〕》≫〉⟩»]*\s*(?:\Z|\n|[.。:、,;(\[「!?]|-\s|[–—]"
    r"|番?(?:です|だ|である|でしょう|かな)|と思|と考え|になり|となり|because\b|since\b|as\b)"
)
SHARE = re.compile(r"[\s:(]*\d+(?:\.\d+)?\s*%")
"""Behind each choice of a list of probabilities."""
_LINE_END = re.compile(r"[\"'」』)\]}】〕》≫〉⟩» .。]*\n")
_LINE_LABEL = re.compile(r"^[ *\-•・(]*([A-Za-z])[.):]", re.MULTILINE)
_REASON = re.compile(
    r"[\s#*【(]*(?:理由|解説|根拠|説明|なぜ|because|since|reason|rationale|explanation)", re.IGNORECASE
)


def opening(reply: Reply, label: str = "label", by_text: str = "choice text") -> Reading | None:
    """The answer that `reply` begins with, if it is no list of all choices with comments."""
    text, stood = reply.said, reply.stood
    edge = EDGE.match(text)
    if not stood or not edge:
        return None
    run, said = stood[0]
    # Behind the run or, where its text goes on in other words than the choice's, behind its label.
    ends = (run.end, run.start + 1) if len(run.items) == 1 and not run.by_text else (run.end,)
    if run.start > edge.end() or said == "dismissed" or not any(_AFTER.match(text, end) for end in ends):
        return None
    if SHARE.match(text, run.end) or _walks(text, stood):
        return None
    alone = _LINE_END.match(text, run.end) is not None
    lines = {letter_index(line[1]) for line in _LINE_LABEL.finditer(text)} & set(range(len(reply.question.choices)))
    if not alone and lines - run.chosen:
        return None
    reading = reading_of(reply.question, [run], label, by_text)
    return None if reading.how == "too few" and not alone else reading


def opening_for_sure(reply: Reply) -> Reading | None:
    """The same for a reply that was cut off: what it begins with may be the first stop of a walk through all
    choices, unless it stands alone and is explained."""
    reading = opening(reply)
    if not reading:
        return None
    line, _, more = reply.said[reply.stood[0][0].end :].partition("\n")
    alone = not line.strip(AROUND) and more
    return reading if alone and (0 not in reading.chosen or _REASON.match(more)) else None


def begins_line(text: str, run: Run) -> bool:
    """Whether nothing but bullets stands before `run` in its line."""
    line = text[text.rfind("\n", 0, run.start) + 1 : run.start]
    edge = EDGE.match(line)
    return edge is not None and edge.end() == len(line)


def _walks(text: str, stood: Sequence[tuple[Run, Stand]]) -> bool:
    """Whether two more sentences on the first line begin with choices."""
    line = text.find("\n")
    more = [run for run, said in stood[1:] if said == "mentioned" and (line < 0 or run.end <= line)]
    return sum(text.startswith("。", run.start - 1) or text.startswith(". ", run.start - 2) for run in more) > 1
