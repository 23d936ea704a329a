"""The order in which a free response is read. The first way that finds an answer decides.

1. The whole response is an answer: labels, or choice texts from end to end.
2. A field of JSON, or the last conclusion that it states ("答え：C", "Cが正解", "The answer is (C)", a box).
3. It begins with an answer and explains it.
4. It refuses.
5. It was cut off.
6. It ends with an answer in a line of its own; it affirms choices one by one; it mentions no more than asked for.

A label or text in a negation is never part of an answer. Where equal texts make choices the same, the first is
taken; `same_answer` does not tell them apart.
"""

import re
from collections.abc import Collection, Sequence

from jmedllm.exam.answers import words
from jmedllm.exam.answers.clean import clean
from jmedllm.exam.answers.echo import without_echo
from jmedllm.exam.answers.mentions import Run, runs
from jmedllm.exam.answers.numbers import read_number
from jmedllm.exam.answers.reading import NO_ANSWER, Reading, counted, fits, nothing
from jmedllm.exam.answers.refusal import refuses
from jmedllm.exam.answers.stated import Stand, masked, may_conclude, stands
from jmedllm.exam.answers.structured import as_marks, json_field, structured
from jmedllm.exam.answers.texts import EDGE, PAIRS, exact_texts, fold, key, normalise, same_texts
from jmedllm.exam.prompts.template import AnswerForm
from jmedllm.exam.question import Question, letter_index
from jmedllm.models.thoughts import Thought

_AROUND = EDGE + "・•●○>-" + "".join(PAIRS) + "".join(PAIRS.values())
_MARK = re.compile(
    r"(?:(?:\A|(?<=[\s、。,.#*>【(]))(?:(?:最終)?(?:答え?|回答|解答|正解|正答)(?:番号)?(?:\s*[:=→】]|は、?|\n))"
    # No other word may stand before these, or it is the "wrong answer" or the "second choice".
    r"|(?:\A|(?<=[\n、。,.#*>【(])|(?<=[,.:] )|\b(?:so|therefore|thus) )(?:(?:the|my) )?"
    r"(?:(?:final|correct|best|right|most appropriate) )*"
    r"(?:answer|option|choice|ans)(?: choice)?(?:s|\(s\))?(?: (?:is|are)(?: option| choice)?\b|\s*[:=-]|\n)"
    r"|boxed:)[\s:]*",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"\s{0,2}番?(?:の[2二]つ|の両方)?(?:です|だ|かなあ?|である|でしょう|になります|となります|を選びます|と思います|と考えます|と考えられます)?\s{0,2}[。.!]{0,9}\s{0,2}\Z"
)
_NUMBERED = re.compile(r"[1-9](?:[\s,、・と]+[1-9])*")
_ASKED = re.compile(
    r"\A(?P<question>Q\s*[:.][\s\S]*?(?:\n|[?。.] ?))?A\s*[:.]\s*(?P<answer>\S[\s\S]*)\Z", re.IGNORECASE
)
_REASON = re.compile(
    r"[\s#*【(]*(?:理由|解説|根拠|説明|なぜ|because|since|reason|rationale|explanation)", re.IGNORECASE
)
_NEXT_WORDS = 150
"""Characters behind a conclusion in which it may be taken back."""
_LETTERS = re.compile(r"[A-Za-z]{1,8}")
_LEAD_EDGE = re.compile(
    r"\A(?:[\s\"'“”‘’「『([{【《〈*#:>・•●○-]|\d{1,3}[.)]\s|選択肢|たぶん|多分|おそらく|恐らく|消去法で|options?\b|choices?\b)*",
    re.IGNORECASE,
)
_LEAD_AFTER = re.compile(
    r"[\"'」』)\]}】》〉]*\s*(?:\Z|\n|[.。:、,;(\[「]|-\s|[–—]|番?(?:です|だ|である|でしょう|かな)|と思|と考え|になり|となり|because\b|since\b|as\b)"
)
_SHORT = 400
_SHARE = re.compile(r"[\s:(]*\d+(?:\.\d+)?\s*%")
"""Behind each choice of a list of probabilities."""
_LINE_LABEL = re.compile(r"^[\s*\-•・(]*([A-Za-z])[.):]", re.MULTILINE)


def read_answer(
    question: Question,
    response: str,
    *,
    truncated: bool = False,
    answer_as: AnswerForm = "text",
    thought_open: bool | None = False,
    thoughts: Sequence[Thought] = (),
) -> Reading:
    """Read a free response.

    Args:
        truncated: the model was cut off at its token limit.
        answer_as: what the prompt asked for. It matters only where a choice's text is another one's letter.
        thought_open: whether the prompt had opened a thought; None where nobody knows.
        thoughts: borders of thoughts besides the published ones, from the model's template.
    """
    cleaned = clean(response, truncated=truncated, thought_open=thought_open, thoughts=thoughts)
    if cleaned.unsure:
        whole = None if truncated else _whole(question, cleaned.text, answer_as, "label", "choice text")
        return whole or nothing("truncated" if truncated or cleaned.thinking else "unknown marker")
    truncated = truncated or cleaned.thinking
    if not normalise(cleaned.text).strip(_AROUND):
        return nothing("truncated" if truncated else "empty")
    if question.number is not None or not question.choices:
        return _number(question, cleaned.text, truncated)
    return _choices(question, cleaned.text, truncated, answer_as)


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


def _choices(question: Question, text: str, truncated: bool, answer_as: AnswerForm) -> Reading:
    text = without_echo(question, text)
    if not text.strip(_AROUND):
        return nothing("truncated" if truncated else "no choice")
    reading = _decided(question, text, answer_as, truncated=truncated)
    if reading:
        return nothing("truncated") if truncated and _may_go_on(question, text, reading) else reading
    said = normalise(text)
    mentioned = runs(question, said, answer_as)
    if refuses(masked(said, [run for run in mentioned if not run.items[0].weak])):
        return nothing("refused")
    if truncated:
        return nothing("truncated")
    return _guessed(question, said, stands(question, said, mentioned), answer_as)


def _decided(question: Question, text: str, answer_as: AnswerForm, *, truncated: bool) -> Reading | None:
    """What the response says in so many words, also if it goes on about something else."""
    if whole := _whole(question, text, answer_as, "label", "choice text"):
        return whole
    asked = _ASKED.match(normalise(text))
    if asked:
        whole = _whole(question, asked["answer"], answer_as, "stated label", "stated text")
        # "A: <text of c>" without a question before it is the label of another choice.
        if whole and ("label" in whole.how or asked["question"]):
            return whole
    for how, values in structured(text):
        if values and (reading := _valued(question, values, answer_as, how)):
            return reading
    # Boxes that are no answer as a whole become marks like any other.
    said = normalise(as_marks(text))
    # The text behind a mark as a whole comes before mentions in it: choice texts may be made of anything.
    longest = sum(map(len, question.choices)) + 20 * len(question.choices) + 60
    for mark in reversed(list(_MARK.finditer(said))):
        if len(said) - mark.end() > longest:
            break
        if may_conclude(said[: mark.start()]) and (
            whole := _whole(question, said[mark.end() :], answer_as, "stated label", "stated text")
        ):
            if whole.how == "too few":
                break
            return whole
    stood = _stands(question, said, answer_as)
    return _concluded(question, said, stood, truncated=truncated)


def _concluded(
    question: Question, said: str, stood: Sequence[tuple[Run, Stand]], *, truncated: bool
) -> Reading | None:
    """The last conclusion, the most fitting choice, or what the text begins with.

    A text that was cut off has only the first for sure: what it begins with may be the first stop on a walk
    through all choices.
    """
    if not truncated:
        return (
            _stated(question, said, stood, "concluded")
            or _stated(question, said, stood, "likeliest")
            or _lead(question, said, stood)
        )
    last = [run for run, stand in stood if stand == "concluded"]
    if last:
        reconsidered = words.RECONSIDERED.search(said, last[-1].end, last[-1].end + _NEXT_WORDS)
        return None if reconsidered else _stated(question, said, stood, "concluded")
    reading = _lead(question, said, stood)
    if not reading:
        return None
    line, _, more = said[stood[0][0].end :].partition("\n")
    alone = not line.strip(_AROUND) and more
    return reading if alone and (0 not in reading.chosen or _REASON.match(more)) else None


def _whole(question: Question, text: str, answer_as: AnswerForm, label: str, by_text: str) -> Reading | None:
    """The reading of a text that is an answer from end to end."""
    plain = _TAIL.sub("", text)
    exact = exact_texts(question, text) or exact_texts(question, plain)
    labels = _labels(question, normalise(text), answer_as)
    if labels is not None and labels.how in NO_ANSWER and exact and fits(question, len(exact)):
        labels = None
    if exact and (labels is None or (answer_as == "text" and (fits(question, len(exact)) or not labels.answered))):
        return counted(question, exact, by_text)
    if labels is not None:
        return (
            Reading(labels.chosen, None, label if labels.how == "label" else by_text)
            if labels.answered
            else labels
        )
    if label in ("label", "stated label") and (
        numbered := _NUMBERED.fullmatch(_TAIL.sub("", normalise(text)).strip(_AROUND))
    ):
        indices = {int(digit) - 1 for digit in re.findall(r"\d", numbered[0])}
        if max(indices) < len(question.choices) and not any(re.search(r"\d", key(c)) for c in question.choices):
            return counted(question, indices, label)
    same = same_texts(question, text) or same_texts(question, plain)
    if same:
        return counted(question, same, by_text)
    alike = {key(choice) for choice in question.choices if fold(key(choice)) == fold(key(plain))}
    return nothing("ambiguous") if len(alike) > 1 else None


def _numbered(question: Question, text: str) -> frozenset[int]:
    """Choices called by their numbers alone, where no choice has digits of its own."""
    numbers = _NUMBERED.fullmatch(_TAIL.sub("", normalise(text)).strip(_AROUND))
    if not numbers or any(re.search(r"\d", key(choice)) for choice in question.choices):
        return frozenset()
    indices = frozenset(int(digit) - 1 for digit in re.findall(r"\d", numbers[0]))
    return indices if max(indices) < len(question.choices) else frozenset()


def _labels(question: Question, text: str, answer_as: AnswerForm) -> Reading | None:
    """The reading of mentions that fill a text from end to end."""
    bare = _TAIL.sub("", text).strip(_AROUND)
    if _LETTERS.fullmatch(bare) and len(bare) > 1 and (bare.islower() or bare.isupper()):
        indices = {letter_index(letter) for letter in bare}
        if len(indices) == len(bare) and max(indices) < len(question.choices):
            return counted(question, indices, "label")
    found = runs(question, text, answer_as)
    if len(found) != 1:
        return None
    run, edge = found[0], _LEAD_EDGE.match(text)
    if not edge or edge.end() < run.start or _TAIL.sub("", text[run.end :]).strip(_AROUND):
        return None
    return _reading(question, [run], "label", "choice text")


def _reading(question: Question, found: Sequence[Run], label: str, by_text: str) -> Reading:
    if any(run.either or run.clash for run in found):
        return nothing("ambiguous")
    chosen = frozenset[int]().union(*(run.chosen for run in found))
    return counted(question, chosen, by_text if all(run.by_text for run in found) else label)


def _valued(question: Question, values: list[str], answer_as: AnswerForm, how: str) -> Reading | None:
    """The reading of the last value or, where several are asked for and each holds one, of all."""
    joined = [",".join(dict.fromkeys(values))] if question.select > 1 and len(values) > 1 else []
    readings = []
    for value in [values[-1], *joined]:
        reading = _whole(question, value, answer_as, how, how + " text")
        if not reading:
            said = normalise(value)
            reading = _lead(question, said, _stands(question, said, answer_as), how, how + " text")
        if reading:
            readings.append(reading)
    return next((reading for reading in readings if reading.answered), readings[0] if readings else None)


def _stands(question: Question, text: str, answer_as: AnswerForm) -> list[tuple[Run, Stand]]:
    return stands(question, text, runs(question, text, answer_as))


def _stated(question: Question, text: str, stood: Sequence[tuple[Run, Stand]], wanted: Stand) -> Reading | None:
    """The last conclusion; where that holds too few, with the list that follows it or with those before it."""
    places = [place for place, (_, said) in enumerate(stood) if said == wanted]
    if not places:
        return None
    last = [stood[places[-1]][0]]
    listed = [run for run, said in stood[places[-1] + 1 :] if said != "dismissed" and _begins_line(text, run)]
    together = [stood[place][0] for place in places]
    reading = _reading(question, last, "stated label", "stated text")
    if reading.how != "too few":
        return reading
    for more in ([*last, *listed], together):
        wider = _reading(question, more, "stated label", "stated text")
        if wider.answered:
            return wider
    return reading


def _begins_line(text: str, run: Run) -> bool:
    line = text[text.rfind("\n", 0, run.start) + 1 : run.start]
    edge = _LEAD_EDGE.match(line)
    return edge is not None and edge.end() == len(line)


def _lead(
    question: Question,
    text: str,
    stood: Sequence[tuple[Run, Stand]],
    label: str = "label",
    by_text: str = "choice text",
) -> Reading | None:
    """The answer that the text begins with, if it is no list of all choices with comments."""
    edge = _LEAD_EDGE.match(text)
    if not stood or not edge:
        return None
    run, said = stood[0]
    # Behind the run or, where its text goes on in other words than the choice's, behind its label.
    ends = (run.end, run.start + 1) if len(run.items) == 1 and not run.by_text else (run.end,)
    if run.start > edge.end() or said == "dismissed" or not any(_LEAD_AFTER.match(text, end) for end in ends):
        return None
    if _SHARE.match(text, run.end) or _walks(text, stood):
        return None
    alone = text[run.end :].strip(" .。").startswith("\n")
    lines = {letter_index(line[1]) for line in _LINE_LABEL.finditer(text)} & set(range(len(question.choices)))
    if not alone and lines - run.chosen:
        return None
    reading = _reading(question, [run], label, by_text)
    return None if reading.how == "too few" and not alone else reading


def _walks(text: str, stood: Sequence[tuple[Run, Stand]]) -> bool:
    """Whether two more sentences on the first line begin with choices."""
    line = text.find("\n")
    more = [run for run, said in stood[1:] if said == "mentioned" and (line < 0 or run.end <= line)]
    return sum(text[: run.start].endswith(("。", ". ")) for run in more) > 1


def _guessed(question: Question, text: str, stood: Sequence[tuple[Run, Stand]], answer_as: AnswerForm) -> Reading:
    """The reading of a complete response that states no conclusion."""
    last_line = text.rsplit("\n", 1)[-1]
    settled = stood and stood[-1][1] in ("affirmed", "dismissed")
    if "\n" in text and not settled and (whole := _whole(question, last_line, answer_as, "label", "choice text")):
        return whole
    affirmed = [run for run, said in stood if said == "affirmed"]
    if affirmed:
        reading = _reading(question, affirmed, "affirmed label", "affirmed text")
        return nothing("ambiguous") if reading.how == "too many" else reading
    # What was ruled out somewhere is not named by being mentioned elsewhere.
    out = frozenset[int]().union(*(run.chosen for run, said in stood if said == "dismissed"))
    named = [run for run, said in stood if said == "mentioned" and _names(text, run) and not run.chosen & out]
    # In a long text a mention may be anything.
    named = named if len(text) < _SHORT else []
    if not named:
        return nothing("no choice")
    reading = _reading(question, named, "mentioned label", "mentioned text")
    return nothing("ambiguous") if reading.how == "too many" else reading


def _names(text: str, run: Run) -> bool:
    """Whether a mention without any statement around it is surely one of a choice."""
    if _SHARE.match(text, run.end):
        return False
    if all(item.by_text and not item.weak for item in run.items):
        return True
    return bool(words.NAMED.search(text[max(0, run.start - 12) : run.start])) or (
        _begins_line(text, run) and bool(re.match(r"[.):]", text[run.items[0].start + 1 : run.items[0].start + 2]))
    )


def _may_go_on(question: Question, text: str, reading: Reading) -> bool:
    """Whether the cut may have gone through the text of another choice that begins like the one chosen."""
    if "text" not in reading.how:
        return False
    end = fold(key(text))
    keys = [fold(key(choice)) for choice in question.choices]
    return any(
        keys[i] and end.endswith(keys[i]) and any(k != keys[i] and k.startswith(keys[i]) for k in keys)
        for i in reading.chosen
    )
