"""Find the stance of a text on the choices that it mentions.

Each mention is replaced by one character, so that the words and full stops of a choice's text do not count as a
statement about it. The stance depends on the sentence and the line of the mention, or on a heading above it.
Denial, doubt and supposition come first, because a wrong letter is worse than none.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading import patterns
from jmedllm.evaluation.reading.extracted import fits
from jmedllm.evaluation.reading.markers import follows_marker
from jmedllm.evaluation.reading.mentions import MentionGroup

Stance = Literal["concluded", "likeliest", "affirmed", "dismissed", "mentioned"]
"""Concluded: called the answer. Likeliest: called the most fitting. Affirmed: called right, which others may be too.
Dismissed: eliminated, denied, supposed, reported or questioned."""

_LINE_OPENING = re.compile(
    r"(?:[\s\"'“”‘’「『(\[{【《〈*#>・•●○×→|-]|\d{1,3}[.)]\s|選択肢|options?\b|choices?\b)*", re.IGNORECASE
)
_WINDOW = 400
"""Characters before and behind a mention that are examined."""
_NOT = re.compile(r"\bnot\s*\Z", re.IGNORECASE)
_BEHIND_SIGN = re.compile(r"[○◯〇✓✔✅⭕◎×✗✘❌✕][\s、,(「\[]*\Z")
"""A sign in a table on one line: "(a) × (b) ○"."""
_HEADING_END = re.compile(r"[\s:。.*#】\]）)]+$")


@dataclass(frozen=True, slots=True)
class _Place:
    """The surroundings of one mention, with all mentions masked."""

    head: str
    """Its sentence before it."""
    tail: str
    """Its sentence behind it, with the end of the sentence."""
    line: str
    """Its line behind it."""
    opens: bool
    """Whether only bullets precede it on its line."""
    corrects: bool
    """Whether its sentence corrects what was said before."""
    begins: bool
    """Whether only bullets precede it in its sentence."""
    heading: str
    """If it opens a line: the last line above without any mention."""
    near: bool
    """Whether the heading is the line directly above."""
    next: str
    """The line below, unless that begins with a mention."""


FIRST, OUTRIGHT, LAST = 8, 4, 30
"""Number of mentions that are judged if there are more: the first, the last behind a marker, and the last."""


def find_stances(
    question: Question, text: str, mention_groups: Sequence[MentionGroup]
) -> list[tuple[MentionGroup, Stance]]:
    """Find the stance of `text` on each of its mentions in order, or on a part of them if there are many."""
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
            # "The answer is not A but C": the words before A refer to C.
            found[-1] = (found[-1][0], "dismissed")
            found.append((group, _contrasted(question, places[-1], place)))
        else:
            free = _free(said[max(0, at[number] - 30) : at[number]], group)
            found.append((group, _stance(_Mention.of(question, place, free=free, weak=group.items[0].weak))))
        places.append(place)
    return _exception(question, found, places)


def _judged(said: str, at: Sequence[int]) -> Sequence[int]:
    """Return numbers of the mentions to judge, from their places `at`."""
    count = len(at)
    if count <= FIRST + LAST:
        return range(count)
    between = range(FIRST, count - LAST)
    outright = [n for n in between if follows_marker(said, at[n])]
    return [*range(FIRST), *outright[-OUTRIGHT:], *range(count - LAST, count)]


def may_conclude(text: str, place: int) -> bool:
    """Return whether nothing before `place` denies or doubts a conclusion there."""
    head = text[_sentence_start(text, place) : place]
    return not _denied_before(head) and not _unable(head)


def masked(text: str, mention_groups: Sequence[MentionGroup]) -> str:
    """Replace each of `mention_groups` in `text` by one character."""
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


@dataclass(frozen=True, slots=True)
class _Mention:
    """One mention as the rules see it.

    Attributes:
        head: its sentence before it, without filler at the end.
        negative: whether the question asks for a wrong statement.
        free: whether it is a separate noun, see `_free`.
        weak: whether its text is short or common, so that it may be a part of something else.
    """

    question: Question
    place: _Place
    head: str
    negative: bool
    free: bool
    weak: bool

    @staticmethod
    def of(question: Question, place: _Place, *, free: bool, weak: bool) -> "_Mention":
        negative = patterns.NEGATIVE_STEM.search(question.stem) is not None
        return _Mention(question, place, patterns.FILLER.cut(place.head), negative, free, weak)


def _stance(mention: _Mention) -> Stance:
    return next((stance for rule in _RULES if (stance := rule(mention))), "mentioned")


def _called_the_wrong_one(mention: _Mention) -> Stance | None:
    """ "The wrong one is C": if the question asks for a wrong statement, this is the answer."""
    if not patterns.WRONG_IS.search(mention.head):
        return None
    return "concluded" if mention.negative and not _denied_behind(mention.place.tail) else "dismissed"


def _unlike_all_others(mention: _Mention) -> Stance | None:
    if not patterns.ALL_OTHERS_WRONG.match(mention.place.tail):
        return None
    return "mentioned" if mention.negative else "concluded"


def _false_as_asked(mention: _Mention) -> Stance | None:
    place = mention.place
    if not (mention.negative and mention.free and patterns.IS_FALSE.match(place.tail)) or _denied_before(place.head):
        return None
    return "dismissed" if patterns.NOT_THE_ANSWER.match(place.tail) else "affirmed"


def _denied(mention: _Mention) -> Stance | None:
    place = mention.place
    if _denied_before(place.head) or _denied_behind(place.tail) or _unable(place.head):
        return "dismissed"
    return "dismissed" if place.opens and _denied_before(place.heading) else None


def _alone(mention: _Mention) -> Stance | None:
    """Nothing else is in the sentence, or it only asserts the mention as a correction."""
    place = mention.place
    if mention.head:
        return None
    is_asserted = place.corrects and patterns.ASSERTED.match(place.tail)
    return "concluded" if is_asserted or patterns.BARE.fullmatch(place.tail) else None


def _announced_above(mention: _Mention) -> Stance | None:
    return _announced(mention.place.heading) if mention.place.opens and mention.place.near else None


def _praised(mention: _Mention) -> Stance | None:
    place = mention.place
    praise = _praise(mention.question, mention.head, place.head, place.tail, free=mention.free)
    if praise == "mentioned":
        return None
    return "dismissed" if praise == "affirmed" and mention.negative else praise


def _incidental(mention: _Mention) -> Stance | None:
    place = mention.place
    return "dismissed" if any(patterns.INCIDENTAL.search(text) for text in (place.head, place.tail)) else None


def _announced(heading: str) -> Stance | None:
    if heading.startswith(("→", "⇒", "->", "=>")):
        # A judgement on the text above.
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


def _judgement(mention: _Mention) -> Stance | None:
    """Return the judgement behind a label, as in a table or at the end of its line."""
    place = mention.place
    if not place.begins or mention.weak:
        return None
    truth = _truth(place)
    if patterns.NOT_THE_ANSWER.match(place.line):
        return "dismissed"
    if truth is not None and patterns.THE_ANSWER.match(place.line) is None:
        return "affirmed" if truth is not mention.negative else "dismissed"
    last = [place.line.rstrip(" 。.!"), place.next.strip(" 。.!*")]
    if any(patterns.FINAL_JUDGEMENT.search(text) and patterns.MENTION not in text for text in last):
        return "concluded"
    if patterns.THE_ANSWER.match(place.line) and not _denied_behind(place.line):
        return "concluded"
    return None


def _truth(place: _Place) -> bool | None:
    """Return whether a table calls the statement true (or false); None if it does neither."""
    if patterns.NOT_THE_ANSWER.match(place.line) or patterns.IS_FALSE.match(place.line):
        return False
    if patterns.IS_TRUE.match(place.line):
        return not _denied_behind(place.tail.lstrip("?"))
    sign = patterns.SIGN_BEFORE.search(place.head)
    return bool(sign["yes"]) if sign else None


_RULES: tuple[Callable[[_Mention], Stance | None], ...] = (
    _judgement,
    _called_the_wrong_one,
    _unlike_all_others,
    _false_as_asked,
    _denied,
    _alone,
    _announced_above,
    _praised,
    _incidental,
)
"""The rules from first to last; the first that applies decides. Denial, doubt and supposition come before praise."""


def _exception(
    question: Question, found: list[tuple[MentionGroup, Stance]], places: Sequence[_Place]
) -> list[tuple[MentionGroup, Stance]]:
    """If all choices but the number asked for are called wrong, the others are the answer, whatever is asked."""
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
    """Return whether the words before a mention negate it or make it uncertain or hypothetical."""
    head = patterns.AFFIRMED_TWICE.sub("", head.rsplit(patterns.MENTION, 1)[-1])
    return bool(
        patterns.DENIED_BEFORE.search(patterns.CLAUSE_START.split(head)[-1])
        or patterns.SUPPOSED_BEFORE.search(patterns.NEW_THOUGHT.split(head)[-1])
    )


def _unable(head: str) -> bool:
    return bool(patterns.CANNOT.search(patterns.CLAUSE_START.split(head)[-1]))


def _denied_behind(tail: str) -> bool:
    """Return whether the words behind a mention negate it or make it uncertain or hypothetical."""
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
    """Return whether `group` is a separate noun, unlike in "vitamin C is the answer" and "ビタミンCが正解"."""
    if group.items[0].by_text or patterns.NAMED.search(before):
        return True
    if re.search(r"[ァ-ー一-鿿々]$", before):
        return False
    return not re.search(r"[A-Za-z] $", before) or bool(patterns.OPENING.search(before))
