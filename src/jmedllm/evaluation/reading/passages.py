"""What of a long reply is read: how it opens, how it ends, and the lines between that may name an answer.

A reply of 60,000 characters is a model in a loop, or reasoning without marks. Weighing every mention in it takes
longer than it is worth: whatever its shape, reading costs no more than reading `READ_WHOLE` characters.
"""

import re

READ_WHOLE = 8_000
"""Characters up to which a reply is read as it is."""
_OPENING, _ENDING = 2_500, 4_500
_TELLING = ("答", "解", "結論", "nswer", "NSWER", "oxed", "Final", "Conclusion")
"""Words of lines between opening and ending that are read too; the last line with each of them."""
_LINE = 200
_BORDER = re.compile(r"[。\n]|[.!?]\s")
_NEAR_BORDER = 300


def passages(text: str, room: int = 0) -> str:
    """`text`, or the passages of it that are read, with empty lines between them.

    Args:
        room: characters that a repeated question may take, which the opening is lengthened by.
    """
    if len(text) <= READ_WHOLE + room:
        return text
    opening, rest = text[: _OPENING + room], text[_OPENING + room :]
    between, ending = rest[:-_ENDING], rest[-_ENDING:]
    return "\n\n".join([_to_border(opening), *_telling_lines(between), _from_border(ending)])


def _to_border(text: str) -> str:
    """`text` without the sentence that the cut at its end went through, if one ends not far before."""
    borders = list(_BORDER.finditer(text, max(0, len(text) - _NEAR_BORDER)))
    return text[: borders[-1].end()] if borders else text


def _from_border(text: str) -> str:
    border = _BORDER.search(text, 0, _NEAR_BORDER)
    return text[border.end() :] if border else text


def _telling_lines(text: str) -> list[str]:
    """The last line with each telling word, in their order."""
    places = sorted({place for word in _TELLING if (place := text.rfind(word)) >= 0})
    lines = []
    for place in places:
        start = text.rfind("\n", max(0, place - _LINE), place) + 1 or max(0, place - _LINE)
        end = text.find("\n", place, place + _LINE)
        # What is announced may stand in the next line.
        below = text.find("\n", end + 1, end + 1 + _LINE) if end >= 0 else -1
        lines.append(text[start : below if below >= 0 else place + _LINE])
    return lines
