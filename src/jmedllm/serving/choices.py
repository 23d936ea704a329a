"""Choices of pasted multiple-choice questions. page/choices.js does the same in the browser."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Layout = Literal["letter", "text", "plain"]
"""Whether the answer is a label or a text; `plain` has the choices first and no instruction, for small models."""

Language = Literal["ja", "en"]

_FAMILIES = (
    [*"abcdefghij"],
    [*"ABCDEFGHIJ"],
    [str(number) for number in range(1, 11)],
    [*"アイウエオカキクケコ"],
    [*"あいうえおかきくけこ"],
    [*"イロハニホヘト"],
)
_LABEL = "([A-Ja-jＡ-Ｊａ-ｊ]|10|１０|[1-9１-９]|[アイウエオカキクケコｱｲｳｴｵｶｷｸｹｺロハニホヘト]|[あいうえおかきくけこ])"
_OPEN, _CLOSE, _SPACE = "[(（\\[［【〔]", "[)）\\]］】〕]", "[ \\t\\u00a0\\u2000-\\u200a\\u3000]"
_NOT_A_NUMBER = "(?:(?<![0-9０-９][.．:：、,，])|(?![0-9０-９]))"
_FORMS = {
    "paren": f"{_OPEN}{_SPACE}?{_LABEL}{_SPACE}?{_CLOSE}{_SPACE}*[.．:：、]?",
    "close": f"{_LABEL}{_SPACE}?{_CLOSE}[.．:：]?",
    "point": f"{_LABEL}{_SPACE}?[.．:：、,，]{_NOT_A_NUMBER}",
    "enclosed": "([①-⑩⑴-⑽⒜-⒥ⓐ-ⓙⒶ-Ⓙ㋐-㋙])[.．:：、]?",
    "space": f"{_LABEL}{_SPACE}+(?=\\S)",
    "bare": "([a-jａ-ｊ])(?=[\\u3040-\\u30ff\\u3400-\\u9fff])",
}
_LINES = {form: re.compile(f"{_SPACE}*(?:[-*・•]{_SPACE}*)?{pattern}") for form, pattern in _FORMS.items()}
# Within a line, a comma ends no label ("vitamins a, b, c"), and a label after a letter is a part of a word.
_INLINE = {
    "paren": re.compile(_FORMS["paren"]),
    "close": re.compile(f"(?<![^\\s、。，．：？?]){_FORMS['close']}"),
    "point": re.compile(f"(?<![^\\s、。，：？?]){_LABEL}{_SPACE}?[.．:：]{_NOT_A_NUMBER}"),
    "enclosed": re.compile(_FORMS["enclosed"]),
    "space": re.compile(f"(?<![^\\s、。？?]){_FORMS['space']}"),
}
_ANSWER = re.compile(
    r"[ \t\u3000]*[【\[(（*]*(?:正解|正答|解答|答え|答[:：]|解説|answer|correct|explanation|rationale)", re.IGNORECASE
)
_SELECT_JA = re.compile("([1-4一二三四]) ?つ(?:だけ)?を?(?:選|えら)")
_SELECT_EN = re.compile(r"\b(?:choose|select|pick|which) (?:the )?(two|three|four|[234])\b", re.ASCII)
_NUMBERS = {"1": 1, "2": 2, "3": 3, "4": 4, "一": 1, "二": 2, "三": 3, "四": 4, "two": 2, "three": 3, "four": 4}
_LONGEST = 50_000
MOST_ANSWERS = 60
"""Largest number of possible answers of one question."""


@dataclass(frozen=True, slots=True)
class _Mark:
    form: str
    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MultipleChoiceQuestion:
    """A pasted question.

    Attributes:
        stem: the text before the choices; all of it if there are none.
        choices: label and text of each choice.
        select: how many choices the question asks for.
        rest: the text after the choices, such as a printed answer, which is left out.
    """

    stem: str
    choices: tuple[tuple[str, str], ...] = ()
    select: int = 1
    rest: str = ""

    @property
    def answers(self) -> list[tuple[int, ...]]:
        """The possible answers, as indices of their choices."""
        return list(combinations(range(len(self.choices)), self.select))


def find_choices(pasted: str) -> MultipleChoiceQuestion:
    """Split a pasted question into its stem and its choices."""
    text = re.sub(r"\r\n?", "\n", pasted)[:_LONGEST]
    lines = _last_run([*_marks_of_lines(text)], {})
    within = _last_run(_marks_in_lines(text), {"space": 3})
    after = _end(text, lines[-1].end) if lines else 0
    run = lines if lines and not (within and within[0].start >= after) else within
    if not run:
        return MultipleChoiceQuestion(text.strip(), select=_selected(text))
    end = _end(text, run[-1].end)
    ends = [*(mark.start for mark in run[1:]), end]
    choices = tuple((mark.label, _joined(text[mark.end : stop])) for mark, stop in zip(run, ends, strict=True))
    stem = text[: run[0].start].strip()
    return MultipleChoiceQuestion(stem, choices, min(_selected(stem), len(choices)), text[end:].strip())


def _marks_of_lines(text: str) -> Iterator[_Mark]:
    start = 0
    for line in text.split("\n"):
        for form, pattern in _LINES.items():
            if found := pattern.match(line):
                yield _Mark(form, _label(found[1]), start, start + found.end())
                break
        start += len(line) + 1


def _marks_in_lines(text: str) -> list[_Mark]:
    marks = [
        _Mark(form, _label(found[1]), found.start(), found.end())
        for form, pattern in _INLINE.items()
        for found in pattern.finditer(text)
    ]
    return sorted(marks, key=lambda mark: mark.start)


def _last_run(marks: Sequence[_Mark], shortest: dict[str, int]) -> list[_Mark]:
    """Return the last run of consecutive labels of one family in one form."""
    best: list[_Mark] = []
    for family in _FAMILIES:
        for form in _FORMS:
            run: list[_Mark] = []
            runs = [run]
            for mark in marks:
                if mark.form != form:
                    continue
                if mark.label == family[0]:
                    runs.append(run := [mark])
                elif run and len(run) < len(family) and mark.label == family[len(run)]:
                    run.append(mark)
            for each in runs:
                if len(each) >= shortest.get(form, 2) and (not best or each[0].start > best[0].start):
                    best = each
    return best


def _end(text: str, start: int) -> int:
    """Return where the last choice ends: at an empty line, or at a line with the answer."""
    position = start
    for index, line in enumerate(text[start:].split("\n")):
        if index and (not line.strip() or _ANSWER.match(line)):
            return position
        position += len(line) + 1
    return len(text)


def _label(raw: str) -> str:
    return re.sub("[()]", "", unicodedata.normalize("NFKC", raw))


def _joined(text: str) -> str:
    lines = re.split(r"\s*\n\s*", text.strip())
    joined = lines[0]
    for line in lines[1:]:
        joined += (" " if joined[-1:].isascii() and line[:1].isascii() else "") + line
    return joined


def _selected(stem: str) -> int:
    text = unicodedata.normalize("NFKC", stem).lower()
    found = _SELECT_JA.findall(text) or _SELECT_EN.findall(text)
    return _NUMBERS[found[-1]] if found else 1


def question_prompt(question: MultipleChoiceQuestion, layout: Layout) -> tuple[str, list[str]]:
    """Return the prompt of a question with choices, and the texts of its possible answers."""
    language: Language = "ja" if re.search("[\u3040-\u30ff\u4e00-\u9fff]", question.stem) else "en"
    separator = ", " if language == "en" else "、"
    names = [label if layout == "letter" else text for label, text in question.choices]
    answers = [separator.join(names[index] for index in answer) for answer in question.answers]
    stem = question.stem
    if question.select > 1 and _selected(stem) != question.select:
        stem += f"（{question.select}つ選べ）" if language == "ja" else f" (choose {question.select})"
    return _LAYOUTS[layout](language, stem, question, separator), answers


def _with_labels(language: Language, stem: str, question: MultipleChoiceQuestion, _: str) -> str:
    many = question.select > 1
    if language == "ja":
        separated = "「、」で区切って" if many else ""
        task = (
            f"次は医学の試験問題です。答えとなる選択肢を{question.select}つ選び、記号だけを{separated}書いてください。"
        )
    else:
        what = "their labels, separated by commas" if many else "its label"
        task = (
            f"This is a multiple-choice question about medicine. Choose {question.select} of the choices and write "
            f"only {what}."
        )
    choices = "\n".join(f"{label}. {text}" for label, text in question.choices)
    return f"{task}\n\n{stem}\n{choices}"


def _with_texts(language: Language, stem: str, question: MultipleChoiceQuestion, _: str) -> str:
    many = question.select > 1
    if language == "ja":
        separated = "「、」で区切って" if many else ""
        task = f"次は医学の試験問題です。答えとなる選択肢を{question.select}つ選び、その文をそのまま{separated}"
        task += "書いてください。"
    else:
        what = "them, separated by commas" if many else "it"
        task = f"This is a multiple-choice question about medicine. Choose {question.select} of the choices and "
        task += f"copy {what}."
    choices = "\n".join(text for _, text in question.choices)
    return f"{task}\n\n{stem}\n{choices}"


def _plain(language: Language, stem: str, question: MultipleChoiceQuestion, separator: str) -> str:
    choices = separator.join(text for _, text in question.choices)
    return f"{choices}。{stem}" if language == "ja" else f"{choices}. {stem} "


_LAYOUTS = {"letter": _with_labels, "text": _with_texts, "plain": _plain}
