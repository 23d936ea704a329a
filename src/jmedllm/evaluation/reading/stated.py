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
from jmedllm.evaluation.reading import words
from jmedllm.evaluation.reading.extracted import fits
from jmedllm.evaluation.reading.marks import behind_mark
from jmedllm.evaluation.reading.mentions import Run

Stand = Literal["concluded", "likeliest", "affirmed", "dismissed", "mentioned"]
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


def stands(question: Question, text: str, runs: Sequence[Run]) -> list[tuple[Run, Stand]]:
    """What `text` says about each of `runs`, all its mentions in order; about a part of them, if they are many."""
    said = masked(text, runs)
    at = [place for place, char in enumerate(said) if char == words.MENTION]
    corrections = [found.end() for found in words.CORRECTION.finditer(said)]
    taken_back = max(corrections, default=0)
    places: list[_Place] = []
    found: list[tuple[Run, Stand]] = []
    for number in _judged(said, at):
        run, place = runs[number], _place(said, at[number], corrections)
        between = said[at[number - 1] + 1 : at[number]] if number else ""
        behind = said[at[number] + 1 : at[number + 1]] if number + 1 < len(runs) else None
        if (
            at[number] < taken_back
            or (number and words.RANGE.fullmatch(between))
            or (behind and words.RANGE.fullmatch(behind))
        ):
            found.append((run, "dismissed"))
        elif places and words.CONTRAST.fullmatch(between):
            # "The answer is not A but C": what stands before A speaks of C.
            found[-1] = (found[-1][0], "dismissed")
            found.append((run, _contrasted(question, places[-1], place)))
        else:
            free = _free(said[max(0, at[number] - 30) : at[number]], run)
            found.append((run, _stand(question, place, free=free, weak=run.items[0].weak)))
        places.append(place)
    return _exception(question, found, places)


def _judged(said: str, at: Sequence[int]) -> Sequence[int]:
    """Which of the mentions `at` these places are judged."""
    count = len(at)
    if count <= FIRST + LAST:
        return range(count)
    between = range(FIRST, count - LAST)
    outright = [n for n in between if behind_mark(said, at[n])]
    return [*range(FIRST), *outright[-OUTRIGHT:], *range(count - LAST, count)]


def may_conclude(text: str, place: int) -> bool:
    """Whether a conclusion may stand at `place` of `text`: nothing before it denies or doubts it."""
    head = text[_sentence_start(text, place) : place]
    return not _denied_before(head) and not _unable(head)


def masked(text: str, runs: Sequence[Run]) -> str:
    """`text` with one character in place of each of `runs`."""
    text = text.replace(words.MENTION, " ")
    ends = [0, *(run.end for run in runs)]
    starts = [*(run.start for run in runs), len(text)]
    return words.MENTION.join(text[end:start] for end, start in zip(ends, starts, strict=True))


def _sentence_start(text: str, place: int) -> int:
    near = max(0, place - _WINDOW)
    return max((end.end() for end in words.SENTENCE_END.finditer(text, near, place)), default=near)


def _place(said: str, at: int, corrections: Sequence[int]) -> _Place:
    corrected = max((place for place in corrections if place <= at), default=0)
    start = max(_sentence_start(said, at), corrected)
    end = words.SENTENCE_END.search(said, at + 1)
    line_start = said.rfind("\n", 0, at) + 1
    line_end = said.find("\n", at)
    line_end = len(said) if line_end < 0 else line_end
    opens = at - line_start < _WINDOW and bool(_LINE_OPENING.fullmatch(said[line_start:at]))
    above = said[max(0, line_start - 8 * _WINDOW) : line_start].rstrip("\n").split("\n") if opens else [""]
    plain = next((n for n, line in enumerate(reversed(above)) if words.MENTION not in line), None)
    below = said[line_end + 1 :].split("\n", 1)[0]
    return _Place(
        head=said[max(start, at - _WINDOW) : at],
        tail=said[at + 1 : min(end.end() if end else len(said), at + _WINDOW)],
        line=words.AFFIRMED_TWICE.sub("", said[at + 1 : min(line_end, at + _WINDOW)]),
        opens=opens,
        corrects=start == corrected > 0,
        begins=opens or bool(_LINE_OPENING.fullmatch(said[start:at]) or _BEHIND_SIGN.search(said[start:at])),
        heading="" if plain is None else _HEADING_END.sub("", above[-1 - plain][-_WINDOW:]),
        near=plain == 0,
        next="" if words.MENTION in below else below,
    )


def _contrasted(question: Question, before: _Place, place: _Place) -> Stand:
    head = words.FILLER.cut(_NOT.sub("", words.FILLER.cut(before.head)))
    if _denied_before(head) or _denied_behind(place.tail):
        return "dismissed"
    if words.ASSERTED.match(place.tail):
        return "concluded"
    return _praise(question, head, before.head, place.tail, free=True)


def _stand(question: Question, place: _Place, *, free: bool, weak: bool) -> Stand:
    if place.begins and not weak and (item_score := _item_score(question, place)):
        return item_score
    head = words.FILLER.cut(place.head)
    negative = words.NEGATIVE_STEM.search(question.stem)
    if words.WRONG_IS.search(head):
        # Where the question asks for what is wrong, this is the answer.
        return "concluded" if negative and not _denied_behind(place.tail) else "dismissed"
    if words.ALL_OTHERS_WRONG.match(place.tail):
        return "mentioned" if negative else "concluded"
    if negative and free and words.IS_FALSE.match(place.tail) and not _denied_before(place.head):
        return "dismissed" if words.NOT_THE_ANSWER.match(place.tail) else "affirmed"
    if _denied_before(place.head) or _denied_behind(place.tail) or _unable(place.head):
        return "dismissed"
    if place.opens and _denied_before(place.heading):
        return "dismissed"
    if not head and (words.BARE.fullmatch(place.tail) or (place.corrects and words.ASSERTED.match(place.tail))):
        return "concluded"
    if place.opens and place.near and (announced := _announced(place.heading)):
        return announced
    praise = _praise(question, head, place.head, place.tail, free=free)
    if praise == "affirmed" and negative:
        return "dismissed"
    if praise == "mentioned" and (words.INCIDENTAL.search(place.head) or words.INCIDENTAL.search(place.tail)):
        return "dismissed"
    return praise


def _announced(heading: str) -> Stand | None:
    if heading.startswith(("→", "⇒", "->", "=>")):
        # A verdict on what stands above.
        return None
    head = words.FILLER.cut(heading)
    if _denied_before(heading):
        return None
    return "concluded" if words.ANSWER_IS.search(head) else "likeliest" if words.LIKELIEST_IS.search(head) else None


def _praise(question: Question, head: str, before: str, tail: str, *, free: bool) -> Stand:
    if words.ANSWER_IS.search(head) or words.FIRST_CHOICE_IS.search(before):
        return "concluded"
    if free and words.IS_ANSWER.match(tail):
        return "concluded"
    if question.select > 1 and words.FIRST_OF_TWO_IS.search(head):
        return "concluded"
    therefore = words.THEREFORE.search(head) or words.THEREFORE_ITSELF.search(before)
    if therefore and words.ASSERTED.match(tail):
        return "concluded"
    if words.LIKELIEST_IS.search(head) or (free and words.IS_LIKELIEST.match(tail)):
        return "likeliest"
    return "affirmed" if free and words.IS_RIGHT.match(tail) else "mentioned"


def _item_score(question: Question, place: _Place) -> Stand | None:
    """What stands behind a label as in a table, or as the last word of its line."""
    negative = bool(words.NEGATIVE_STEM.search(question.stem))
    truth = _truth(place)
    if words.NOT_THE_ANSWER.match(place.line):
        return "dismissed"
    if truth is not None and words.THE_ANSWER.match(place.line) is None:
        return "affirmed" if truth is not negative else "dismissed"
    last = [place.line.rstrip(" 。.!"), place.next.strip(" 。.!*")]
    if any(words.LAST_VERDICT.search(text) and words.MENTION not in text for text in last):
        return "concluded"
    if words.THE_ANSWER.match(place.line) and not _denied_behind(place.line):
        return "concluded"
    return None


def _truth(place: _Place) -> bool | None:
    """Whether a table calls the statement true or false."""
    if words.NOT_THE_ANSWER.match(place.line) or words.IS_FALSE.match(place.line):
        return False
    if words.IS_TRUE.match(place.line):
        return not _denied_behind(place.tail.lstrip("?"))
    sign = words.SIGN_BEFORE.search(place.head)
    return bool(sign["yes"]) if sign else None


def _exception(
    question: Question, found: list[tuple[Run, Stand]], places: Sequence[_Place]
) -> list[tuple[Run, Stand]]:
    """Where all but as many choices as are asked for are called wrong, the others are meant, whatever is asked."""
    if not words.NEGATIVE_STEM.search(question.stem):
        return found
    truths = [(run.chosen, _truth(place)) for (run, _), place in zip(found, places, strict=True) if place.opens]
    right = frozenset[int]().union(*(chosen for chosen, truth in truths if truth is True))
    wrong = frozenset[int]().union(*(chosen for chosen, truth in truths if truth is False))
    if len(right | wrong) < len(question.choices) or right & wrong or fits(question, len(wrong)):
        return found
    if not fits(question, len(right)):
        return found
    return [
        (run, stand if stand == "concluded" else "affirmed" if run.chosen <= right else "dismissed")
        for run, stand in found
    ]


def _denied_before(head: str) -> bool:
    """Whether the words before a mention deny, doubt or suppose what they say about it."""
    head = words.AFFIRMED_TWICE.sub("", head.rsplit(words.MENTION, 1)[-1])
    return bool(
        words.DENIED_BEFORE.search(words.CLAUSE_START.split(head)[-1])
        or words.SUPPOSED_BEFORE.search(words.NEW_THOUGHT.split(head)[-1])
    )


def _unable(head: str) -> bool:
    return bool(words.CANNOT.search(words.CLAUSE_START.split(head)[-1]))


def _denied_behind(tail: str) -> bool:
    """Whether the words behind a mention deny, doubt or suppose what they say about it."""
    if words.AFFIRMED_TWICE.sub("", tail).endswith("?") or words.WRONGLY.match(tail):
        return True
    end = tail.find(words.MENTION)
    if end >= 0:
        tail = words.LINKS_NEXT.sub("", tail[:end])
    tail = words.AFFIRMED_TWICE.sub("", tail)
    cut = words.CLAUSE_END_BEHIND.search(tail)
    clause = tail[: cut.end()] if cut else tail
    return bool(
        words.DENIED_BEHIND.search(clause)
        or words.SUPPOSED_BEHIND.search(clause)
        or words.EN_DENIED_BEHIND.search(clause)
    )


def _free(before: str, run: Run) -> bool:
    """Whether `run` is a noun of its own: not so in "vitamin C is the answer" and "ビタミンCが正解"."""
    if run.items[0].by_text or words.NAMED.search(before):
        return True
    if re.search(r"[ァ-ー一-鿿々]$", before):
        return False
    return not re.search(r"[A-Za-z] $", before) or bool(words.OPENING.search(before))
