"""Where a text mentions choices, by label or by text, and which mentions belong together."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jmedllm.exam.answers.texts import fold, key
from jmedllm.exam.answers.words import NAMED
from jmedllm.exam.prompts.template import AnswerForm
from jmedllm.exam.question import Question, letter_index


@dataclass(frozen=True, slots=True)
class Item:
    """One mention of one choice."""

    start: int
    end: int
    index: int
    by_text: bool
    weak: bool = False
    """A single letter or a number that stands for a choice's text: it may as well be part of the prose."""
    clash: bool = False
    """The label of one choice before the text of another."""


@dataclass(frozen=True, slots=True)
class Run:
    """Mentions with nothing but separators in between."""

    items: tuple[Item, ...]
    either: bool
    """Joined by "or": its author has not decided."""

    @property
    def start(self) -> int:
        """Where it starts."""
        return self.items[0].start

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.items[-1].end

    @property
    def chosen(self) -> frozenset[int]:
        """The choices mentioned."""
        return frozenset(item.index for item in self.items)

    @property
    def by_text(self) -> bool:
        """No label among them."""
        return all(item.by_text for item in self.items)

    @property
    def clash(self) -> bool:
        """A label contradicts the text behind it."""
        return any(item.clash for item in self.items)


_LETTER = re.compile(r"(?<![A-Za-z0-9])[A-Za-z](?![A-Za-z0-9])")
_LETTERS = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]{2,4}|[a-z]{2,4})(?=$|[\s.,。、:)\]」』}]|です|である|だ)")
_ORDINAL = re.compile(r"(?<!\d)([1-9])番目?|(?:選択肢|\b[Oo]ption|\b[Cc]hoice)\s*\(?([1-9])(?!\d)")
_CONNECTED = re.compile(
    r" (?:and|or|but|is|are|was|because|since|as|for|due|rather|seems?|appears?|fits?|would|should|must"
    r"|will|can|cannot|could|may|might|does|has|instead|over|not|only|here|if|would|given|to|in|looks?|remains?|makes?|best|also)\b"
)
_SENTENCE_WORD = re.compile(
    r"(?:because|since|as|this|the|it|reason|due|for|given|and|not|but|correct|incorrect|wrong|right|true|false|yes|no|best|is)\b"
)
_BEFORE_OWN_TEXT = re.compile(r"[\s.):、,\]\-–—=\"'「『(]*の?[\s\"'「『(]*")
_LINE_GOES_ON = re.compile(r"[\"'」』)\]]*\s*(?:\Z|\n|[.:、,(。\-–—])")
_OPERATOR = re.compile(r"[=*÷^_%°]| [=*÷+]| ?× ?[A-Za-z0-9(]")
_STOP_INSIDE = re.compile(r"[。.][」』\"'”)]*(?=では|で(?:も)?な|です|が|は|を|も|[:,、]|\s*[○◯×(])")
"""The full stop of a choice's text that does not end the sentence around it."""
_FUNCTION_WORDS = frozenset(
    ["yes", "no", "maybe", "none", "both", "all", "true", "false", "never", "always", "neither"]
)
_PART_BEFORE = re.compile(r"\d\s*(?:,|、|and|to|から|〜|~|-|–|or)\s*$|\d\s*,?\s*and\s*$")
"""Between the numbers of a list or a range."""
_CLOSING = re.compile(r"[\"'」』)\]]+")
_JOIN = re.compile(
    r"[\s\"'“”‘’「」『』【】()\[\]{}.。?!]*"
    r"(?P<sign>,|、|;|/|・|\+|&|と|および|及び|ならびに|かつ|\band\b|(?P<either>\bor\b|または|又は|もしくは|あるいは|か))?"
    r"[\s\"'“”‘’「」『』【】()\[\]{}]*(?P<more>(?:and|と)\b)?(?P<either2>\bor\b)?\s*(?P<bullet>\n\s*(?:[-*•・●○]|\d{1,2}[.)])\s*)?"
    r"(?:選択肢|options?|choices?)?[\s(\"'「\[]*",
    re.IGNORECASE,
)


def runs(question: Question, text: str, answer_as: AnswerForm) -> list[Run]:
    """All mentions of choices in a normalised text, those that belong together in one run."""
    found: list[Run] = []
    for item in _items(question, text, answer_as):
        joined = _JOIN.fullmatch(text, found[-1].end, item.start) if found else None
        if joined and _belong(found[-1].items[-1], item, joined, text):
            either = found[-1].either or bool(joined["either"] or joined["either2"])
            found[-1] = Run((*found[-1].items, item), either)
        else:
            found.append(Run((item,), False))
    return found


def _belong(left: Item, right: Item, joined: re.Match[str], text: str) -> bool:
    if joined["sign"] or joined["more"] or joined["either2"]:
        return True
    between = text[left.end : right.start]
    if "(" in between and ")" not in between:
        return False
    if "\n" in between:
        # The lines of a list, not a sentence that starts with the next choice.
        return bool(_LINE_GOES_ON.match(text, right.end))
    # Letters with spaces; a text and a letter in brackets behind it are something else.
    return not left.by_text and not right.by_text and "." not in between and "。" not in between


def _items(question: Question, text: str, answer_as: AnswerForm) -> list[Item]:
    texts = list(_texts(question, text))
    starts = {item.start: item for item in texts}
    labels = [_with_text(question, label, text, starts) for label in _labels(question, text, starts)]
    if answer_as == "letter":
        texts = [item for item in texts if item.end - item.start > 1 or not text[item.start].isascii()]
    else:
        exact = {item.start for item in texts if text[item.start : item.end] == key(question.choices[item.index])}
        labels = [item for item in labels if item.start not in exact or item.end - item.start > 1]
    kept: list[Item] = []
    for item in sorted([*labels, *texts], key=lambda item: (item.start, -item.end, item.by_text)):
        if not kept or item.start >= kept[-1].end:
            kept.append(item)
    return kept


def _texts(question: Question, text: str) -> Iterator[Item]:
    """Choice texts, the longest at each place."""
    folded = fold(text).replace("\n", " ")
    places: dict[int, list[tuple[int, int]]] = {}
    for index, choice in enumerate(question.choices):
        sought = fold(key(choice))
        start = folded.find(sought) if sought else -1
        while start >= 0:
            end = start + len(sought)
            if _stands_alone(text, start, end):
                if choice.rstrip().endswith(("。", ".")) and (stop := _STOP_INSIDE.match(text, end)):
                    end = stop.end()
                places.setdefault(start, []).append((end, index))
            start = folded.find(sought, start + 1)
    for start in sorted(places):
        end = max(end for end, _ in places[start])
        same = [index for e, index in places[start] if e == end]
        exact = [index for index in same if key(question.choices[index]) == key(text[start:end])]
        if exact or len({key(question.choices[index]) for index in same}) == 1:
            said = text[start:end]
            weak = end - start == 1 or said.replace(".", "").isdigit() or said.lower() in _FUNCTION_WORDS
            yield Item(start, end, (exact or same)[0], by_text=True, weak=weak)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is no part of a longer word or number."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if _PART_BEFORE.search(text[max(0, start - 8) : start]) and text[start].isdigit():
        return False
    if re.match(r"-[A-Za-z]", text[end : end + 2]) or re.search(r"[A-Za-z]-$", text[max(0, start - 2) : start]):
        return False
    if text[start].isdigit() and (before in ("-", "+") or re.search(r"\d[.,]$", text[:start][-2:])):
        return False
    if text[end - 1].isdigit() and re.match(r"[.,]\d", text[end : end + 2]):
        return False
    return not (_same_script(before, text[start]) or _same_script(text[end - 1], after))


def _same_script(left: str, right: str) -> bool:
    script = _script(left)
    return script != "" and script == _script(right)


def _script(char: str) -> str:
    """The script of a letter if words of it have ends that can be seen; Hiragana words do not."""
    if not char.isalnum() and char not in ("ー", "々"):
        return ""
    if "ァ" <= char <= "ー":
        return "katakana"
    if "一" <= char <= "鿿" or char == "々":
        return "kanji"
    return "" if "ぁ" <= char <= "ゟ" else "latin"


def _labels(question: Question, text: str, starts: dict[int, Item]) -> Iterator[Item]:
    count = len(question.choices)
    for found in _LETTER.finditer(text):
        index = letter_index(found[0])
        behind = _text_behind(text, found.end(), starts)
        own = behind is not None and index < count and _same(question, index, behind.index)
        if index < count and _is_label(text, found.start(), own_text=own):
            yield Item(found.start(), found.end(), index, by_text=False)
    if question.select > 1:
        for found in _LETTERS.finditer(text):
            indices = [letter_index(letter) for letter in found[0]]
            if len(set(indices)) == len(indices) == question.select and max(indices) < count:
                for place, index in enumerate(indices, found.start()):
                    yield Item(place, place + 1, index, by_text=False)
    # "3番" is a label only where no choice has digits of its own.
    if not any(re.search(r"\d", key(choice)) for choice in question.choices):
        for found in _ORDINAL.finditer(text):
            if (index := int(found[1] or found[2]) - 1) < count:
                yield Item(found.start(), found.end(), index, by_text=False)


def _text_behind(text: str, end: int, starts: dict[int, Item]) -> Item | None:
    """The choice text that a label ending at `end` announces."""
    behind = _BEFORE_OWN_TEXT.match(text, end)
    places = range(end, behind.end() + 1) if behind else ()
    return next((starts[place] for place in places if place in starts), None)


def _same(question: Question, one: int, other: int) -> bool:
    return key(question.choices[one]) == key(question.choices[other])


def _is_label(text: str, place: int, *, own_text: bool) -> bool:
    """Whether the lone letter at `place` may be a label, not an article, a variable or part of a word."""
    before, after = text[:place][-2:], text[place + 1 : place + 3]
    if before[-1:] in ("°", "^", "_", "\\") or re.search(r"\w[-'’.]$", before, re.ASCII):
        return False
    if _script(before[-1:]) == "latin" or _script(after[:1]) == "latin":
        return False
    if own_text:
        return True
    if re.match(r"[-'’.]\w", after, re.ASCII) or _OPERATOR.match(text, place + 1):
        return False
    if (
        text[place].isupper()
        and re.match(r"\. [a-z]", text[place + 1 :])
        and not _SENTENCE_WORD.match(text, place + 3)
    ):
        # The first letter of a name: "C. difficile".
        return False
    if (text[place] in "aAiI" and re.match(r" [A-Za-z0-9]", after)) or re.match(
        r" [a-z](?![\s,.]|$)", text[place + 1 : place + 4]
    ):
        return bool(
            _CONNECTED.match(text, place + 1) or NAMED.search(text[:place][-20:]) or _next_label(text, place)
        )
    return True


def _next_label(text: str, place: int) -> bool:
    return bool(re.match(r" [B-H](?![A-Za-z0-9'’-])", text[place + 1 : place + 4]))


def _with_text(question: Question, label: Item, text: str, starts: dict[int, Item]) -> Item:
    """The label together with the choice text behind it."""
    item = _text_behind(text, label.end, starts)
    if item is None:
        return label
    if _same(question, item.index, label.index):
        closing = (
            _CLOSING.match(text, item.end) if re.search(r"[(「『\"'\[]", text[label.end : item.start]) else None
        )
        return Item(label.start, closing.end() if closing else item.end, label.index, by_text=False)
    # "C. <text of d>" says two things; a list ("C, <text of d>") does not.
    says_two = re.fullmatch(r"\s*[.:)](?!\n)\s*", text[label.end : item.start])
    if says_two and (not item.weak or re.match(r"[.。]?\s*(?:\n|\Z)", text[item.end :])):
        return Item(label.start, item.end, label.index, by_text=False, clash=True)
    return label
