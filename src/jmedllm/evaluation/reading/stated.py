"""What a text says about the choices that it mentions.

Each mention becomes one character, so that neither the full stop inside a choice's text nor its words are taken
for what is said about it. That stands in the sentence and the line of the mention, or in a heading above it.
Whatever denies, doubts or supposes comes first: a wrong letter is worse than none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading import patterns
from jmedllm.evaluation.reading.extracted import fits
from jmedllm.evaluation.reading.markers import follows_marker
from jmedllm.evaluation.reading.mentions import MentionGroup

Stance = Literal["concluded", "likeliest", "affirmed", "dismissed", "mentioned"]
"""Concluded: called the answer; likeliest: called the most fitting; affirmed: called right, as others may be;
dismissed: eliminated, denied, supposed, reported or questioned."""

_LINE_OPENING = re.compile(
    r"(?:[\s\"'“”‘’「『(\[{【《〈*#>・•●○×→|-]|\d{1,3}[.)]\s|選択肢|options?\b|choices?\b)*", re.IGNORECASE
)
_WINDOW = 400
"""Characters before and behind a mention that say what it is worth."""
_NOT = re.compile(r"\bnot\s*\Z", re.IGNORECASE)
_BEHIND_SIGN = re.compile(r"[○◯〇✓✔✅⭕◎×✗✘❌✕][\s、,(「\[]*\Z")
"""In a table on one line: "(a) × (b) ○"."""
_HEADING_END = re.compile(r"[\s:。.*#】\]）)]+$")


@dataclass(frozen=True, slots=True)
class _Place:
    """The surroundings of one mention, with all mentions masked."""

    head: str
    """Its sentence up to it."""
    tail: str
    """Its sentence from behind it, with what ends it."""
    line: str
    """Its line from behind it."""
    opens: bool
    """Nothing but bullets stands before it in its line."""
    corrects: bool
    """Its sentence takes back what was said before."""
    begins: bool
    """Nothing but bullets stands before it in its sentence."""
    heading: str
    """For those that open a line: the last line above without any mention."""
    near: bool
    """The heading stands right above."""
    next: str
    """The line below, unless that begins with a mention."""


FIRST, OUTRIGHT, LAST = 8, 4, 30
"""Of more mentions than these are judged: the first, the last of those behind a mark, and the last."""


def find_stances(
    question: Question, text: str, mention_groups: Sequence[MentionGroup]
) -> list[tuple[MentionGroup, Stance]]:
    """What `text` says about each of its mentions, in order; about a part of them if there are many."""
    said = masked(text, mention_groups)
    at = [place for place, char in enumerate(said) if char == patterns.MENTION]
    corrections = [found.end() for found in patterns.CORRECTION.finditer(said)]
    taken_back = max(corrections, default=0)
    places: list[_Place] = []
    found: list[tuple[MentionGroup, Stance]] = []
    for number in _judged(said, at):
        group, place = mention_groups[number], _place(said, at[number], corrections)
        between = said[at[number - 1] + 1 : at[number]] if number else ""
        behind = said[at[number] + 1 : at[number + 1]] if number + 1 < len(mention_groups) else None
        if (
            at[number] < taken_back
            or (number and patterns.RANGE.fullmatch(between))
            or (behind and patterns.RANGE.fullmatch(behind))
        ):
            found.append((group, "dismissed"))
        elif places and patterns.CONTRAST.fullmatch(between):
            # "The answer is not A but C": what stands before A speaks of C.
            found[-1] = (found[-1][0], "dismissed")
            found.append((group, _contrasted(question, places[-1], place)))
        else:
            free = _free(said[max(0, at[number] - 30) : at[number]], group)
            found.append((group, _stance(question, place, free=free, weak=group.items[0].weak)))
        places.append(place)
    return _exception(question, found, places)


def _judged(said: str, at: Sequence[int]) -> Sequence[int]:
    """Which of the mentions `at` these places are judged."""
    count = len(at)
    if count <= FIRST + LAST:
        return range(count)
    between = range(FIRST, count - LAST)
    outright = [n for n in between if follows_marker(said, at[n])]
    return [*range(FIRST), *outright[-OUTRIGHT:], *range(count - LAST, count)]


def may_conclude(text: str, place: int) -> bool:
    """Whether a conclusion may stand at `place` of `text`: nothing before it denies or doubts it."""
    head = text[_sentence_start(text, place) : place]
    return not _denied_before(head) and not _unable(head)


def masked(text: str, mention_groups: Sequence[MentionGroup]) -> str:
    """`text` with one character in place of each of `mention_groups`."""
    text = text.replace(patterns.MENTION, " ")
    ends = [0, *(group.end for group in mention_groups)]
    starts = [*(group.start for group in mention_groups), len(text)]
    return patterns.MENTION.join(text[end:start] for end, start in zip(ends, starts, strict=True))


def _sentence_start(text: str, place: int) -> int:
    near = max(0, place - _WINDOW)
    return max((end.end() for end in patterns.SENTENCE_END.finditer(text, near, place)), default=near)


def _place(said: str, at: int, corrections: Sequence[int]) -> _Place:
    corrected = max((place for place in corrections if place <= at), default=0)
    start = max(_sentence_start(said, at), corrected)
    end = patterns.SENTENCE_END.search(said, at + 1)
    line_start = said.rfind("\n", 0, at) + 1
    line_end = said.find("\n", at)
    line_end = len(said) if line_end < 0 else line_end
    opens = at - line_start < _WINDOW and bool(_LINE_OPENING.fullmatch(said[line_start:at]))
    above = said[max(0, line_start - 8 * _WINDOW) : line_start].rstrip("\n").split("\n") if opens else [""]
    plain = next((n for n, line in enumerate(reversed(above)) if patterns.MENTION not in line), None)
    below = said[line_end + 1 :].split("\n", 1)[0]
    return _Place(
        head=said[max(start, at - _WINDOW) : at],
        tail=said[at + 1 : min(end.end() if end else len(said), at + _WINDOW)],
        line=patterns.AFFIRMED_TWICE.sub("", said[at + 1 : min(line_end, at + _WINDOW)]),
        opens=opens,
        corrects=start == corrected > 0,
        begins=opens or bool(_LINE_OPENING.fullmatch(said[start:at]) or _BEHIND_SIGN.search(said[start:at])),
        heading="" if plain is None else _HEADING_END.sub("", above[-1 - plain][-_WINDOW:]),
        near=plain == 0,
        next="" if patterns.MENTION in below else below,
    )


def _contrasted(question: Question, before: _Place, place: _Place) -> Stance:
    head = patterns.FILLER.cut(_NOT.sub("", patterns.FILLER.cut(before.head)))
    if _denied_before(head) or _denied_behind(place.tail):
        return "dismissed"
    if patterns.ASSERTED.match(place.tail):
        return "concluded"
    return _praise(question, head, before.head, place.tail, free=True)


def _stance(question: Question, place: _Place, *, free: bool, weak: bool) -> Stance:
    if place.begins and not weak and (judgement := _judgement(question, place)):
        return judgement
    head = patterns.FILLER.cut(place.head)
    negative = patterns.NEGATIVE_STEM.search(question.stem)
    if patterns.WRONG_IS.search(head):
        # Where the question asks for what is wrong, this is the answer.
        return "concluded" if negative and not _denied_behind(place.tail) else "dismissed"
    if patterns.ALL_OTHERS_WRONG.match(place.tail):
        return "mentioned" if negative else "concluded"
    if negative and free and patterns.IS_FALSE.match(place.tail) and not _denied_before(place.head):
        return "dismissed" if patterns.NOT_THE_ANSWER.match(place.tail) else "affirmed"
    if _denied_before(place.head) or _denied_behind(place.tail) or _unable(place.head):
        return "dismissed"
    if place.opens and _denied_before(place.heading):
        return "dismissed"
    if not head and (patterns.BARE.fullmatch(place.tail) or (place.corrects and patterns.ASSERTED.match(place.tail))):
        return "concluded"
    if place.opens and place.near and (announced := _announced(place.heading)):
        return announced
    praise = _praise(question, head, place.head, place.tail, free=free)
    if praise == "affirmed" and negative:
        return "dismissed"
    if praise == "mentioned" and (patterns.INCIDENTAL.search(place.head) or patterns.INCIDENTAL.search(place.tail)):
        return "dismissed"
    return praise


def _announced(heading: str) -> Stance | None:
    if heading.startswith(("→", "⇒", "->", "=>")):
        # A verdict on what stands above.
        return None
    head = patterns.FILLER.cut(heading)
    if _denied_before(heading):
        return None
    return (
        "concluded" if patterns.ANSWER_IS.search(head) else "likeliest" if patterns.LIKELIEST_IS.search(head) else None
    )


def _praise(question: Question, head: str, before: str, tail: str, *, free: bool) -> Stance:
    if patterns.ANSWER_IS.search(head) or patterns.FIRST_CHOICE_IS.search(before):
        return "concluded"
    if free and patterns.IS_ANSWER.match(tail):
        return "concluded"
    if question.select > 1 and patterns.FIRST_OF_TWO_IS.search(head):
        return "concluded"
    therefore = patterns.THEREFORE.search(head) or patterns.THEREFORE_ITSELF.search(before)
    if therefore and patterns.ASSERTED.match(tail):
        return "concluded"
    if patterns.LIKELIEST_IS.search(head) or (free and patterns.IS_LIKELIEST.match(tail)):
        return "likeliest"
    return "affirmed" if free and patterns.IS_RIGHT.match(tail) else "mentioned"


def _judgement(question: Question, place: _Place) -> Stance | None:
    """What stands behind a label as in a table, or as the last word of its line."""
    negative = bool(patterns.NEGATIVE_STEM.search(question.stem))
    truth = _truth(place)
    if patterns.NOT_THE_ANSWER.match(place.line):
        return "dismissed"
    if truth is not None and patterns.THE_ANSWER.match(place.line) is None:
        return "affirmed" if truth is not negative else "dismissed"
    last = [place.line.rstrip(" 。.!"), place.next.strip(" 。.!*")]
    if any(patterns.LAST_VERDICT.search(text) and patterns.MENTION not in text for text in last):
        return "concluded"
    if patterns.THE_ANSWER.match(place.line) and not _denied_behind(place.line):
        return "concluded"
    return None


def _truth(place: _Place) -> bool | None:
    """Whether a table calls the statement true or false."""
    if patterns.NOT_THE_ANSWER.match(place.line) or patterns.IS_FALSE.match(place.line):
        return False
    if patterns.IS_TRUE.match(place.line):
        return not _denied_behind(place.tail.lstrip("?"))
    sign = patterns.SIGN_BEFORE.search(place.head)
    return bool(sign["yes"]) if sign else None


def _exception(
    question: Question, found: list[tuple[MentionGroup, Stance]], places: Sequence[_Place]
) -> list[tuple[MentionGroup, Stance]]:
    """Where all but as many choices as are asked for are called wrong, the others are meant, whatever is asked."""
    if not patterns.NEGATIVE_STEM.search(question.stem):
        return found
    truths = [(group.chosen, _truth(place)) for (group, _), place in zip(found, places, strict=True) if place.opens]
    right = frozenset[int]().union(*(chosen for chosen, truth in truths if truth is True))
    wrong = frozenset[int]().union(*(chosen for chosen, truth in truths if truth is False))
    if len(right | wrong) < len(question.choices) or right & wrong or fits(question, len(wrong)):
        return found
    if not fits(question, len(right)):
        return found
    return [
        (group, stance if stance == "concluded" else "affirmed" if group.chosen <= right else "dismissed")
        for group, stance in found
    ]


def _denied_before(head: str) -> bool:
    """Whether the words before a mention deny, doubt or suppose what they say about it."""
    head = patterns.AFFIRMED_TWICE.sub("", head.rsplit(patterns.MENTION, 1)[-1])
    return bool(
        patterns.DENIED_BEFORE.search(patterns.CLAUSE_START.split(head)[-1])
        or patterns.SUPPOSED_BEFORE.search(patterns.NEW_THOUGHT.split(head)[-1])
    )


def _unable(head: str) -> bool:
    return bool(patterns.CANNOT.search(patterns.CLAUSE_START.split(head)[-1]))


def _denied_behind(tail: str) -> bool:
    """Whether the words behind a mention deny, doubt or suppose what they say about it."""
    if patterns.AFFIRMED_TWICE.sub("", tail).endswith("?") or patterns.WRONGLY.match(tail):
        return True
    end = tail.find(patterns.MENTION)
    if end >= 0:
        tail = patterns.LINKS_NEXT.sub("", tail[:end])
    tail = patterns.AFFIRMED_TWICE.sub("", tail)
    cut = patterns.CLAUSE_END_BEHIND.search(tail)
    clause = tail[: cut.end()] if cut else tail
    return bool(
        patterns.DENIED_BEHIND.search(clause)
        or patterns.SUPPOSED_BEHIND.search(clause)
        or patterns.EN_DENIED_BEHIND.search(clause)
    )


def _free(before: str, group: MentionGroup) -> bool:
    """Whether `group` is a noun of its own: not so in "vitamin C is the answer" and "ビタミンCが正解"."""
    if group.items[0].by_text or patterns.NAMED.search(before):
        return True
    if re.search(r"[ァ-ー一-鿿々]$", before):
        return False
    return not re.search(r"[A-Za-z] $", before) or bool(patterns.OPENING.search(before))
