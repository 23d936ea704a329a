"""The question type that all benchmarks share."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from jmedllm.files import hash_text, to_json

Language = Literal["ja", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
LANGUAGE_NAMES: Mapping[Language, str] = {"ja": "Japanese", "en": "English"}

Flag = Literal["image", "required", "every_answer_right"]
"""`image`: the item shows a picture, which may be missing from the data; `required`: it belongs to the 必修 part;
`every_answer_right`: the examiners accepted every answer afterwards."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a question.

    Attributes:
        path: its file.
        hash: hash of the file's bytes, which identifies the picture wherever its file is.
        place: place of the question in its file, for messages.
    """

    path: Path = field(compare=False)
    hash: str
    place: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class Question:
    """One benchmark item. `gold` and `number` exclude each other; an item without either has no right answer.

    A question with a `reference` or a `rubric` asks for a free answer and needs no choices.

    Attributes:
        gold: indices into `choices` that together are the right answer.
        also_right: further sets of indices that earn the points too.
        number: gold of an item answered with a number, in canonical decimal form ("0.4", "1130").
        select: how many choices the candidate is asked to pick.
        points: points for a right answer; 0 means the item is excluded from grading.
        prohibited: indices of 禁忌肢, choices that must not be picked.
        prohibited_plain: those of `prohibited` that the data give as one plain letter; the published table of
            candidates counts only these.
        examinees: percentage of human examinees who picked each choice, in the order of `choices`.
        examinees_right: percentage of human examinees who answered right.
        reference: a right answer in free text, which a scorer compares the response with.
        rubric: what a right answer must contain, for a scorer that judges the response.
        instruction: what the prompt asks for, instead of the prompt pack's own words.
        images: pictures that the question shows, in order; empty if there are none or the data do not have them.
    """

    id: str
    benchmark: str
    language: Language
    stem: str
    choices: tuple[str, ...]
    gold: frozenset[int]
    also_right: tuple[frozenset[int], ...] = ()
    number: str | None = None
    select: int = 1
    points: int = 1
    subject: str | None = None
    flags: frozenset[Flag] = frozenset()
    prohibited: frozenset[int] = frozenset()
    prohibited_plain: frozenset[int] = frozenset()
    examinees: tuple[float, ...] = ()
    examinees_right: float | None = None
    reference: str | None = None
    rubric: str | None = None
    instruction: str | None = None
    images: tuple[Picture, ...] = ()

    @property
    def gold_choices(self) -> tuple[str, ...]:
        """Return the texts of the right choices, in the order of `choices`."""
        return tuple(self.choices[i] for i in sorted(self.gold))

    @property
    def is_free_text(self) -> bool:
        """Whether the question asks for an answer in free text."""
        return not self.choices and (self.reference is not None or self.rubric is not None)


_OPTIONAL = ("reference", "rubric", "instruction")


def question_hash(question: Question) -> str:
    """Hash all fields of the question; the hash is the same in every process."""
    values = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(question).items()
        if name != "images"
    }
    # Skip unset fields, so that hashes of questions without them stay the same as before these fields existed.
    values = {name: value for name, value in values.items() if value is not None or name not in _OPTIONAL}
    values |= {"images": _hashes(question)} if question.images else {}
    return hash_text(to_json(values | {"also_right": [sorted(answer) for answer in question.also_right]}))


def content_hash(question: Question) -> str:
    """Hash the text, the choices and the pictures of a question; a corrected gold does not change the hash."""
    more = [question.instruction] if question.instruction else []
    pictures = [_hashes(question)] if question.images else []
    return hash_text(to_json([question.language, question.stem, question.choices, *more, *pictures]))


def _hashes(question: Question) -> list[str]:
    return [picture.hash for picture in question.images]


def language_of(text: str) -> Language:
    """Return Japanese if `text` contains kana or kanji, else English."""
    return "ja" if re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", text) else "en"


def label(index: int) -> str:
    """Return the letter of the choice at `index`; 0 is "a"."""
    return chr(ord("a") + index)


def letter_index(letter: str) -> int:
    """Return the index of the choice with this letter ("a" or "A" is 0).

    Raises:
        ValueError: `letter` is not one ASCII letter.
    """
    if len(letter) == 1 and "a" <= letter.lower() <= "z":
        return ord(letter.lower()) - ord("a")
    raise ValueError(f"{letter!r} is not one letter a to z")


def canonical_number(text: str) -> str:
    """Normalize a plain decimal: remove leading and trailing zeros ("07.20" becomes "7.2").

    Raises:
        ValueError: `text` is not a plain non-negative decimal.
    """
    if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        raise ValueError(f"{text!r} is not a number such as 7.2")
    whole, _, fraction = text.partition(".")
    return (whole.lstrip("0") or "0") + ("." + fraction.rstrip("0") if fraction.rstrip("0") else "")
