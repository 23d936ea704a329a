"""Round-trip check of tokenizers: decoding must return the encoded text, and the ids must match tokenizer.json."""

import difflib
import re
import unicodedata
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.progress import notice

TEXTS = (
    "Vitamin C deficiency causes 壊血病です。",
    "A 54-year-old woman has had thirst and polyuria for 2 months; her HbA1c is 7.9 %.",
    "68歳の男性。体温38.6℃、脈拍104/分、SpO2 93 %（室内気）。",
    "選択肢:\na. 壊血病\nb. 脚気\n\n答え: a",
    "鬱血性心不全、蕁麻疹、髙﨑氏と𠮷田氏。",
    "お大事に💊🙏",
)
"""Text that must come back unchanged: spaces, digits, line ends, rare kanji, emoji, both languages together."""

FOLDED = ("白血球９×10⁹/L、ﾋﾞﾀﾐﾝC５㎎①", "two  spaces\tand a tab", "か\u3099ん")
"""Text that a published normalization may change: widths, runs of spaces, combining marks."""

_EXAMPLE, _NAMED = 60, 20
"""Most characters of a text, and of lost characters, in a message."""


def require_round_trip(tokenizer: Tokenizer, name: str) -> None:
    """Check that decoding returns the encoded text; takes a fraction of a millisecond per text.

    Another form of the same characters (NFKC, case, runs of spaces) is accepted, with a notice on standard error.
    NFC, and the space that SentencePiece puts before a text, are accepted silently.

    Args:
        tokenizer: the tokenizer to check.
        name: its name, for messages.

    Raises:
        InputError: spaces, line ends or characters are lost or added; the message names them and shows a text.
    """
    other_forms: dict[str, str] = {}
    for text in (*TEXTS, *FOLDED):
        back = _there_and_back(tokenizer, text)
        if unicodedata.normalize("NFC", back) == unicodedata.normalize("NFC", text):
            continue
        other_forms[text] = f"{_shown(text)} comes back as {_shown(back)}"
        if _same_but_for_form(back) != _same_but_for_form(text):
            raise InputError(
                f"{name}: {_difference(text, back)}: {other_forms[text]}; copy the tokenizer files as published "
                "(some versions of transformers save them broken), or choose a base whose tokenizer keeps them"
            )
    if other_forms:
        shown = next(other_forms[text] for text in (*FOLDED, *TEXTS) if text in other_forms)
        notice(f"{name}: writes some characters in another form: {shown}")


def encodes_otherwise(tokenizer: Tokenizer, file: Path) -> bool:
    """Return whether a tokenizer's ids differ from those of the tokenizer.json that it was loaded from.

    Decoding does not show this: a class that splits numbers or words by another rule still returns the text.
    """
    from tokenizers import Tokenizer as Plain

    plain = Plain.from_file(str(file))
    plain.no_truncation()
    plain.no_padding()
    texts = [unicodedata.normalize("NFC", text) for text in (*TEXTS, *FOLDED)]  # some classes add NFC: harmless
    expected = [each.ids for each in plain.encode_batch(texts, add_special_tokens=False)]
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return found != expected


def _there_and_back(tokenizer: Tokenizer, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    back = str(tokenizer.decode(ids))
    return back.removeprefix(" ")  # no text here begins with one


def _same_but_for_form(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r"[^\S\n]+", " ", folded)


def _difference(text: str, back: str) -> str:
    before, after = _same_but_for_form(text), _same_but_for_form(back)
    pieces = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    lost = "".join(before[start:end] for tag, start, end, _, _ in pieces if tag in ("delete", "replace"))
    kinds = []
    if characters := "".join(dict.fromkeys(re.sub(r"\s", "", lost))):
        kinds.append(f"the characters {characters[:_NAMED]}")
    if "\n" in lost:
        kinds.append("line ends")
    if " " in lost:
        kinds.append("spaces")
    return f"loses {' and '.join(kinds)}" if kinds else "adds text"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}…")
