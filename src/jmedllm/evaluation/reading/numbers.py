"""Extract the number that a response to a numeric item states."""

import re
import unicodedata

from jmedllm.evaluation.question import Question, canonical_number
from jmedllm.evaluation.reading import patterns
from jmedllm.evaluation.reading.extracted import ExtractedAnswer, no_answer

_SLOTS = "①②③④⑤⑥⑦⑧⑨"
_SLOT = re.compile(rf"[{_SLOTS}](?:[.．](?=\s))?")
_SLOT_DIGIT = re.compile(rf"([{_SLOTS}])\s*[:：=＝はが]?\s*([0-9０-９])(?![0-9０-９])")
_TEMPLATE = re.compile(rf"[0-9,，.．\s]*[{_SLOTS}][0-9,，.．\s{_SLOTS}]*")

# Digits of a formula (PaO2), an exponent (m^2) or a unit (per 100 mL, 人口1,000対) are not results.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9^_.])(?<!\d[,.])(?<![-−–])(?<![A-Za-z]-)(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\d)"
)
_NOT_THIS = re.compile(
    r"(?<![\d,.])[\d,.]++\s*+[^\s\d。、,.]{0,8}?(?:では|で|じゃ)なく(?:て)?、?"
    r"|\bnot\s+[\d,.]++\s*[^\s\d]{0,8}\s*,?\s*but\b",
    re.IGNORECASE,
)
_TIME_BEFORE = re.compile(r"(?:1日|一日|24時間|1回)(?:あたり|当たり|に|で|量は?)?\s*(?=約?\d)")
_ASIDE = re.compile(r"(?<=[\w%℃])\s*[(（][^()（）=≒≈≃→]*[)）]")
_SPACED = re.compile(r"(?<![\d,.])(\d{1,3}) (\d{3})(?= ?[A-Za-z])")
_PAIR = re.compile(r"①\s*(\d)\s*[.．]\s*②\s*(\d)(?!\d|\s*[.．]?\s*③)")
# A number at the end of a sentence, or behind a word that says what it is; no other number of the prose.
_SAID = re.compile(
    r"(?:[\d,.]*\d\s*[^\s\d。、,()]{0,8}?\s*"
    r"(?:です|である|となる|となります|になる|になります|が正し|が答え|と(?:算出|計算|求め|考え))"
    r"|(?:=|≒|≈|\bis|\bare|\bequals|\b[a-z]?[A-Z]{1,5}\d?|は)\s*(?:about |approximately |約)?"
    r"[\d,.]*\d\s*[^\s\d。、,()]{0,8})"
    r"[^\d]{0,12}$"
)
_SENTENCE_TAIL, _BEHIND, _MARKS = 80, 400, 20
"""Characters at the end of a sentence and behind a marker that may contain the number; last markers that count."""
_UNIT_BEFORE = re.compile(r"(?:/|\bper|人口|あたり|毎)\s*$")
_ROUNDING = re.compile(
    r"[(（][^()（）]*(?:小数|四捨五入|切り捨て|切り上げ|rounded|rounding|decimal|nearest)[^()（）]*[)）]|小数(?:点以下)?(?:第\s*\d+\s*位|点)"
    r"|(?<!\d)\d{1,2}\s?decimal places?"
)
_MARK = re.compile(
    r"(?:答え?|回答|解答|正解|正答|結論)\s*(?:は|として|:|=|→|\n)"
    r"|[【〔\[](?:最終)?(?:答え?|回答|解答|正解|正答|結論)[】〕\]]"
    r"|\b(?:answer|ans|result|boxed)\b(?:\s+(?:is|would be|will be|=)|\s*[:=])",
    re.IGNORECASE,
)
_THEREFORE = re.compile(
    r"(?:よって|したがって|従って|ゆえに|以上より|四捨五入すると)|\b(?:therefore|thus|hence)\b", re.IGNORECASE
)
_RESULT = re.compile(r"[=≒≈≃→]|(?<=\s)or simply(?=\s)")
_SENTENCE = re.compile(r"。|(?<=[^\d])\.(?=\s|$)|\.(?=\s+[A-Za-z])")
_SENTENCE_OR_LINE = re.compile(rf"\n|{_SENTENCE.pattern}")
_LEAD = re.compile(
    r"\A\s*(?:約|およそ|approximately|about|≒|≈|~|\+)?\s*[\d,.]+\s*[^\s\d=×÷+*/-]{0,12}(?:/\w{1,8})?\s*[.。]?\s*\Z"
)


def read_number(question: Question, text: str) -> ExtractedAnswer | None:
    """Return the number that `text` states; "ambiguous" for several numbers, None for none."""
    text = _filled(question, _PAIR.sub(r" \1.\2 ", text))
    slots = len(_SLOT.findall(text)) > 1
    text = _SLOT.sub(" ", text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}|\\[()\[\],;!]", r"\1", text)
    text = _ROUNDING.sub(
        " ", re.sub(r"\\boxed\s*\{([^{}]*)\}?", r" boxed: \1\n", text.replace("**", "").replace("$", ""))
    )
    text = _TIME_BEFORE.sub(" ", _NOT_THIS.sub(" ", patterns.CORRECTION.split(text)[-1]))
    if len(_numbers(text)) == 2:
        text = _SPACED.sub(r"\1\2", text)
    for mark, how in ((_MARK, "stated number"), (_THEREFORE, "stated number")):
        for found in list(mark.finditer(text))[: -_MARKS - 1 : -1]:
            if answer := _first(_statement(text[found.end() : found.end() + _BEHIND]), how):
                return answer
    # A number alone on a line is the answer; other lines explain it.
    plain = [_ASIDE.sub("", line) for line in text.split("\n")]
    said = [line for line in plain if len(line) <= _SENTENCE_TAIL and _LEAD.match(line)] or [
        line if slots else _RESULT.split(line)[-1]
        for line in _SENTENCE_OR_LINE.split(text)
        if _SAID.search(line.rstrip(" .。")[-_SENTENCE_TAIL:])
    ]
    return _first("\n".join(said), "number")


def _statement(behind: str) -> str:
    """Return the text behind a marker on its line, or the next line with a number; of a calculation its result."""
    line = next((line for line in behind.split("\n") if re.search(r"\d", line)), "")
    sentences = _SENTENCE.split(line)
    sentence = next((sentence for sentence in sentences if _numbers(sentence)), "")
    plain = _ASIDE.sub(" ", sentence)
    parts = [part for part in _RESULT.split(plain if _numbers(plain) else sentence) if _numbers(part)]
    return parts[-1] if parts else ""


def _first(text: str, how: str) -> ExtractedAnswer | None:
    numbers = dict.fromkeys(_numbers(text))
    if not numbers:
        return None
    return ExtractedAnswer(frozenset(), next(iter(numbers)), how) if len(numbers) == 1 else no_answer("ambiguous")


def _numbers(text: str) -> list[str]:
    found = []
    for number in _NUMBER.finditer(text):
        if not _UNIT_BEFORE.search(text, max(0, number.start() - 12), number.start()):
            plain = number[1].replace(",", "")
            found.append(canonical_number("0" + plain if plain.startswith(".") else plain))
    return found


def _filled(question: Question, text: str) -> str:
    """Replace an answer given slot by slot ("①2 ②6") by one number in the format of the question."""
    template = _TEMPLATE.findall(question.stem)
    digits = dict(_SLOT_DIGIT.findall(text))
    if not template or len(digits) < 2:
        return text
    form = template[-1]
    if set(digits) != {char for char in form if char in _SLOTS}:
        return text
    number = "".join(digits.get(char, char) for char in unicodedata.normalize("NFC", form))
    return "\n答え: " + re.sub(r"\s", "", number)
