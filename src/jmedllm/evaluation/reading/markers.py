"""Markers of an answer: "【回答】x", "〔答〕x", "答.x", "解答欄：x", "Sol: x", "[ANSWER] x".

All of them are replaced by one, so that the later steps need to know a single marker.
"""

import re

MARKER = "答え: "

_OPEN = r"[【〔《〈≪⟨<\[({「『«‹]"
_CLOSE = r"[】〕》〉≫⟩>\])}」』»›]"
_NUMBER_OF_SEVERAL = r"(?:\s?(?:その)?(?:[1-9]|一|二|三)(?!\d))?"
_JA = (
    r"(?:(?:私の|最終的?な?|正しい|本問の|問題の)?"
    r"(?:答え?|こたえ|解答|御?回答|正答|正解|アンサー|最終判断|結論)"
    r"(?:の?(?:選択肢|番号|記号|組み?合わ?せ)|肢|欄|者)?"
    r"|(?:最も|もっとも)?(?:選んだ|選択した|正しい|適切な|適当な|妥当な|考えられる|該当する|マークすべき)"
    r"(?:選択肢|番号|記号|もの|答え)は?|最終診断|答案是?|정답)"
)
_EN = (
    r"(?:(?:so|thus|hence|therefore|the|my|your|our)[ ,]+)*"
    r"(?:(?:final|correct|right|best|most likely|most appropriate|selected|chosen|predicted|suggested"
    r"|single)[ _-])*"
    r"(?:answer|ans|solution|sol|soln|response|reply|choice|option|pick|verdict|selection|prediction|conclusion"
    r"|result|output|diagnosis|assistant|correct|final|letter|réponse|respuesta|antwort)"
    r"(?:[ _-](?:choice|option|letter|key|index))?"
)
_EN_NUMBERED = r"(?:answer|ans|solution|sol)[ #]{1,2}[1-9](?!\d)"
_NOUN = rf"(?:{_JA}{_NUMBER_OF_SEVERAL}|{_EN_NUMBERED}|{_EN})"
# "解" is part of other words ("解説", "溶解") and "Final" of sentences: they need a colon.
# "結果" and "判定" may be those of anything: only a label may follow.
_SHORT = r"(?:(?:解|診断|最終)(?=\s?[:=])|(?:結果|判定)(?=\s?[:=]\s?\W?[A-Za-z0-9]\W{0,3}(?:\n|\Z)))"
_BEFORE = r"(?:^[\s>*•・●○#\-→|]*+(?:\d{1,2}[.)]\s)?|(?<=[。、])\s?|(?<=[.!?;] ))"
# A space alone is enough in front of a label that ends the line.
_SIGN = (
    r"(?: (?=\W?(?:[A-Za-z]|\d)(?:\W?\s?(?:\n|\Z)|[.):]))"
    r"|\s?(?::|=|→|⇒|=>|->|[.](?=\s?\(?[A-Za-z0-9](?![A-Za-z0-9]))|[-–—](?=\s?\W?[A-Za-z0-9](?![A-Za-z0-9])))\s?)"
)
_ASKED = re.compile(r"^Q\s?[:.][^\n]*\nA\s?[:.]\s*", re.IGNORECASE | re.MULTILINE)
_MARKED = re.compile(
    rf"{_BEFORE}(?:"
    rf"{_OPEN}{{1,2}}\s?(?:{_NOUN}|解|診断)\s?:?{_CLOSE}{{1,2}}(?:{_SIGN})?"
    rf"|(?:{_NOUN}|{_SHORT}){_SIGN}|(?:答|ans|soln?)\.\s?"
    rf")\s*",
    re.IGNORECASE | re.MULTILINE,
)

ANNOUNCES = re.compile(
    rf"{re.escape(MARKER.strip())}\s*|(?:\A|(?<=[\s、。,.#*>【(]))(?:最終)?(?:答え?|回答|解答|正解|正答)(?:番号)?(?:は、?|\n)\s*"
    # No other word may precede these: "wrong answer", "second choice".
    r"|(?:\A|(?<=[\n、。,.#*>【(])|(?<=[,.:] )|\b(?:so|therefore|thus) )(?:(?:the|my) )?"
    r"(?:(?:final|correct|best|right|most appropriate) )*(?:answer|option|choice|ans)(?: choice)?(?:s|\(s\))?"
    r"(?: (?:is|are)(?: option| choice)?\b|\s*[:=-]|\n)[\s:]*"
    r"|boxed:\s*",
    re.IGNORECASE,
)
"""Text before an answer that ends the reply: a marker, or the beginning of its sentence."""


_AFTER_MARKER = re.compile(re.escape(MARKER.strip()) + r"[\s\"'(「【\[*]*\Z")


def follows_marker(text: str, place: int) -> bool:
    """Return whether a marker is directly before `place`."""
    return _AFTER_MARKER.search(text, max(0, place - 12), place) is not None


def with_one_marker(text: str) -> str:
    """Replace each marker in a normalised text by `MARKER` at the beginning of a line."""
    return _MARKED.sub("\n" + MARKER, _ASKED.sub("\n" + MARKER, text)).lstrip("\n")
