"""Read a correction: whether a text has an error, in which of its numbered sentences, and the right sentence."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jmedllm.evaluation.reading.structured import as_markers

CORRECT = "CORRECT"
"""What the prompt asks for if there is no error."""

_SENTENCE = re.compile(r"^\s*(\d{1,3})[.．]\s*", re.MULTILINE)

_PLAIN = re.compile(r"[`*_\"“”]|^\s*[>#-]+\s*")
_LEAD = re.compile(
    r"^\s*(?:(?:the\s+|my\s+)?(?:final\s+)?(?:answer|output|result|boxed)\s*(?:is\s*:?|:)|【[^】]{1,6}】|(?:最終)?"
    r"(?:回答|解答|答え|出力|結果|結論|判定)\s*[:は])\s*",
    re.IGNORECASE,
)
"""What announces an answer at the beginning of a line."""

_HEAD = r"(?:(?:error\s+in\s+)?(?:文番号|文|sentence|line|no|number)\s*(?:number|番号|no\.?)?\s*[:#.]?\s*)?"
_NUMBERED = re.compile(
    rf"^\s*{_HEAD}[(\[]?(\d{{1,3}})\s*(?:番目?の?文|番)?\s*(?:[)\]]?\s*(:)|[)\].、]|\s[-–])\s*(\S.*)$", re.IGNORECASE
)
_NUMBER = re.compile(rf"\s*{_HEAD}[(\[]?(\d{{1,3}})[)\]]?\s*(?:番目?の?文|番)?\s*[.。]?\s*", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\s*(?:yes|no|はい|いいえ|あり|なし)\s*(?:[,.;:、。]|\Z)", re.IGNORECASE)
"""The reply to a numbered part of the question, such as "1: Yes, sentence 3"."""

_IS_WRONG = re.compile(
    r"\s*(?:incorrect|wrong|error|inaccurate|誤り|誤|不適切|間違い|エラー)\s*[.。]?\s*", re.IGNORECASE
)
_NONE = re.compile(
    r"\b(?:no|not any|zero|without(?: any)?)\s+(?:\w+\s+){0,2}(?:errors?|mistakes?)\b"
    r"|\bnone of (?:the|these) sentences\b[^.\n]*"
    r"|\berrors?\s*(?:found|flag)?\s*[:=]\s*(?:no|none|false|0)\b"
    r"|\b(?:is|are|appears?(?: to be)?|all)\s+(?:all\s+)?(?:\w+ly\s+)?(?:correct|accurate|error-free)\b"
    r"|(?:誤り|エラー|間違い|誤りや矛盾|問題)(?:点)?(?:は|が|を)?\s*(?::\s*)?(?:ない|無い|なし|無し|ありません|ございません"
    r"|存在しません|含まれていません|含まれません|含みません|見つかりません|見当たりません|認めません|認められません|認めない"
    r"|認められない)|(?:すべて|全て|いずれも)[^。\n]{0,12}(?:正しい|適切)|(?:正確|妥当|適切)(?:です|である)",
    re.IGNORECASE,
)
_WHOLE_NONE = re.compile(
    r"\s*(?:(?:the )?(?:text|note)\s*(?:is|は|:)?\s*)?(?:\d{1,2}[.:]\s*)?"
    r"(?:correct|no errors?|none|no|正しい(?:です)?|誤りなし|エラーなし|なし|0)\s*[.。!]?\s*",
    re.IGNORECASE,
)
_UPPER = re.compile(r"(?<![A-Za-z])CORRECT(?![A-Za-z])")
_FLAW = re.compile(
    r"\b(?:errors?|mistakes?|incorrect|wrong|inaccurate|should (?:be|read)|correct(?:ed)? version)\b"
    r"|誤り|エラー|間違|誤って|不適切(?!な点)|\byes\b|はい",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"\b(?:sentence|line|number)\s*(?:number|no\.?|#|id)?\s*(?:is|:)?\s*(\d{1,3})\b"
    r"|(?:文番号|文)\s*(?:は|[:#])?\s*[(「]?(\d{1,3})|(\d{1,3})\s*(?:番目の文|番の文|文目|番目|つ目の文)",
    re.IGNORECASE,
)
_INTO = re.compile(
    r"「([^」\n]+)」\s*(?:に|へ|と)\s*(?:修正|訂正|直|変更)"
    r"|(?:correct(?:ed)?(?: sentence| version| text)(?: of (?:the )?sentence(?: \d{1,3})?)?|corrected|correction"
    r"|should (?:be|read)"
    r"|修正(?:文|後の文|後|された文)?|訂正(?:文|後)?|正しい文|正しくは)\s*(?:is|as|は|、)?\s*:?\s*"
    r"[「'‘]?\s*(\S[^\n]*?)\s*[」'’]?\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_KEYS = {
    "error": re.compile(r"(?:has_|contains_|is_)?errors?(?:_flag|_found|_exists|_present|_detected)?|誤り|エラー"),
    "sentence": re.compile(r"(?:error_)?(?:sentence|line)(?:_?(?:id|no|number|index))?|(?:文|行)?番号|誤りの文|文"),
    "corrected": re.compile(
        r"(?:corrected|correct|fixed)(?:_?(?:sentence|text|version))?|correction|(?:修正|訂正)(?:後の?)?文?|正しい文"
    ),
}
_NO = ("no", "false", "none", "correct", "0", "なし", "無", "無し", "いいえ")


@dataclass(frozen=True, slots=True)
class Correction:
    """What a reply says about a text.

    Attributes:
        error: whether the text has an error; None if the reply does not say so.
        sentence: number of the wrong sentence; None if none is named, or the text has no such sentence.
        corrected: the right sentence; None if none is given.
        how: how it was read, or why there is no answer.
    """

    error: bool | None
    sentence: int | None = None
    corrected: str | None = None
    how: str = ""


def numbered_sentences(text: str) -> dict[int, str]:
    """Return the sentences of a text by number; empty unless they are numbered 1, 2, 3, ... at the beginning of lines.

    A sentence may have more lines.
    """
    found: dict[int, str] = {}
    starts: list[re.Match[str]] = []
    for match in _SENTENCE.finditer(text):
        if int(match[1]) == len(starts) + 1:
            starts.append(match)
    if not starts or text[: starts[0].start()].strip():
        return {}
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends, strict=True):
        found[int(match[1])] = " ".join(text[match.end() : end].split())
    return found


def read_correction(reply: str, sentences: Mapping[int, str], *, truncated: bool = False) -> Correction:
    """Read what a reply, without its thought, says about numbered sentences.

    In this order: a JSON object; a number alone in the last line; a line `CORRECT`; one line "NUMBER: SENTENCE", or
    among several the one that is not as in the text; a statement in prose.

    Args:
        reply: the reply.
        sentences: the sentences of the text, by number.
        truncated: whether the reply was cut off, so that its last line may be the beginning of a copy.
    """
    if found := _from_json(reply, sentences):
        return found
    plain = unicodedata.normalize("NFKC", as_markers(reply))
    lines = [line for each in plain.split("\n") if (line := _LEAD.sub("", _PLAIN.sub("", each)).strip())]
    if not lines:
        return Correction(None, how="empty")
    if number := _NUMBER.fullmatch(lines[-1]):
        return _of_number(int(number[1]), sentences)
    numbered = [] if _answers_parts(lines) else [match for line in lines if (match := _NUMBERED.match(line))]
    each_right = {match.string for match in numbered if _is_none(match[3])}
    if len(numbered) > 1:  # a list of all sentences with what is right or wrong about each
        numbered = [match for match in numbered if match.string not in each_right]
    none = [line for line in lines if _is_none(line) and (line not in each_right or not numbered)]
    if truncated and numbered and numbered[-1].string == lines[-1] and (len(numbered) > 1 or not numbered[-1][2]):
        return Correction(None, how="truncated")
    if none and (not numbered or none[-1] == lines[-1]):
        return Correction(False, how="stated no error")
    if not numbered:
        return _from_prose("\n".join(lines), sentences)
    for matches in (numbered, [match for match in numbered if match[2]]):
        changed = _changed(matches, sentences)
        if len(changed) == 1 and (not none or numbered[-1].string == lines[-1]):
            [(number_of, text)] = changed.items()
            corrected = None if _IS_WRONG.fullmatch(text) else text
            return _checked(number_of, corrected, sentences, "numbered sentence")
    return Correction(None, how="ambiguous")


def _is_none(text: str) -> bool:
    """Return whether a line says nothing but that there is no error, or has the word that the prompt asks for."""
    return bool(_WHOLE_NONE.fullmatch(text) or _UPPER.search(text))


def _of_number(number: int, sentences: Mapping[int, str]) -> Correction:
    """Read a reply that ends with a number alone; 0 means no sentence."""
    return _checked(number, None, sentences, "number") if number else Correction(False, how="stated no error")


def _answers_parts(lines: list[str]) -> bool:
    """Return whether the reply numbers its answers to parts of the question, such as "1: Yes, sentence 3"."""
    return any((match := _NUMBERED.match(line)) and _YES_OR_NO.match(match[3]) for line in lines)


def _changed(numbered: list[re.Match[str]], sentences: Mapping[int, str]) -> dict[int, str]:
    """Return the numbered lines that differ from the sentence with their number; or the only one, if it has a
    colon."""
    found = {int(match[1]): match[3] for match in numbered}
    if len(found) == 1 and any(match[2] for match in numbered):
        return found
    return {number: text for number, text in found.items() if _key(text) != _key(sentences.get(number, ""))}


def _key(text: str) -> str:
    return re.sub(r"\W", "", unicodedata.normalize("NFKC", text)).casefold()


def _checked(number: int | None, text: str | None, sentences: Mapping[int, str], how: str) -> Correction:
    return Correction(True, number if number in sentences else None, text, how)


def _from_prose(text: str, sentences: Mapping[int, str]) -> Correction:
    without = _NONE.sub(" ", text)
    flaw, none = bool(_FLAW.search(without)), without != text
    named = {int(next(filter(None, match.groups()))) for match in _NAMED.finditer(without)}
    if none and not (flaw and named):
        return Correction(False, how="stated no error")
    if not flaw or len(named) > 1:
        return Correction(None, how="ambiguous" if named and flaw else "no decision")
    into = _INTO.search(without)
    return _checked(next(iter(named), None), (into[1] or into[2]) if into else None, sentences, "stated error")


def _from_json(reply: str, sentences: Mapping[int, str]) -> Correction | None:
    """Read the last JSON object of a reply; None without one that says whether there is an error."""
    for match in reversed(list(re.finditer(r"\{[^{}]*\}", reply))):
        try:
            values = json.loads(match[0])
        except ValueError:
            continue
        fields = {name: _field(values, pattern) for name, pattern in _KEYS.items()}
        error, number = fields["error"], _whole(fields["sentence"])
        if error is None and number is None:
            continue
        if error is not None and str(error).strip().lower() in _NO:
            return Correction(False, how="json object")
        if error is None and number == 0:
            return Correction(False, how="json object")
        corrected = fields["corrected"]
        text = corrected if isinstance(corrected, str) and corrected.strip() else None
        return _checked(number, text, sentences, "json object")
    return None


def _field(values: Mapping[str, Any], pattern: re.Pattern[str]) -> Any:
    return next((value for key, value in values.items() if pattern.fullmatch(key.strip().lower())), None)


def _whole(value: Any) -> int | None:
    match = re.search(r"\d{1,3}", str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    return int(match[0]) if match else None
