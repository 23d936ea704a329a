"""Read answer keys in the forms that people use: labels, indices from 0 or from 1, or the texts of choices.

The form is chosen for the whole file: it must fit every answer that can be read at all.
"""

import ast
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.choice_labels import parse_label
from jmedllm.evaluation.question import label

KeyForm = Literal["letter", "index0", "index1", "text"]
KEY_FORMS: tuple[KeyForm, ...] = get_args(KeyForm)
KEY_FORM_NAMES: Mapping[KeyForm, str] = {
    "letter": "labels",
    "index0": "indices from 0",
    "index1": "indices from 1",
    "text": "texts of choices",
}

GoldSets = tuple[frozenset[int], ...]
"""Sets of choices that are right; the first is the main one."""

_BETWEEN = re.compile(r"\s*(?:[,、，;；/／・&＆]|\band\b|と)\s*|\s+", re.IGNORECASE)
_OR = re.compile(r"\s+or\s+|\s*または\s*|\s*もしくは\s*|\s*又は\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as a file has it, with the choices that it refers to.

    Attributes:
        choices: texts, without their labels.
        labels: in NFKC and lower case; a, b, c if the file prints none.
        has_labels: whether the file prints labels.
        written: the answer as the file has it.
    """

    choices: tuple[str, ...]
    labels: tuple[str, ...]
    has_labels: bool
    written: Any


def default_labels(count: int) -> tuple[str, ...]:
    """Labels for choices that are printed without labels."""
    return tuple(label(index) for index in range(count))


def plain(text: str) -> str:
    """Normalise a text for comparing labels and choices."""
    return unicodedata.normalize("NFKC", text).strip().lower()


def interpretations(raw: RawAnswer) -> dict[KeyForm, GoldSets]:
    """Interpret an answer in each form that fits it."""
    found = {form: _golds(form, raw) for form in KEY_FORMS}
    return {form: golds for form, golds in found.items() if golds is not None}


def _golds(form: KeyForm, raw: RawAnswer) -> GoldSets | None:
    for alternatives in _alternatives(raw.written):
        known = tuple(each for part in alternatives if (each := _one(form, raw, part)) is not None)
        if known and len(set(known)) == len(alternatives):
            return known
    return None


def is_list_of_lists(written: Any) -> bool:
    """Whether an answer is written as several right answers, `[["a"], ["c"]]`, in JSON or in a cell of a table."""
    value = from_text(written) if isinstance(written, str) else written
    return isinstance(value, list) and any(isinstance(each, list) for each in value)


def _alternatives(written: Any) -> list[list[Any]]:
    """Return the possible splits of an answer into several right ones: a list of lists, or a text at each "or"."""
    if isinstance(written, str):
        written = from_text(written)
    if is_list_of_lists(written):
        return [written] if all(isinstance(each, list) and each for each in written) else []
    only = written[0] if isinstance(written, list) and len(written) == 1 else written
    return [[written], *([_OR.split(only)] if isinstance(only, str) and _OR.search(only) else [])]


def from_text(text: str) -> Any:
    """Parse a list or an object in a cell of a table, written as in JSON or Python; return other texts unchanged."""
    if text.strip()[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, list | dict) else text


def _one(form: KeyForm, raw: RawAnswer, answer: Any) -> frozenset[int] | None:
    """Indices of the choices that make up one right answer."""
    parts = answer if isinstance(answer, list) else [answer]
    found: list[int] = []
    for part in parts:
        if isinstance(part, float) and part.is_integer():
            part = int(part)  # a column of whole numbers with a gap
        if isinstance(part, bool) or not isinstance(part, str | int):
            return None
        places = _places(form, raw, str(part))
        if places is None:
            return None
        found += places
    return frozenset(found) if found and len(set(found)) == len(found) else None


def _places(form: KeyForm, raw: RawAnswer, part: str) -> list[int] | None:
    if form in ("letter", "text") and (place := _label_and_text(raw, part)) is not None:
        return [place]
    if form == "text":
        same = [index for index, choice in enumerate(raw.choices) if plain(choice) == plain(part)]
        return same if len(same) == 1 else None
    if form == "letter":
        return _labelled(raw.labels, plain(part))
    numbers = [int(each) if re.fullmatch("[0-9]{1,3}", each) else -1 for each in _split(plain(part))]
    places = [number - (form == "index1") for number in numbers]
    return places if places and all(0 <= place < len(raw.choices) for place in places) else None


def _label_and_text(raw: RawAnswer, part: str) -> int | None:
    """Return the choice that is named by its label and its text, such as "B. Vitamin C"."""
    found = parse_label(part)
    if found is None or found.label not in raw.labels:
        return None
    place = raw.labels.index(found.label)
    return place if plain(raw.choices[place]) == plain(found.text) else None


def _split(text: str) -> list[str]:
    return [each for each in _BETWEEN.split(text) if each]


def _labelled(labels: Sequence[str], text: str) -> list[int] | None:
    """Positions of the labels in "c", "(c)", "c.", "a,c", "ac"."""
    places: list[int] = []
    for each in _split(text):
        bare = each.strip("()[]（）.:：。")
        if bare in labels:
            places.append(labels.index(bare))
        elif bare and all(sign in labels for sign in bare) and len(set(bare)) == len(bare):
            places += [labels.index(sign) for sign in bare]
        else:
            return None
    return places or None


def choose_form(
    path: Any, found: Sequence[tuple[str, RawAnswer, Mapping[KeyForm, GoldSets]]], wanted: KeyForm | None
) -> KeyForm:
    """Choose the form of a file's answers.

    Args:
        path: the file, for messages.
        found: place, answer and interpretations of each row.
        wanted: the form that the user gave, or None.

    Raises:
        InputError: two forms fit equally well and mean different choices.
    """
    if wanted is not None:
        return wanted
    fits = {form: sum(form in each for _, _, each in found) for form in KEY_FORMS}
    most = max(fits.values(), default=0)
    best = [form for form in KEY_FORMS if fits[form] == most]
    if not most:
        return "letter"
    _require_one_base(path, found, fits, best)
    if "letter" in best and any(raw.has_labels for _, raw, _ in found):
        return "letter"  # numbers printed before the choices are their labels
    for place, _, each in found:
        if len({each[form] for form in best if form in each}) > 1:
            words = " or ".join(KEY_FORM_NAMES[form] for form in best)
            options = " or ".join(f"answer_form={form}" for form in best)
            raise InputError(f"{place}: the answers may be {words}; choose one: --map {options}")
    return best[0]


def _require_one_base(
    path: Any,
    found: Sequence[tuple[str, RawAnswer, Mapping[KeyForm, GoldSets]]],
    fits: Mapping[KeyForm, int],
    best: Sequence[KeyForm],
) -> None:
    """Check that indices do not count from 0 in one row and from 1 in another."""
    if len(best) > 1 or best[0] not in ("index0", "index1"):
        return
    other: KeyForm = "index1" if best[0] == "index0" else "index0"
    here = next((place for place, _, each in found if other in each and best[0] not in each), None)
    there = next((place for place, _, each in found if best[0] in each and other not in each), None)
    if here and there:
        raise InputError(
            f"{path}: answers are {KEY_FORM_NAMES[other]} in {here} and {KEY_FORM_NAMES[best[0]]} in {there}; "
            f"fix them, or choose one: --map answer_form={best[0]}"
        )
