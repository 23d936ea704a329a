"""The language of a text, by its script."""

import re
from typing import Literal

Tag = Literal["ja", "en", "other"]

_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc]")
_HAN = re.compile(r"[\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[\U00020000-\U0003ffff]")
_ASCII = re.compile(r"[a-zA-Z]")
_LETTER = re.compile(r"[^\W\d_]")

_JAPANESE = 0.15
"""Share of kana and kanji among the letters from which a text is Japanese: one that names its drugs, genes and
laboratory values in Latin letters still is."""

_KANA_SHARE = 0.05
_WITHOUT_KANA = 30
"""A text of this many kanji or fewer may do without kana, as a heading does; a longer one is Chinese."""

_FOREIGN = 0.03
"""Share of letters beyond ASCII from which a text in Latin script is not English."""

_LONGEST = 20_000


def language(text: str) -> Tag:
    """Tag a text by the letters of its first 20,000 characters: "ja", "en" or "other".

    Only scripts are counted. Chinese is told from Japanese by the missing kana, other languages in Latin script
    from English by their accented letters; those that have few (Dutch, Latin) count as English.
    """
    text = text[:_LONGEST]
    kana, han, ascii_letters = (len(pattern.findall(text)) for pattern in (_KANA, _HAN, _ASCII))
    letters = max(len(_LETTER.findall(text)), 1)
    if kana + han >= _JAPANESE * letters:
        return "ja" if kana >= max(1, _KANA_SHARE * (kana + han)) or han <= _WITHOUT_KANA else "other"
    return "en" if ascii_letters and letters - ascii_letters - kana - han <= _FOREIGN * letters else "other"
