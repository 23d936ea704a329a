"""Strip the labels in front of choices, such as "a. " or "①", because prompts print their own."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

_KATAKANA, _IROHA, _KANJI = "アイウエオカキクケコ", "イロハニホヘトチリヌ", "一二三四五六七八九十"
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")

_KINDS: tuple[tuple[str, Callable[[str], int]], ...] = (
    ("[a-z]", lambda label: ord(label) - ord("a")),
    ("[1-9][0-9]?", lambda label: int(label) - 1),
    (f"[{_KATAKANA}]", _KATAKANA.index),
    (f"[{_IROHA}]", _IROHA.index),
    (f"[{_KANJI}]", _KANJI.index),
    ("[ivx]{1,4}", lambda label: _ROMAN.index(label) if label in _ROMAN else -1),
)
"""Patterns of labels in NFKC and lower case, and the position that each label means, from 0."""

_CIRCLED = "[①-⑳⓪-⓿⑴-⒇Ⓐ-ⓩ㋐-㋙㊀-㊉❶-❿]"

_LABELLED = re.compile(
    rf"\s*(?:(?P<circled>{_CIRCLED})(?:[.．:：)）]|(?!\s*[のはがをにでとへもや、,，・~〜～]))"
    r"|[(\[（［〔【〈<]\s*(?P<inside>[^\W_]{1,4})\s*[)\]）］〕】〉>][.．。、:：]?"
    r"|(?P<before>[^\W_]{1,4})\s*(?:[)）\]］][.．:：]?|[.．。:：](?![0-9０-９])|\u3000|\t|\s[-–—]\s))"
    r"\s*(?P<text>.*\S)\s*",
    re.DOTALL,
)
"""A label and the text of its choice. A letter and a space are no label ("A 型"), nor are a decimal point and a ratio.
"①の反応" refers to a ① in the question."""


class LabelledChoice(NamedTuple):
    """A choice that begins with a label.

    Attributes:
        label: in NFKC and lower case.
        places: index of each kind of label that it may be → its position.
        text: the choice without the label.
    """

    label: str
    places: dict[int, int]
    text: str


def parse_label(choice: str) -> LabelledChoice | None:
    """Parse the label at the beginning of a choice; None without a label or without a text behind it."""
    match = _LABELLED.fullmatch(choice)
    if match is None:
        return None
    label = unicodedata.normalize("NFKC", match["circled"] or match["inside"] or match["before"]).lower()
    label = label.strip("()")  # ⑴
    places = {
        kind: place
        for kind, (pattern, place_of) in enumerate(_KINDS)
        if re.fullmatch(pattern, label) and (place := place_of(label)) >= 0
    }
    return LabelledChoice(label, places, match["text"]) if places else None


def strip_labels(choices: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the choices without their labels, and the labels; None unless all choices have labels in order.

    Raises:
        ValueError: the labels have gaps or another order, so a choice is missing or misplaced.
    """
    found = [each for choice in choices if (each := parse_label(choice)) is not None]
    if len(choices) < 2 or len(found) != len(choices):
        return None
    for kind in range(len(_KINDS)):
        places = [each.places.get(kind, -1) for each in found]
        if places == list(range(len(found))):
            return tuple(each.text for each in found), tuple(each.label for each in found)
        # Letters may be abbreviations ("A.", "N.", "V." for artery, nerve, vein): only near misses are labels.
        near = len(set(places)) == len(places) > 2 and min(places) in (0, 1) and max(places) <= len(places) + 1
        if near:
            raise ValueError(", ".join(each.label for each in found))
    return None


_FIRST_OF_LINE = re.compile(
    rf"\s*(?:{_CIRCLED}"
    r"|[(\[（［〔【〈]\s*[^\W_]{1,2}\s*[)\]）］〕】〉]"
    r"|[^\W_]{1,2}\s*(?:[)）\]］]|[.．:：](?![0-9０-９]))"
    rf"|(?:[A-Za-zＡ-Ｚａ-ｚ{_KATAKANA}]|[0-9０-９]{{1,2}}(?=.*[^\W\d]))[ \u3000\t]).*\S"
)
"""Below a question a letter and a space are also a label, and so are a number and a space before words. Lines of
numbers alone are digits to be marked."""


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a text into the question and the labelled choices below it, one per line, with their labels.

    Without such choices the whole text is the question.
    """
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if _FIRST_OF_LINE.fullmatch(line)]
    for begin in range(len(starts) - 1):
        chosen = starts[begin:]
        bounds = zip(chosen, [*chosen[1:], len(lines)], strict=True)
        choices = tuple("\n".join(lines[start:end]).strip() for start, end in bounds)
        with_tabs = tuple(re.sub(r"^(\s*[^\W_]{1,2})[ \u3000]", "\\1\u3000", choice) for choice in choices)
        if chosen[0] > 0 and _in_order(with_tabs):
            return "\n".join(lines[: chosen[0]]).strip(), with_tabs
    return text, ()


def _in_order(choices: Sequence[str]) -> bool:
    try:
        return strip_labels(choices) is not None
    except ValueError:
        return True  # `strip_labels` raises it again for the choices
