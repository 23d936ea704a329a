"""Find mentions of choices in a text, by label or by text, and group those that belong together."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question, letter_index
from jmedllm.evaluation.reading.markers import follows_marker
from jmedllm.evaluation.reading.patterns import IS_FALSE, IS_TRUE, NAMED, NOT_THE_ANSWER, THE_ANSWER
from jmedllm.evaluation.reading.texts import fold, key


@dataclass(frozen=True, slots=True)
class Mention:
    """One mention of one choice."""

    start: int
    end: int
    index: int
    by_text: bool
    weak: bool = False
    """A single letter or a number that is a choice's text: it may also be part of the prose."""
    clash: bool = False
    """Whether it is the label of one choice before the text of another."""


@dataclass(frozen=True, slots=True)
class MentionGroup:
    """Mentions with nothing but separators in between."""

    items: tuple[Mention, ...]
    either: bool
    """Whether they are joined by "or", so that the author has not decided."""

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
        """Whether no label is among them."""
        return all(item.by_text for item in self.items)

    @property
    def clash(self) -> bool:
        """Whether a label contradicts the text behind it."""
        return any(item.clash for item in self.items)


_LETTER = re.compile(r"(?<![A-Za-z0-9])[A-Za-z](?![A-Za-z0-9])")
_LETTERS = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]{2,4}|[a-z]{2,4})(?=$|[\s.,。、:)\]」』}]|です|である|だ)")
_ORDINAL = re.compile(
    r"(?<!\d)([1-9])番目?|(?:選択肢|\b[Oo]ption|\b[Cc]hoice)\s*\(?([1-9])(?![\d.])"
    r"|(?<=[1-9])\s?(?:,|、|・|と|および|及び|and|&)\s?([1-9])(?![\d.])(?=番|です|で|が|は|を|\W|\Z)"
)
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.,+/^-])(?<!\d )[1-9](?=番|は|が|を|と|も|です|だ|である|でしょう|ではな|か[。、]|の?み"
    r"|に[なし]"
    r"|[.)\]}」』】〕》:、,。;](?!\d)|\s*\Z|\n| (?:is|was|because|and|or|seems|fits)\b| [○×])"
)
"""A number as the label of a choice."""
_DIGIT = re.compile(r"\d")
_STEP = re.compile(r"[.)]\s?(?!\Z|\n)")
MOST = 150
"""Number of possible mentions that are examined: the first 30 and the last ones."""
_FIRST, _ANNOUNCED = 30, 4
_FARTHEST = 60
"""Most characters between two mentions of a group."""
_CONNECTED = re.compile(
    r" (?:and|or|but|is|are|was|because|since|as|for|due|rather|seems?|appears?|fits?|would|should|must"
    r"|it is|will|can|cannot|could|may|might|does|has|instead|over|not|only|here|if|would|given"
    r"|to|in|looks?|remains?|makes?|best|also)\b"
)
_SENTENCE_WORD = re.compile(
    r"(?:because|since|as|this|the|it|reason|due|for|given|and|not|but|correct|incorrect|wrong|right|true|false|yes|no|best|is)\b"
)
_BEFORE_OWN_TEXT = re.compile(r"[\s.):、,\]\-–—=\"'「『(]*の?[\s\"'「『(]*")
_LINE_GOES_ON = re.compile(r"[\"'」』)\]]*\s*(?:\Z|\n|[.:、,(。\-–—])")
_LINE_ENDS = re.compile(r"[\"'」』)\]]*\s*(?:\Z|\n|[.:(。]|-\s)")
_OPERATOR = re.compile(r"[=÷^_%°]|\*(?=\s?[A-Za-z0-9])| [=*÷+]| ?× ?[A-Za-z0-9(]")
_NEXT_LABEL = re.compile(r" (?:[B-H](?![A-Za-z0-9'’-])|[b-h](?=\Z|[\s,、。.)]))")
_ENDS_LINE = re.compile(r"[\"'」』)\]]*[.。]?\s*(?:\n|\Z)")
_NEXT_SENTENCE = re.compile(r" (?:is|are|was|were|would|can|has|have|may|does|do)\b|[はがも]")
_PLUS_LABEL = re.compile(r" ?\+ ?[A-Za-z](?![A-Za-z0-9])")
_STOP_INSIDE = re.compile(r"[。.][」』\"'”)]*(?=では|で(?:も)?な|です|が|は|を|も|[:,、]|\s*[○◯×(])")
"""The full stop of a choice's text inside a sentence that continues."""
_FUNCTION_WORDS = frozenset(
    ["yes", "no", "maybe", "none", "both", "all", "true", "false", "never", "always", "neither"]
)
_PART_BEFORE = re.compile(r"\d\s*(?:,|、|and|to|から|〜|~|-|–|or)\s*$|\d\s*,?\s*and\s*$")
"""Between the numbers of a list or a range."""
_SAYS_MORE = re.compile(r" [a-z]{2}|[がはを]")
_CLOSING = re.compile(r"[\"'」』)\]]+")
_OPENS_LABEL = re.compile(r"\s?[(\[]\s?(?:選択肢|options?|choices?)?\s?", re.IGNORECASE)
_JOIN = re.compile(
    r"[\s\"'“”‘’「」『』【】()\[\]{}.。?!]*"
    r"(?P<sign>,|、|;|/|・|\+|&|と|および|及び|ならびに|かつ|\band\b|(?P<either>\bor\b|や|もしくは|または|又は|もしくは|あるいは|か))?"
    r"[\s\"'“”‘’「」『』【】()\[\]{}]*(?P<more>(?:and|と)\b)?(?P<either2>\bor\b)?\s*(?:(?:maybe|perhaps|possibly|probably|even)\b\s*)?(?P<bullet>\n\s*(?:[-*•・●○]|\d{1,2}[.)])\s*)?"
    r"(?:選択肢|options?|choices?)?[\s(\"'「\[]*",
    re.IGNORECASE,
)


def numbers_name_choices(question: Question, numbered: bool | None) -> bool:
    """Return whether "3" names the third choice; if the prompt is unknown, only if no choice has digits."""
    return not any(_DIGIT.search(key(choice)) for choice in question.choices) if numbered is None else numbered


def mention_groups(
    question: Question, text: str, answer_as: AnswerForm, numbered: bool | None = None
) -> list[MentionGroup]:
    """Find all mentions of choices in a normalised text and group those that belong together."""
    found: list[tuple[list[Mention], bool]] = []
    for item in _items(question, text, answer_as, numbered):
        last = found[-1][0][-1] if found else None
        near = last is not None and item.start - last.end <= _FARTHEST
        joined = _JOIN.fullmatch(text, last.end, item.start) if last and near else None
        again = found != [] and any(item.index == each.index for each in found[-1][0])
        full = found != [] and len(found[-1][0]) >= question.select
        if last and joined and full and "\n" in joined[0]:
            joined = joined if _goes_on(found[-1][0][0], item, joined, text) else None
        if last and joined and _belong(last, item, joined, text, again=again):
            items, either = found[-1]
            items.append(item)
            found[-1] = items, either or bool(joined["either"] or joined["either2"])
        else:
            found.append(([item], False))
    return [MentionGroup(tuple(items), either) for items, either in found]


def _goes_on(first: Mention, right: Mention, joined: re.Match[str], text: str) -> bool:
    """Return whether the next line continues a list that already has the number of choices asked for.

    An explanation does not: "答え: b" before "a. 胃癌：誤り".
    """
    return bool(_ENDS_LINE.match(text, right.end)) and (
        joined["bullet"] is not None or not follows_marker(text, first.start)
    )


def _belong(left: Mention, right: Mention, joined: re.Match[str], text: str, *, again: bool) -> bool:
    """Return whether `right`, possibly mentioned `again`, continues the list that `left` is in."""
    if joined["sign"] or joined["more"] or joined["either2"]:
        # "Between B and C, B fits better."
        return not again or not _SAYS_MORE.match(text, right.end)
    between = text[left.end : right.start]
    if "(" in between and ")" not in between:
        return False
    if "\n" in between:
        # The lines of a list, not a sentence that starts with the next choice.
        ends = _LINE_ENDS if re.search(r"[.。]", between) else _LINE_GOES_ON
        return bool(ends.match(text, right.end))
    # Letters with spaces; a text and a letter in brackets behind it are something else.
    return not left.by_text and not right.by_text and "." not in between and "。" not in between


def _items(question: Question, text: str, answer_as: AnswerForm, numbered: bool | None) -> list[Mention]:
    texts = list(_texts(question, text))
    starts = {item.start: item for item in texts}
    labels = [_with_text(question, label, text, starts) for label in _labels(question, text, starts, numbered)]
    if answer_as == "letter":
        texts = [item for item in texts if item.end - item.start > 1 or not text[item.start].isascii()]
    else:
        exact = {item.start for item in texts if text[item.start : item.end] == key(question.choices[item.index])}
        labels = [item for item in labels if item.start not in exact or item.end - item.start > 1]
    kept: list[Mention] = []
    for item in sorted([*labels, *texts], key=lambda item: (item.start, -item.end, item.by_text)):
        if kept and _labelled_behind(kept[-1], item, text):
            same = _same(question, kept[-1].index, item.index)
            kept[-1] = Mention(kept[-1].start, item.end + 1, item.index, by_text=False, clash=not same)
        elif not kept or item.start >= kept[-1].end:
            kept.append(item)
    return kept


def _labelled_behind(item: Mention, label: Mention, text: str) -> bool:
    """Return whether a label in brackets follows a choice's text: "膵癌 (c)"."""
    if not item.by_text or label.by_text or text[label.end : label.end + 1] not in (")", "]"):
        return False
    return bool(_OPENS_LABEL.fullmatch(text, item.end, label.start))


def _texts(question: Question, text: str) -> Iterator[Mention]:
    """Yield mentions by text, the longest at each place."""
    folded = fold(text).replace("\n", " ")
    places: dict[int, list[tuple[int, int]]] = {}
    for index, choice in enumerate(question.choices):
        sought = fold(key(choice))
        for start in _places(folded, sought) if sought else ():
            end = start + len(sought)
            if _is_whole_word(text, start, end):
                if choice.rstrip().endswith(("。", ".")) and (stop := _STOP_INSIDE.match(text, end)):
                    end = stop.end()
                places.setdefault(start, []).append((end, index))
    for start in sorted(places):
        end = max(end for end, _ in places[start])
        same = [index for e, index in places[start] if e == end]
        exact = [index for index in same if key(question.choices[index]) == key(text[start:end])]
        if exact or len({key(question.choices[index]) for index in same}) == 1:
            said = text[start:end]
            weak = end - start == 1 or said.replace(".", "").isdigit() or said.lower() in _FUNCTION_WORDS
            yield Mention(start, end, (exact or same)[0], by_text=True, weak=weak)


def _places(text: str, sought: str) -> list[int]:
    found = [match.start() for match in re.finditer(re.escape(sought), text)]
    return found if len(found) <= MOST else found[:_FIRST] + found[_FIRST - MOST :]


def _is_whole_word(text: str, start: int, end: int) -> bool:
    """Return whether text[start:end] is not part of a longer word or number."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if _PART_BEFORE.search(text[max(0, start - 8) : start]) and text[start].isdigit():
        return False
    if re.match(r"-[A-Za-z]", text[end : end + 2]) or re.search(r"[A-Za-z]-$", text[max(0, start - 2) : start]):
        return False
    if text[start].isdigit() and (before in ("-", "+") or re.search(r"\d[.,]$", text[max(0, start - 2) : start])):
        return False
    if text[end - 1].isdigit() and re.match(r"[.,]\d", text[end : end + 2]):
        return False
    return not (_same_script(before, text[start]) or _same_script(text[end - 1], after))


def _same_script(left: str, right: str) -> bool:
    script = _script(left)
    return script != "" and script == _script(right)


def _script(char: str) -> str:
    """Return the script of a letter; empty for Hiragana, whose words have no visible ends."""
    if not char.isalnum() and char not in ("ー", "々"):
        return ""
    if "ァ" <= char <= "ー":
        return "katakana"
    if "一" <= char <= "鿿" or char == "々":
        return "kanji"
    return "" if "ぁ" <= char <= "ゟ" else "latin"


def _labels(question: Question, text: str, starts: dict[int, Mention], numbered: bool | None) -> Iterator[Mention]:
    count = len(question.choices)
    for found in _ends(text, _LETTER):
        index = letter_index(found[0])
        behind = _text_behind(text, found.end(), starts)
        own = behind is not None and index < count and _same(question, index, behind.index)
        if index < count and _is_label(text, found.start(), own_text=own):
            yield Mention(found.start(), found.end(), index, by_text=False)
    if question.select > 1:
        for found in _ends(text, _LETTERS):
            indices = [letter_index(letter) for letter in found[0]]
            if len(set(indices)) == len(indices) == question.select and max(indices) < count:
                for place, index in enumerate(indices, found.start()):
                    yield Mention(place, place + 1, index, by_text=False)
    if numbers_name_choices(question, numbered):
        for found in _ends(text, _ORDINAL):
            if (index := int(found[1] or found[2] or found[3]) - 1) < count:
                yield Mention(found.start(), found.end(), index, by_text=False)
    if numbered:
        for found in _ends(text, _NUMBER):
            index = int(found[0]) - 1
            behind = _text_behind(text, found.end(), starts)
            if index < count and (behind is not None or not _is_step(text, found.end())):
                yield Mention(found.start(), found.end(), index, by_text=False)


def _is_step(text: str, end: int) -> bool:
    """Return whether the number that ends at `end` numbers the steps of an argument: "1. The patient has fever."."""
    judgements = (IS_TRUE, IS_FALSE, THE_ANSWER, NOT_THE_ANSWER)
    return bool(_STEP.match(text, end)) and not any(judgement.match(text, end) for judgement in judgements)


def _ends(text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Return the first and last matches, and those between that follow a marker; more than that is repetition."""
    found = list(pattern.finditer(text))
    if len(found) <= MOST:
        return found
    last = len(found) - MOST + _FIRST
    announced = [each for each in found[_FIRST:last] if follows_marker(text, each.start())]
    return found[:_FIRST] + announced[-_ANNOUNCED:] + found[last:]


def _text_behind(text: str, end: int, starts: dict[int, Mention]) -> Mention | None:
    """Return the choice text that follows a label ending at `end`."""
    behind = _BEFORE_OWN_TEXT.match(text, end)
    places = range(end, behind.end() + 1) if behind else ()
    return next((starts[place] for place in places if place in starts), None)


def _same(question: Question, one: int, other: int) -> bool:
    return key(question.choices[one]) == key(question.choices[other])


def _is_label(text: str, place: int, *, own_text: bool) -> bool:
    """Return whether the single letter at `place` may be a label, not an article, a variable or part of a word."""
    before, after = text[max(0, place - 2) : place], text[place + 1 : place + 3]
    if before[-1:] in ("°", "^", "_", "\\") or re.search(r"\w[-'’.]$", before, re.ASCII):
        return False
    if _script(before[-1:]) == "latin" or _script(after[:1]) == "latin":
        return False
    if own_text:
        return True
    if re.match(r"[-'’.]\w", after, re.ASCII) or (
        _OPERATOR.match(text, place + 1) and not _PLUS_LABEL.match(text, place + 1)
    ):
        return False
    if (
        text[place].isupper()
        and re.match(r"\. [a-z]", text[place + 1 : place + 4])
        and not _SENTENCE_WORD.match(text, place + 3)
    ):
        # The first letter of a name: "C. difficile".
        return False
    if (text[place] in "aAiI" and re.match(r" [A-Za-z0-9]", after)) or re.match(
        r" [a-z](?![\s,.]|$)", text[place + 1 : place + 4]
    ):
        return bool(
            _CONNECTED.match(text, place + 1)
            or NAMED.search(text[max(0, place - 20) : place])
            or _next_label(text, place)
        )
    return True


def _next_label(text: str, place: int) -> bool:
    return bool(_NEXT_LABEL.match(text, place + 1))


def _with_text(question: Question, label: Mention, text: str, starts: dict[int, Mention]) -> Mention:
    """Merge a label with the choice text behind it."""
    item = _text_behind(text, label.end, starts)
    if item is None:
        return label
    if _same(question, item.index, label.index):
        closing = _CLOSING.match(text, item.end) if re.search(r"[(「『\"'\[]", text[label.end : item.start]) else None
        return Mention(label.start, closing.end() if closing else item.end, label.index, by_text=False)
    # "C. <text of d>" says two things; a list ("C, <text of d>") does not.
    says_two = re.fullmatch(r"\s*[.:)](?!\n)\s*", text[label.end : item.start])
    if says_two and _NEXT_SENTENCE.match(text, item.end):
        # "Answer: A and C. Cough is less typical."
        return label
    if says_two and (not item.weak or _ENDS_LINE.match(text, item.end)):
        return Mention(label.start, item.end, label.index, by_text=False, clash=True)
    return label
