"""A user's own exam: one JSON object a line.

`{"id", "question", "choices": [...], "answer": ["c"] or [] or "7.2", "language"}`, and where wanted
`"select"`, `"points"`, `"subject"`, `"image"`. An answer in quotes is a number and goes with `"choices": []`;
an empty list says that no answer is right.
"""

from collections.abc import Mapping
from pathlib import Path

from jmedllm.errors import InputError, unknown
from jmedllm.exam.benchmarks.reading import Line, lines
from jmedllm.exam.order import TURN_MARK
from jmedllm.exam.question import LANGUAGES, Language, Question, canonical_number

KEYS = ("id", "question", "choices", "answer", "language", "select", "points", "subject", "image")


def read_all(path: Path) -> list[Question]:
    """Read the questions in every language; the benchmark is named after the file.

    Raises:
        InputError: a line is wrong, or an id stands twice in a language.
    """
    questions = []
    places: dict[tuple[str, Language], int] = {}
    for line in lines(path):
        question = _question(line)
        place = places.setdefault((question.id, question.language), line.number)
        if place != line.number:
            raise line.wrong("id", f"an id of its own (line {place} has the same)")
        questions.append(question)
    return questions


def read(path: Path, language: Language) -> list[Question]:
    """Read the questions in one language; lines in the other are checked too.

    Raises:
        InputError: see `read_all`, or the language has no question.
    """
    every = read_all(path)
    if not every:
        raise InputError(f"{path}: holds no question")
    chosen = [question for question in every if question.language == language]
    if not chosen:
        raise InputError(f'{path}: no question with "language": "{language}"; choose another --language')
    return chosen


def _question(line: Line) -> Question:
    for key in line.record:
        if key not in KEYS:
            raise InputError(f"{line.path}:{line.number}: {unknown('key', key, KEYS)}")
    choices = line.texts("choices")
    if len(choices) == 1:
        raise line.wrong("choices", "two or more texts, or none where the answer is a number")
    gold = _gold(line, len(choices))
    defaults: Mapping[str, object] = {"select": max(1, len(gold)), "points": 1, "image": False}
    full = Line(line.path, line.number, {**defaults, **line.record})
    select = full.integer("select", 1, max(1, len(choices)))
    if gold and select != len(gold):
        raise full.wrong("select", f"{len(gold)}, the number of letters in the answer")
    if TURN_MARK in line.text("id"):
        raise line.wrong("id", f'a text without "{TURN_MARK}", which marks turned choices in results')
    return Question(
        id=line.text("id"),
        benchmark=line.path.stem,
        language=_language(line),
        stem=line.text("question"),
        choices=choices,
        gold=gold,
        number=None if choices else _number(line),
        select=select,
        points=full.integer("points", 0),
        subject=line.text("subject") if "subject" in line.record else None,
        flags=frozenset({"image"}) if full.boolean("image") else frozenset(),
    )


def _language(line: Line) -> Language:
    for language in LANGUAGES:
        if line.record.get("language") == language:
            return language
    raise line.wrong("language", f"one of {', '.join(LANGUAGES)}")


def _gold(line: Line, count: int) -> frozenset[int]:
    if not count:
        return frozenset()
    letters = line.texts("answer", 'a list of letters such as ["c"]')
    return frozenset(line.choice("answer", letter, count) for letter in letters)


def _number(line: Line) -> str | None:
    if line.record.get("answer") == []:
        return None
    try:
        return canonical_number(line.text("answer"))
    except ValueError as error:
        raise line.wrong("answer", 'a number in quotes such as "7.2", since there are no choices') from error
