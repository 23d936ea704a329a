"""Detects the language of a text by its script."""

import re
from typing import Literal

Tag = Literal["ja", "en", "other"]

_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc]")
_HAN = re.compile(r"[\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[\U00020000-\U0003ffff]")
_ASCII = re.compile(r"[a-zA-Z]")
_LETTER = re.compile(r"[^\W\d_]")

_JAPANESE = 0.15
"""Minimum share of kana and kanji among the letters of a Japanese text, which may name its drugs, genes and laboratory
values in Latin letters."""

_KANA_SHARE = 0.05
_WITHOUT_KANA = 30
"""A text of at most this many kanji may have no kana, as a heading does. A longer one is Chinese."""

_FOREIGN = 0.03
"""Minimum share of letters beyond ASCII in a text in Latin script that is not English."""

_LONGEST = 20_000


def language(text: str) -> Tag:
    """Tag a text by the letters of its first 20,000 characters: "ja", "en" or "other".

    Chinese is recognized by the missing kana, and other languages in Latin script by their accented letters. Languages
    that have few of these (Dutch, Latin) count as English.
    """
    text = text[:_LONGEST]
    kana, han, ascii_letters = (len(pattern.findall(text)) for pattern in (_KANA, _HAN, _ASCII))
    letters = max(len(_LETTER.findall(text)), 1)
    if kana + han >= _JAPANESE * letters:
        return "ja" if kana >= max(1, _KANA_SHARE * (kana + han)) or han <= _WITHOUT_KANA else "other"
    return "en" if ascii_letters and letters - ascii_letters - kana - han <= _FOREIGN * letters else "other"
