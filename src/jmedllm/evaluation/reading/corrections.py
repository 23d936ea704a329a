"""Read a correction: whether a text has an error, in which of its numbered sentences, and the right sentence."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CORRECT = "CORRECT"
"""What the prompt asks for if there is no error."""

_SENTENCE = re.compile(r"^\s*(\d{1,3})[.．]\s*", re.MULTILINE)

_PLAIN = re.compile(r"[`*_\"“”]|^\s*[>#-]+\s*", re.MULTILINE)
_HEAD = r"(?:(?:文番号|文|sentence|line|no|number)\s*(?:number|番号|no\.?)?\s*[:：#.]?\s*)?"
_CORRECTED = re.compile(
    rf"^\s*{_HEAD}[(（\[【]?(\d{{1,3}})[)）\]】]?\s*(?:番目?の?文|番)?\s*(?:([:：])|[.．])\s*(\S.*)$", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"\s*(?:yes|no|はい|いいえ|あり|なし)\s*(?:[,.;:、。：]|\Z)", re.IGNORECASE)
"""The reply to a numbered part of the question, such as "1: Yes, sentence 3"."""

_NONE = re.compile(
    r"\b(?:no|not any|zero|without(?: any)?)\s+(?:\w+\s+){0,2}(?:errors?|mistakes?)\b"
    r"|\b(?:is|are|appears?(?: to be)?|all)\s+(?:all\s+)?(?:medically\s+|clinically\s+)?(?:correct|error-free)\b"
    r"|(?:誤り|エラー|間違い|誤りや矛盾)(?:は|が|を)?\s*(?:[:：]\s*)?(?:ない|無い|なし|無し|ありません|ございません|存在しません"
    r"|含まれていません|含まれません|含みません|見つかりません|見当たりません|認めません|認められません|認めない|認められない)"
    r"|(?:すべて|全て|いずれも)[^。\n]{0,12}(?:正しい|適切)",
    re.IGNORECASE,
)
_WHOLE_NONE = re.compile(
    r"\s*(?:(?:the )?(?:answer|text|note|回答|答え|結果|出力|判定)\s*(?:is|は|:|：)?\s*)?(?:\d{1,2}[.:：]\s*)?"
    r"(?:correct|no errors?|none|no|正しい(?:です)?|誤りなし|エラーなし|なし|0)\s*[.。!！]?\s*",
    re.IGNORECASE,
)
_UPPER = re.compile(r"(?<![A-Za-z])CORRECT(?![A-Za-z])")
_FLAW = re.compile(
    r"\b(?:errors?|mistakes?|incorrect|wrong|inaccurate)\b|誤り|エラー|間違|誤って|不適切|\byes\b|はい", re.IGNORECASE
)
_NAMED = re.compile(
    r"(?:sentence|line)\s*(?:number|no\.?|#|id)?\s*(?:is|:|：)?\s*(\d{1,3})"
    r"|(?:文番号|文)\s*(?:は|[:：#])?\s*[(（「]?(\d{1,3})|(\d{1,3})\s*(?:番目の文|番の文|文目|番目|つ目の文)",
    re.IGNORECASE,
)
_INTO = re.compile(
    r"(?:corrected(?: sentence| version| text)?|correction|should (?:be|read)"
    r"|修正(?:文|後の文|後|された文)?|訂正(?:文|後)?|正しい文|正しくは)\s*(?:is|as|は|、)?\s*[:：]?\s*[「\"'“]?\s*(\S[^\n]*?)\s*[」\"'”]?\s*$",
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


def read_correction(reply: str, sentences: Mapping[int, str]) -> Correction:
    """Read what a reply, without its thought, says about numbered sentences.

    In this order: a JSON object; a line `CORRECT`; one line "NUMBER: SENTENCE", or among several the one that is not
    as in the text; a statement in prose.
    """
    if found := _from_json(reply, sentences):
        return found
    lines = [line for each in reply.split("\n") if (line := _PLAIN.sub("", each).strip())]
    if not lines:
        return Correction(None, how="empty")
    none = [line for line in lines if _WHOLE_NONE.fullmatch(line) or _UPPER.search(line)]
    numbered = [] if _answers_parts(lines) else [match for line in lines if (match := _CORRECTED.match(line))]
    if none and (not numbered or none[-1] == lines[-1]):
        return Correction(False, how="stated no error")
    if not numbered:
        return _from_prose("\n".join(lines), sentences)
    for matches in (numbered, [match for match in numbered if match[2]]):
        changed = _changed(matches, sentences)
        if len(changed) == 1 and (not none or numbered[-1].string == lines[-1]):
            [(number, text)] = changed.items()
            return _checked(number, text, sentences, "numbered sentence")
    return Correction(None, how="ambiguous")


def _answers_parts(lines: list[str]) -> bool:
    """Return whether the reply numbers its answers to parts of the question, such as "1: Yes, sentence 3"."""
    return any((match := _CORRECTED.match(line)) and _YES_OR_NO.match(match[3]) for line in lines)


def _changed(numbered: list[re.Match[str]], sentences: Mapping[int, str]) -> dict[int, str]:
    """Return the numbered lines; if there are several, those that differ from the sentence with their number."""
    found = {int(match[1]): match[3] for match in numbered}
    if len(found) < 2:
        return found
    return {number: text for number, text in found.items() if _key(text) != _key(sentences.get(number, ""))}


def _key(text: str) -> str:
    return re.sub(r"\W", "", text).casefold()


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
    return _checked(next(iter(named), None), into[1] if into else None, sentences, "stated error")


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
