"""Extract the answer from a free response, by the kinds of evidence in `_ORDER` from top to bottom.

A label or text in a negation is never part of an answer. Of choices with equal texts the first is chosen;
`same_answer` treats them as the same.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading import patterns
from jmedllm.evaluation.reading.clean import clean
from jmedllm.evaluation.reading.echo import without_echo, without_open_list
from jmedllm.evaluation.reading.extracted import ExtractedAnswer, no_answer
from jmedllm.evaluation.reading.markers import ANNOUNCES, MARKER
from jmedllm.evaluation.reading.mentions import MentionGroup
from jmedllm.evaluation.reading.numbers import read_number
from jmedllm.evaluation.reading.opening import SHARE, begins_line, opening, opening_for_sure
from jmedllm.evaluation.reading.passages import passages
from jmedllm.evaluation.reading.refusal import refuses
from jmedllm.evaluation.reading.reply import AROUND, Reply
from jmedllm.evaluation.reading.stated import Stance, masked, may_conclude
from jmedllm.evaluation.reading.structured import json_field, structured
from jmedllm.evaluation.reading.texts import fold, key, normalise
from jmedllm.evaluation.reading.whole import answer_of_mentions, longest, whole
from jmedllm.models.thoughts import Thought

_ASKED = re.compile(
    r"\A(?P<question>Q\s*[:.][\s\S]*?(?:\n|[?。.] ?))?A\s*[:.]\s*(?P<answer>\S[\s\S]*)\Z", re.IGNORECASE
)
_NEXT_WORDS = 150
"""Characters behind a conclusion in which it may be revised."""
_SHORT = 400
_MARKS = 5
"""Number of last markers that are tried with all the text behind them."""

Evidence = Callable[[Reply], ExtractedAnswer | None]
"""One way to find the answer in a reply; None where it finds none."""


def read_answer(
    question: Question,
    response: str,
    *,
    truncated: bool = False,
    answer_as: AnswerForm = "text",
    numbered: bool | None = None,
    thought_open: bool | None = False,
    thoughts: Sequence[Thought] = (),
) -> ExtractedAnswer:
    """Extract the answer from a free response.

    Args:
        truncated: whether the response was cut off at the token limit.
        answer_as: what the prompt asked for. It matters only if a choice's text is another choice's letter.
        numbered: whether the prompt numbered the choices, so that numbers name them. None if unknown: then numbers
            name choices if no choice has digits.
        thought_open: whether the prompt opened a thought; None if unknown.
        thoughts: borders of thoughts in the model's template, besides the published ones.
    """
    cleaned = clean(response, truncated=truncated, thought_open=thought_open, thoughts=thoughts)
    if cleaned.unsure:
        reply = Reply(question, cleaned.text, truncated, answer_as, numbered)
        return (None if truncated else _whole(reply)) or no_answer(
            "truncated" if truncated or cleaned.thinking else "unknown marker"
        )
    truncated = truncated or cleaned.thinking
    room = 2 * len(question.stem) + longest(question)
    text = passages(cleaned.text, room)
    if not normalise(text).strip(AROUND):
        return no_answer("truncated" if truncated else "empty")
    if question.number is not None or not question.choices:
        return _number(question, text, truncated)
    text, is_cut = without_open_list(question, without_echo(question, text))
    truncated = truncated or is_cut
    if not text.strip(AROUND):
        return no_answer("truncated" if truncated else "no choice")
    reply = Reply(question, text, truncated, answer_as, numbered)
    return next(answer for evidence in _ORDER if (answer := evidence(reply)))


def same_answer(question: Question, answer: ExtractedAnswer, gold: Collection[int]) -> bool:
    """Return whether `answer` equals `gold`: the same choices or, if they were named by text, the same texts."""
    if question.number is not None:
        return answer.number == question.number
    if not answer.chosen:
        return False
    if "text" not in answer.how:
        return answer.chosen == frozenset(gold)
    return _texts(question, answer.chosen) == _texts(question, gold)


def _texts(question: Question, indices: Collection[int]) -> list[str]:
    return sorted(key(question.choices[i]) for i in indices)


def _number(question: Question, text: str, truncated: bool) -> ExtractedAnswer:
    field = json_field(text)
    answer = (read_number(question, field) if field else None) or read_number(question, text)
    if answer and answer.answered and (answer.how == "stated number" or not (truncated or refuses(text))):
        return answer
    if refuses(text):
        return no_answer("refused")
    return no_answer("truncated") if truncated else answer or no_answer("no number")


def _whole(reply: Reply) -> ExtractedAnswer | None:
    return whole(reply, "label", "choice text")


def _question_and_answer(reply: Reply) -> ExtractedAnswer | None:
    """ "Q: ... A: c"."""
    asked = _ASKED.match(normalise(reply.text))
    answer = whole(reply.part(asked["answer"]), "stated label", "stated text") if asked else None
    # Without a question before it, "A: <text of c>" is the label of another choice.
    return answer if asked and answer and ("label" in answer.how or asked["question"]) else None


def _in_a_form(reply: Reply) -> ExtractedAnswer | None:
    """Return a JSON field, a box or a tag: the last value or, if the question asks for several, all of them."""
    for how, values in structured(reply.text):
        joined = [",".join(dict.fromkeys(values))] if reply.question.select > 1 and len(values) > 1 else []
        # "2" may count from 0, unless the prompt numbered the choices.
        parts = [
            replace(reply.part(value[: longest(reply.question)]), numbered=bool(reply.numbered))
            for value in [*values[-1:], *joined]
        ]
        found = [whole(part, how, how + " text") or opening(part, how, how + " text") for part in parts]
        answers = [answer for answer in found if answer]
        if answers:
            return next((answer for answer in answers if answer.answered), answers[0])
    return None


def _behind_the_last_marker(reply: Reply) -> ExtractedAnswer | None:
    """Return the text behind the last marker. It is tried before mentions, because choices may contain any text."""
    said = reply.said
    near = max(0, len(said) - longest(reply.question) - _NEXT_WORDS)
    for mark in reversed(list(ANNOUNCES.finditer(said, near))[-_MARKS:]):
        if may_conclude(said, mark.start()) and (
            answer := whole(reply.part(said[mark.end() :]), "stated label", "stated text")
        ):
            return None if answer.how == "too few" else answer
    return None


def _conclusion(reply: Reply) -> ExtractedAnswer | None:
    """Return the last choice called the answer. If the reply was cut off, the next words may have revised it."""
    last = [group for group, stance in reply.stances if stance == "concluded"]
    if reply.truncated and last and patterns.RECONSIDERED.search(reply.said, last[-1].end, last[-1].end + _NEXT_WORDS):
        return None
    return _stated(reply, "concluded")


def _most_fitting(reply: Reply) -> ExtractedAnswer | None:
    """Return the last choice called the most fitting."""
    return None if reply.truncated else _stated(reply, "likeliest")


def _opening(reply: Reply) -> ExtractedAnswer | None:
    """Return the choice at the beginning, if an explanation follows."""
    if not reply.truncated:
        return opening(reply)
    concluded = any(stance == "concluded" for _, stance in reply.stances)
    return None if concluded else opening_for_sure(reply)


def _affirmed(reply: Reply) -> ExtractedAnswer | None:
    """Return the choices called right one by one, if their number is the one asked for."""
    affirmed = [group for group, stance in reply.stances if stance == "affirmed"]
    if reply.truncated or not affirmed:
        return None
    answer = answer_of_mentions(reply.question, affirmed, "affirmed label", "affirmed text")
    return answer if answer.answered else None


def _last_line(reply: Reply) -> ExtractedAnswer | None:
    """Return an answer alone on the last line."""
    _, line_feed, line = reply.said.rpartition("\n")
    settled = reply.stances and reply.stances[-1][1] in ("affirmed", "dismissed")
    if reply.truncated or not line_feed or settled:
        return None
    return whole(reply.part(line), "label", "choice text")


def _refusal(reply: Reply) -> ExtractedAnswer | None:
    refused = refuses(masked(reply.said, [group for group in reply.groups if not group.items[0].weak]))
    return no_answer("refused") if refused else None


def _cut(reply: Reply) -> ExtractedAnswer | None:
    return no_answer("truncated") if reply.truncated else None


def _affirmed_too_many(reply: Reply) -> ExtractedAnswer | None:
    affirmed = [group for group, stance in reply.stances if stance == "affirmed"]
    if not affirmed:
        return None
    answer = answer_of_mentions(reply.question, affirmed, "affirmed label", "affirmed text")
    return no_answer("ambiguous") if answer.how == "too many" else answer


def _mentioned(reply: Reply) -> ExtractedAnswer:
    """Return the choices that a short reply mentions without a statement about them."""
    # A choice that was ruled out is not named by another mention.
    out = frozenset[int]().union(*(group.chosen for group, stance in reply.stances if stance == "dismissed"))
    named = [
        group
        for group, stance in reply.stances
        if stance == "mentioned" and _names(reply.said, group) and not group.chosen & out
    ]
    # In a long text a mention may be anything.
    if not named or len(reply.said) >= _SHORT:
        return no_answer("no choice")
    answer = answer_of_mentions(reply.question, named, "mentioned label", "mentioned text")
    return no_answer("ambiguous") if answer.how == "too many" else answer


def _unless_cut_through(
    evidence: Callable[[Reply], ExtractedAnswer | None],
) -> Callable[[Reply], ExtractedAnswer | None]:
    """Wrap `evidence`: no answer if the cut may have gone through the longer text of another choice."""

    def found(reply: Reply) -> ExtractedAnswer | None:
        answer = evidence(reply)
        return no_answer("truncated") if answer and reply.truncated and _may_go_on(reply, answer) else answer

    return found


_ORDER: tuple[Evidence, ...] = (
    # Stated answers.
    *map(
        _unless_cut_through,
        (
            _whole,
            _question_and_answer,
            _in_a_form,
            _behind_the_last_marker,
            _conclusion,
            _most_fitting,
            _opening,
            _last_line,
            _affirmed,
        ),
    ),
    # Refused or cut off, only if nothing was stated.
    _refusal,
    _cut,
    # Weak evidence.
    _affirmed_too_many,
    _mentioned,
)
"""The first evidence that finds an answer decides."""


def _stated(reply: Reply, wanted: Stance) -> ExtractedAnswer | None:
    """Return the last conclusion; if it has too few choices, with the list behind it or the conclusions before it."""
    stances, text = reply.stances, reply.said
    places = [place for place, (_, said) in enumerate(stances) if said == wanted]
    if not places:
        return None
    # A line with a marker outweighs lists and tables behind it.
    outright = [place for place in places if _outright(text, stances[place][0])]
    if outright and all(begins_line(text, stances[place][0]) for place in places if place > outright[-1]):
        places = [place for place in places if place <= outright[-1]]
    last = [stances[places[-1]][0]]
    listed = [group for group, said in stances[places[-1] + 1 :] if said != "dismissed" and begins_line(text, group)]
    together = [stances[place][0] for place in places]
    answer = answer_of_mentions(reply.question, last, "stated label", "stated text")
    if answer.how != "too few":
        return answer
    for more in ([*last, *listed], together):
        wider = answer_of_mentions(reply.question, more, "stated label", "stated text")
        if wider.answered:
            return wider
    return answer


def _outright(text: str, group: MentionGroup) -> bool:
    """Return whether `group` is directly behind a marker."""
    line = text[text.rfind("\n", 0, group.start) + 1 : group.start]
    return line.startswith(MARKER) and not line[len(MARKER) :].strip(AROUND)


def _names(text: str, group: MentionGroup) -> bool:
    """Return whether a mention without a statement around it certainly names a choice."""
    if SHARE.match(text, group.end):
        return False
    if all((item.by_text or item.end - item.start > 1) and not item.weak for item in group.items):
        return True
    return bool(patterns.NAMED.search(text[max(0, group.start - 12) : group.start])) or (
        begins_line(text, group)
        and bool(re.match(r"[.):]", text[group.items[0].start + 1 : group.items[0].start + 2]))
    )


def _may_go_on(reply: Reply, answer: ExtractedAnswer) -> bool:
    """Return whether the cut may have gone through the text of another choice that begins like the chosen one."""
    if "text" not in answer.how:
        return False
    end = fold(key(reply.text[-2 * longest(reply.question) :]))
    keys = [fold(key(choice)) for choice in reply.question.choices]
    return any(
        keys[i] and end.endswith(keys[i]) and any(k != keys[i] and k.startswith(keys[i]) for k in keys)
        for i in answer.chosen
    )
