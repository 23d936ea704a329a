"""Replies that begin with their answer and then explain it."""

import re
from collections.abc import Sequence

from jmedllm.evaluation.question import letter_index
from jmedllm.evaluation.reading.extracted import ExtractedAnswer
from jmedllm.evaluation.reading.mentions import MentionGroup
from jmedllm.evaluation.reading.reply import AROUND, Reply
from jmedllm.evaluation.reading.stated import Stance
from jmedllm.evaluation.reading.whole import EDGE, answer_of_mentions

_AFTER = re.compile(
    r"[\"'」』)\]}】〕》≫〉⟩»]*\s*(?:\Z|\n|[.。:、,;(\[「!?]|-\s|[–—]"
    r"|番?(?:です|だ|である|でしょう|かな)|と思|と考え|になり|となり|because\b|since\b|as\b)"
)
SHARE = re.compile(r"[\s:(]*\d+(?:\.\d+)?\s*%")
"""A probability behind a choice."""
_LINE_END = re.compile(r"[\"'」』)\]}】〕》≫〉⟩» .。]*\n")
_LINE_LABEL = re.compile(r"^[ *\-•・(]*([A-Za-z])[.):]", re.MULTILINE)
_REASON = re.compile(
    r"[\s#*【(]*(?:理由|解説|根拠|説明|なぜ|because|since|reason|rationale|explanation)", re.IGNORECASE
)


def opening(reply: Reply, label: str = "label", by_text: str = "choice text") -> ExtractedAnswer | None:
    """Extract the answer at the beginning of `reply`, unless it is a list of all choices with comments."""
    text, stances = reply.said, reply.stances
    edge = EDGE.match(text)
    if not stances or not edge:
        return None
    group, said = stances[0]
    # Behind the group or, if other words than the choice's text follow, behind its label.
    ends = (group.end, group.start + 1) if len(group.items) == 1 and not group.by_text else (group.end,)
    if group.start > edge.end() or said == "dismissed" or not any(_AFTER.match(text, end) for end in ends):
        return None
    if SHARE.match(text, group.end) or _walks(text, stances):
        return None
    alone = _LINE_END.match(text, group.end) is not None
    lines = {letter_index(line[1]) for line in _LINE_LABEL.finditer(text)} & set(range(len(reply.question.choices)))
    if not alone and lines - group.chosen:
        return None
    answer = answer_of_mentions(reply.question, [group], label, by_text)
    return None if answer.how == "too few" and not alone else answer


def opening_for_sure(reply: Reply) -> ExtractedAnswer | None:
    """Extract the answer at the beginning of a reply that was cut off.

    The first choice may be the start of a discussion of all choices, unless it is alone on its line and an
    explanation follows.
    """
    answer = opening(reply)
    if not answer:
        return None
    line, _, more = reply.said[reply.stances[0][0].end :].partition("\n")
    alone = not line.strip(AROUND) and more
    return answer if alone and (0 not in answer.chosen or _REASON.match(more)) else None


def begins_line(text: str, group: MentionGroup) -> bool:
    """Return whether only bullets precede `group` on its line."""
    line = text[text.rfind("\n", 0, group.start) + 1 : group.start]
    edge = EDGE.match(line)
    return edge is not None and edge.end() == len(line)


def _walks(text: str, stances: Sequence[tuple[MentionGroup, Stance]]) -> bool:
    """Return whether two more sentences on the first line begin with choices."""
    line = text.find("\n")
    more = [group for group, said in stances[1:] if said == "mentioned" and (line < 0 or group.end <= line)]
    return sum(text.startswith("。", group.start - 1) or text.startswith(". ", group.start - 2) for group in more) > 1
