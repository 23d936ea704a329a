"""Rules for markup in text: anchors, links, addresses, emphasis, tags of Markdown and HTML."""

import html
import re
from html.entities import html5

from jmedllm.corpus.cleaning.rules import CleaningRule

_RAISED = str.maketrans("0123456789+-–−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-–−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎")
_NUMBER = re.compile(r"[0-9)\]）］]")
_BASE = re.compile(r"[0-9A-Za-zα-ωΑ-Ω)\]）］]")
_NO_EXPONENT = re.compile(r"st|nd|rd|th|o|tm|[^0-9A-Za-zα-ωΑ-Ω]*", re.IGNORECASE)
_NOTES = re.compile(r"[*†‡§¶#]?[(（\[]?\d[\d,，、\s–-]*[)）\]]?")
_ONE_TERM = re.compile(r"[-–−+]?(?:\d+(?:\.\d+)?|[A-Za-zα-ωΑ-Ω])")


def raised(text: str) -> str:
    """Superscript signs for an exponent or a charge (10³, Ca²⁺), so that 10³ never becomes 103.

    Text that has no such signs keeps its tags, and the rule below, which sees the text before it, writes 10^6.5.
    """
    return _in_signs(text, _RAISED) or f"<sup>{html.escape(text, quote=False)}</sup>"


def lowered(text: str) -> str:
    """Subscript signs for the numbers of a formula (H₂O); words are not changed (HbA1c)."""
    return _in_signs(text, _LOWERED) or text


def _in_signs(text: str, signs: dict[int, int]) -> str:
    """Return the text in these signs; empty if one is missing."""
    inner, space = _apart(text)
    return inner.translate(signs) + space if all(ord(sign) in signs for sign in inner) else ""


def _apart(text: str) -> tuple[str, str]:
    """Return the text on one line, and the space after it."""
    return " ".join(text.split()), text[len(text.rstrip()) :]


def _exponent(match: re.Match[str]) -> str:
    text = html.unescape(match[1])
    if signs := _in_signs(text, _RAISED):
        return signs
    start, end = match.span()
    before, after = match.string[max(start - 1, 0) : start], match.string[end : end + 1]
    inner, space = _apart(text)
    if inner in ("o", "O") and after in ("C", "F"):
        return "°"
    if _NOTES.fullmatch(inner) and not _NUMBER.match(before):
        return text.translate(_RAISED)  # commas have no raised form; the digits must not join a word or a unit
    if not _BASE.match(before) or _NO_EXPONENT.fullmatch(inner):
        return text
    alone = space or not (after.isascii() and after.isalnum())
    return f"^{inner}{space}" if alone and _ONE_TERM.fullmatch(inner) else f"^({inner}){space}"


def _entity(match: re.Match[str]) -> str:
    return html.unescape(match[0]) if match[0][1] == "#" or match[0][1:] in html5 else match[0]


_VALUES = r"(?:\s+[\w:-]+=(?:\"[^\"]*\"|'[^']*'))*\s*/?"
_FILE = (
    r"[\w%./-]+\.(?:html?|xhtml|md|php|aspx?|jsp|pdf|png|jpe?g|gif|svg|webp|txt|csv|xml|docx?|xlsx?|pptx?"
    r"|com|org|net|edu|gov|jp)\b"
)
_TARGET = rf"(?:(?:[a-z]+:)?//|mailto:|\.\.?/|#|{_FILE})(?:[^()\s]|\([^()\s]*\))*(?:\s\"[^\"\n]*\")?"
"""Text that can only be an address: brackets after brackets may contain a unit, [Na+](mmol/L), or a value."""

_ADDRESS = r"(?:https?://|ftp://|www\.)[\w\-.~:/?#@!$&'*+,;=%]*[\w\-~/#=]"
_ENTITY = r"&(?:#\d{1,6}|#x[0-9a-fA-F]{1,5}|[a-zA-Z]\w{1,31});"
_LINK_ONLY = rf"^[ \t]*[-*・][ \t]*\[[^\[\]\n]+\]\({_TARGET}\)(?:[ \t]*[(（]\d+箇所[)）])?[ \t]*(?:\n|$)"


def _tag(letters: str, names: str) -> re.Pattern[str]:
    """Return tags by name. One letter in brackets (group <A>) is a tag only with attributes or a closing tag."""
    closed = rf"<([{letters}])>(?=(?:[^<]+|<(?!/?\1\b))*+</\1\s*>)"
    certain = rf"<(?:{names}){_VALUES}>|<[{letters}](?=\s+\w|/){_VALUES}>|</(?:{names}|[{letters}])\s*>"
    return re.compile(f"{closed}|{certain}", re.IGNORECASE)


MARKUP = (
    CleaningRule("comment", re.compile(r"<!--.*?-->", re.DOTALL)),
    CleaningRule("anchor", re.compile(rf"^<a{_VALUES}></a>[ \t]*\n", re.MULTILINE)),
    CleaningRule("anchor", re.compile(rf"<a{_VALUES}>\s*</a>")),
    CleaningRule("image", re.compile(rf"!\[[^\]\n]*\]\({_TARGET}\)")),
    CleaningRule("list of links", re.compile(_LINK_ONLY, re.MULTILINE)),
    CleaningRule("link", re.compile(rf"\[([^\[\]\n]+)\]\({_TARGET}\)"), r"\1"),
    CleaningRule("address", re.compile(rf"[(（<＜]\s*{_ADDRESS}\s*[)）>＞]", re.ASCII)),
    CleaningRule("address", re.compile(_ADDRESS, re.ASCII)),
    CleaningRule("exponent", re.compile(r"<sup>([^<>]*)</sup>", re.IGNORECASE), _exponent),
    CleaningRule(
        "exponent",
        re.compile(r"<sub>([^<>]*)</sub>", re.IGNORECASE),
        lambda index: lowered(html.unescape(index[1])),
    ),
    CleaningRule("tag", _tag("p", "br|div|li|tr|h[1-6]|hr|table|ul|ol"), "\n"),
    CleaningRule("tag", _tag("abiu", "em|strong|span|font|small|td|th|center")),
    CleaningRule("emphasis", re.compile(r"\*\*(?=[^\s*])([^*\n]+)(?<=\S)\*\*"), r"\1"),
    CleaningRule("emphasis", re.compile(r"^([ \t]*)\*(?=[^\s*])([^*\n]+)(?<=\S)\*(?=[ \t]*$)", re.MULTILINE), r"\1\2"),
    CleaningRule("entity", re.compile(_ENTITY), _entity),
)
