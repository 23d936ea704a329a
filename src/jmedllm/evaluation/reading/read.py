"""The order in which a free response is read: see `_ORDER`, from top to bottom.

A label or text in a negation is never part of an answer. Where equal texts make choices the same, the first is
taken; `same_answer` does not tell them apart.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading import words
from jmedllm.evaluation.reading.clean import clean
from jmedllm.evaluation.reading.echo import without_echo
from jmedllm.evaluation.reading.extracted import Reading, nothing
from jmedllm.evaluation.reading.marks import ANNOUNCES, MARK
from jmedllm.evaluation.reading.mentions import Run
from jmedllm.evaluation.reading.numbers import read_number
from jmedllm.evaluation.reading.opening import SHARE, begins_line, opening, opening_for_sure
from jmedllm.evaluation.reading.passages import passages
from jmedllm.evaluation.reading.refusal import refuses
from jmedllm.evaluation.reading.reply import AROUND, Reply
from jmedllm.evaluation.reading.stated import Stand, masked, may_conclude
from jmedllm.evaluation.reading.structured import json_field, structured
from jmedllm.evaluation.reading.texts import fold, key, normalise
from jmedllm.evaluation.reading.whole import longest, reading_of, whole
from jmedllm.models.thoughts import Thought

_ASKED = re.compile(
    r"\A(?P<question>Q\s*[:.][\s\S]*?(?:\n|[?。.] ?))?A\s*[:.]\s*(?P<answer>\S[\s\S]*)\Z", re.IGNORECASE
)
_NEXT_WORDS = 150
"""Characters behind a conclusion in which it may be taken back."""
_SHORT = 400
_MARKS = 5
"""So many of the last marks are tried with all that follows them."""


def read_answer(
    question: Question,
    response: str,
    *,
    truncated: bool = False,
    answer_as: AnswerForm = "text",
    numbered: bool | None = None,
    thought_open: bool | None = False,
    thoughts: Sequence[Thought] = (),
) -> Reading:
    """Read a free response.

    Args:
        truncated: the model was cut off at its token limit.
        answer_as: what the prompt asked for. It matters only where a choice's text is another one's letter.
        numbered: whether the prompt numbered the choices, so that numbers name them. None where nobody knows: then
            they do if no choice has digits of its own.
        thought_open: whether the prompt had opened a thought; None where nobody knows.
        thoughts: borders of thoughts besides the published ones, from the model's template.
    """
    cleaned = clean(response, truncated=truncated, thought_open=thought_open, thoughts=thoughts)
    if cleaned.unsure:
        reply = Reply(question, cleaned.text, truncated, answer_as, numbered)
        return (None if truncated else _whole(reply)) or nothing(
            "truncated" if truncated or cleaned.thinking else "unknown marker"
        )
    truncated = truncated or cleaned.thinking
    room = 2 * len(question.stem) + longest(question)
    text = passages(cleaned.text, room)
    if not normalise(text).strip(AROUND):
        return nothing("truncated" if truncated else "empty")
    if question.number is not None or not question.choices:
        return _number(question, text, truncated)
    text = without_echo(question, text)
    if not text.strip(AROUND):
        return nothing("truncated" if truncated else "no choice")
    reply = Reply(question, text, truncated, answer_as, numbered)
    return next(reading for evidence in _ORDER if (reading := evidence(reply)))


def same_answer(question: Question, reading: Reading, gold: Collection[int]) -> bool:
    """Whether `reading` says what `gold` says: the same choices or, if they were read as text, the same texts."""
    if question.number is not None:
        return reading.number == question.number
    if not reading.chosen:
        return False
    if "text" not in reading.how:
        return reading.chosen == frozenset(gold)
    return _texts(question, reading.chosen) == _texts(question, gold)


def _texts(question: Question, indices: Collection[int]) -> list[str]:
    return sorted(key(question.choices[i]) for i in indices)


def _number(question: Question, text: str, truncated: bool) -> Reading:
    field = json_field(text)
    reading = (read_number(question, field) if field else None) or read_number(question, text)
    if reading and reading.answered and (reading.how == "stated number" or not (truncated or refuses(text))):
        return reading
    if refuses(text):
        return nothing("refused")
    return nothing("truncated") if truncated else reading or nothing("no number")


def _whole(reply: Reply) -> Reading | None:
    return whole(reply, "label", "choice text")


def _question_and_answer(reply: Reply) -> Reading | None:
    """ "Q: ... A: c"."""
    asked = _ASKED.match(normalise(reply.text))
    reading = whole(reply.part(asked["answer"]), "stated label", "stated text") if asked else None
    # "A: <text of c>" without a question before it is the label of another choice.
    return reading if asked and reading and ("label" in reading.how or asked["question"]) else None


def _in_a_form(reply: Reply) -> Reading | None:
    """A field of JSON, a box, a tag: the last value or, where several are asked for and each holds one, all."""
    for how, values in structured(reply.text):
        joined = [",".join(dict.fromkeys(values))] if reply.question.select > 1 and len(values) > 1 else []
        # "2" in a form may count from 0, unless the prompt numbered the choices.
        parts = [
            replace(reply.part(value[: longest(reply.question)]), numbered=bool(reply.numbered))
            for value in [*values[-1:], *joined]
        ]
        found = [whole(part, how, how + " text") or opening(part, how, how + " text") for part in parts]
        readings = [reading for reading in found if reading]
        if readings:
            return next((reading for reading in readings if reading.answered), readings[0])
    return None


def _behind_the_last_mark(reply: Reply) -> Reading | None:
    """All that follows it. This comes before mentions in it: the texts of choices may be made of anything."""
    said = reply.said
    near = max(0, len(said) - longest(reply.question) - _NEXT_WORDS)
    for mark in reversed(list(ANNOUNCES.finditer(said, near))[-_MARKS:]):
        if may_conclude(said, mark.start()) and (
            reading := whole(reply.part(said[mark.end() :]), "stated label", "stated text")
        ):
            return None if reading.how == "too few" else reading
    return None


def _conclusion(reply: Reply) -> Reading | None:
    """What it last calls the answer. Where it was cut off, the next words may have taken that back."""
    last = [run for run, stand in reply.stood if stand == "concluded"]
    if reply.truncated and last and words.RECONSIDERED.search(reply.said, last[-1].end, last[-1].end + _NEXT_WORDS):
        return None
    return _stated(reply, "concluded")


def _most_fitting(reply: Reply) -> Reading | None:
    """What it last calls the most fitting."""
    return None if reply.truncated else _stated(reply, "likeliest")


def _opening(reply: Reply) -> Reading | None:
    """What it begins with, if it explains that."""
    if not reply.truncated:
        return opening(reply)
    concluded = any(stand == "concluded" for _, stand in reply.stood)
    return None if concluded else opening_for_sure(reply)


def _affirmed(reply: Reply) -> Reading | None:
    """What it calls right, choice by choice; as many as are asked for."""
    affirmed = [run for run, stand in reply.stood if stand == "affirmed"]
    if reply.truncated or not affirmed:
        return None
    reading = reading_of(reply.question, affirmed, "affirmed label", "affirmed text")
    return reading if reading.answered else None


def _last_line(reply: Reply) -> Reading | None:
    """An answer in a line of its own at the end."""
    _, line_feed, line = reply.said.rpartition("\n")
    settled = reply.stood and reply.stood[-1][1] in ("affirmed", "dismissed")
    if reply.truncated or not line_feed or settled:
        return None
    return whole(reply.part(line), "label", "choice text")


def _refusal(reply: Reply) -> Reading | None:
    refused = refuses(masked(reply.said, [run for run in reply.mentions if not run.items[0].weak]))
    return nothing("refused") if refused else None


def _cut(reply: Reply) -> Reading | None:
    return nothing("truncated") if reply.truncated else None


def _affirmed_too_many(reply: Reply) -> Reading | None:
    affirmed = [run for run, stand in reply.stood if stand == "affirmed"]
    if not affirmed:
        return None
    reading = reading_of(reply.question, affirmed, "affirmed label", "affirmed text")
    return nothing("ambiguous") if reading.how == "too many" else reading


def _mentioned(reply: Reply) -> Reading:
    """What a short reply mentions without more being said of it."""
    # What was ruled out somewhere is not named by being mentioned elsewhere.
    out = frozenset[int]().union(*(run.chosen for run, stand in reply.stood if stand == "dismissed"))
    named = [
        run for run, stand in reply.stood if stand == "mentioned" and _names(reply.said, run) and not run.chosen & out
    ]
    # In a long text a mention may be anything.
    if not named or len(reply.said) >= _SHORT:
        return nothing("no choice")
    reading = reading_of(reply.question, named, "mentioned label", "mentioned text")
    return nothing("ambiguous") if reading.how == "too many" else reading


def _unless_cut_through(evidence: Callable[[Reply], Reading | None]) -> Callable[[Reply], Reading | None]:
    """`evidence`, unless the text of another choice begins like the one with which a reply was cut off."""

    def found(reply: Reply) -> Reading | None:
        reading = evidence(reply)
        return nothing("truncated") if reading and reply.truncated and _may_go_on(reply, reading) else reading

    return found


_ORDER: tuple[Callable[[Reply], Reading | None], ...] = (
    # What was stated.
    *map(
        _unless_cut_through,
        (
            _whole,
            _question_and_answer,
            _in_a_form,
            _behind_the_last_mark,
            _conclusion,
            _most_fitting,
            _opening,
            _last_line,
            _affirmed,
        ),
    ),
    # Only where nothing was stated may it have been refused or cut off.
    _refusal,
    _cut,
    # What may be guessed.
    _affirmed_too_many,
    _mentioned,
)
"""The first evidence that yields a reading decides."""


def _stated(reply: Reply, wanted: Stand) -> Reading | None:
    """The last conclusion; where that holds too few, with the list that follows it or with those before it."""
    stood, text = reply.stood, reply.said
    places = [place for place, (_, said) in enumerate(stood) if said == wanted]
    if not places:
        return None
    # A line that names the answer outright outweighs lists and tables behind it.
    outright = [place for place in places if _outright(text, stood[place][0])]
    if outright and all(begins_line(text, stood[place][0]) for place in places if place > outright[-1]):
        places = [place for place in places if place <= outright[-1]]
    last = [stood[places[-1]][0]]
    listed = [run for run, said in stood[places[-1] + 1 :] if said != "dismissed" and begins_line(text, run)]
    together = [stood[place][0] for place in places]
    reading = reading_of(reply.question, last, "stated label", "stated text")
    if reading.how != "too few":
        return reading
    for more in ([*last, *listed], together):
        wider = reading_of(reply.question, more, "stated label", "stated text")
        if wider.answered:
            return wider
    return reading


def _outright(text: str, run: Run) -> bool:
    """Whether `run` stands right behind a mark."""
    line = text[text.rfind("\n", 0, run.start) + 1 : run.start]
    return line.startswith(MARK) and not line[len(MARK) :].strip(AROUND)


def _names(text: str, run: Run) -> bool:
    """Whether a mention without any statement around it is surely one of a choice."""
    if SHARE.match(text, run.end):
        return False
    if all((item.by_text or item.end - item.start > 1) and not item.weak for item in run.items):
        return True
    return bool(words.NAMED.search(text[max(0, run.start - 12) : run.start])) or (
        begins_line(text, run) and bool(re.match(r"[.):]", text[run.items[0].start + 1 : run.items[0].start + 2]))
    )


def _may_go_on(reply: Reply, reading: Reading) -> bool:
    """Whether the cut may have gone through the text of another choice that begins like the one chosen."""
    if "text" not in reading.how:
        return False
    end = fold(key(reply.text[-2 * longest(reply.question) :]))
    keys = [fold(key(choice)) for choice in reply.question.choices]
    return any(
        keys[i] and end.endswith(keys[i]) and any(k != keys[i] and k.startswith(keys[i]) for k in keys)
        for i in reading.chosen
    )
