"""Labels that choices carry in their own text, such as "a. " or "①": taken off, for prompts print their own."""

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
"""What a label may be, in NFKC and lower case, and which place it stands for, from 0."""

_CIRCLED = "[①-⑳⓪-⓿⑴-⒇Ⓐ-ⓩ㋐-㋙㊀-㊉❶-❿]"

_LABELLED = re.compile(
    rf"\s*(?:(?P<circled>{_CIRCLED})(?:[.．:：)）]|(?!\s*[のはがをにでとへもや、,，・~〜～]))"
    r"|[(\[（［〔【〈<]\s*(?P<inside>[^\W_]{1,4})\s*[)\]）］〕】〉>][.．。、:：]?"
    r"|(?P<before>[^\W_]{1,4})\s*(?:[)）\]］][.．:：]?|[.．。:：](?![0-9０-９])|\u3000|\t|\s[-–—]\s))"
    r"\s*(?P<text>.*\S)\s*",
    re.DOTALL,
)
"""A label and the choice behind it. A space alone makes no label ("A 型"), nor does a decimal point or a ratio;
"①の反応" speaks of a ① that the question shows."""


class LabelledChoice(NamedTuple):
    """A choice that begins with a label.

    Attributes:
        label: in NFKC and lower case.
        places: for each kind of label it may be, by the index of the kind, the place it stands for.
        text: what stands behind it.
    """

    label: str
    places: dict[int, int]
    text: str


def parse_label(choice: str) -> LabelledChoice | None:
    """The label at the beginning of a choice, if there is one with a text behind it."""
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
    """Choices without their own labels, and these; None where not every choice has one and in order.

    Raises:
        ValueError: they have labels in another order or with gaps, so that a choice is missing or misplaced.
    """
    found = [each for choice in choices if (each := parse_label(choice)) is not None]
    if len(choices) < 2 or len(found) != len(choices):
        return None
    for kind in range(len(_KINDS)):
        places = [each.places.get(kind, -1) for each in found]
        if places == list(range(len(found))):
            return tuple(each.text for each in found), tuple(each.label for each in found)
        # Letters may abbreviate ("A.", "N.", "V." for artery, nerve, vein): only near misses are labels.
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
"""Below a question a letter and a space are a label, too, and so are a number and a space before words; numbers
alone are digits to be marked."""


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """The question and the labelled choices that stand below it, each on a line of its own, labels included.

    Without choices the whole text is the question.
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
        return True  # told when they are read as choices
