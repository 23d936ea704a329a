"""Select the passages of a long reply to read: its beginning, its end, and lines between that may name an answer.

A reply of 60,000 characters is a model in a loop, or reasoning without markers. The passages keep the cost of reading
it at that of `READ_WHOLE` characters.
"""

import re

READ_WHOLE = 8_000
"""Longest reply in characters that is read whole."""
_OPENING, _ENDING = 2_500, 4_500
_KEYWORDS = ("答", "解", "結論", "nswer", "NSWER", "oxed", "Final", "Conclusion")
"""For each of these words, the last line between beginning and end that contains it is read too."""
_LINE = 200
_BORDER = re.compile(r"[。\n]|[.!?]\s")
_NEAR_BORDER = 300


def passages(text: str, room: int = 0) -> str:
    """Return `text` or, if it is long, its passages separated by empty lines.

    Args:
        room: characters for a repetition of the question, added to the length of the beginning.
    """
    if len(text) <= READ_WHOLE + room:
        return text
    opening, rest = text[: _OPENING + room], text[_OPENING + room :]
    between, ending = rest[:-_ENDING], rest[-_ENDING:]
    return "\n\n".join([_to_border(opening), *_keyword_lines(between), _from_border(ending)])


def _to_border(text: str) -> str:
    """Remove the incomplete sentence at the end of `text`, if another sentence ends near it."""
    borders = list(_BORDER.finditer(text, max(0, len(text) - _NEAR_BORDER)))
    return text[: borders[-1].end()] if borders else text


def _from_border(text: str) -> str:
    border = _BORDER.search(text, 0, _NEAR_BORDER)
    return text[border.end() :] if border else text


def _keyword_lines(text: str) -> list[str]:
    """Return the last line with each keyword, in the order of the text."""
    places = sorted({place for word in _KEYWORDS if (place := text.rfind(word)) >= 0})
    lines = []
    for place in places:
        start = text.rfind("\n", max(0, place - _LINE), place) + 1 or max(0, place - _LINE)
        end = text.find("\n", place, place + _LINE)
        # The answer may be on the next line.
        below = text.find("\n", end + 1, end + 1 + _LINE) if end >= 0 else -1
        lines.append(text[start : below if below >= 0 else place + _LINE])
    return lines
