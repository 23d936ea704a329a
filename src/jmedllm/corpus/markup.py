"""What is left in texts of Markdown and HTML: anchors, links, addresses, emphasis, tags."""

import html
import re

from jmedllm.corpus.rules import Rule

_RAISED = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")


def raised(text: str) -> str:
    """Superscript signs for an exponent or a charge (10³, Ca²⁺), so that 10³ never becomes 103."""
    return text.translate(_RAISED) if all(ord(sign) in _RAISED for sign in text) else text


def lowered(text: str) -> str:
    """Subscript signs for the numbers of a formula (H₂O); words stay as they are (HbA1c)."""
    return text.translate(_LOWERED) if all(ord(sign) in _LOWERED for sign in text) else text


_VALUES = r"(?:\s+[\w:-]+=(?:\"[^\"]*\"|'[^']*'))*\s*/?"
_FILE = (
    r"[\w%./-]+\.(?:html?|xhtml|md|php|aspx?|jsp|pdf|png|jpe?g|gif|svg|webp|txt|csv|xml|docx?|xlsx?|pptx?"
    r"|com|org|net|edu|gov|jp)\b"
)
_TARGET = rf"(?:(?:[a-z]+:)?//|mailto:|\.\.?/|#|{_FILE})(?:[^()\s]|\([^()\s]*\))*(?:\s\"[^\"\n]*\")?"
"""What only an address looks like: a bracket behind a bracket may hold a unit, [Na+](mmol/L), or a value."""

_ADDRESS = r"(?:https?://|ftp://|www\.)[\w\-.~:/?#@!$&'*+,;=%]*[\w\-~/#=]"
_ENTITY = r"&(?:#\d{1,6}|#x[0-9a-fA-F]{1,5}|nbsp|amp|lt|gt|quot|mu|alpha|beta|gamma|deg|plusmn|times|le|ge);"
_LINK_ONLY = rf"^[ \t]*[-*・][ \t]*\[[^\[\]\n]+\]\({_TARGET}\)(?:[ \t]*[(（]\d+箇所[)）])?[ \t]*(?:\n|$)"


def _tag(letters: str, names: str) -> re.Pattern[str]:
    """Tags by name; one letter in brackets (group <A>) opens a tag only with attributes or where one closes it."""
    closed = rf"<([{letters}])>(?=(?:[^<]+|<(?!/?\1\b))*+</\1\s*>)"
    certain = rf"<(?:{names}){_VALUES}>|<[{letters}](?=\s+\w|/){_VALUES}>|</(?:{names}|[{letters}])\s*>"
    return re.compile(f"{closed}|{certain}", re.IGNORECASE)


MARKUP = (
    Rule("comment", re.compile(r"<!--.*?-->", re.DOTALL)),
    Rule("anchor", re.compile(rf"^<a{_VALUES}></a>[ \t]*\n", re.MULTILINE)),
    Rule("anchor", re.compile(rf"<a{_VALUES}>\s*</a>")),
    Rule("image", re.compile(rf"!\[[^\]\n]*\]\({_TARGET}\)")),
    Rule("list of links", re.compile(_LINK_ONLY, re.MULTILINE)),
    Rule("link", re.compile(rf"\[([^\[\]\n]+)\]\({_TARGET}\)"), r"\1"),
    Rule("address", re.compile(rf"[(（<＜]\s*{_ADDRESS}\s*[)）>＞]", re.ASCII)),
    Rule("address", re.compile(_ADDRESS, re.ASCII)),
    Rule("exponent", re.compile(r"<sup>([^<>\n]*)</sup>", re.IGNORECASE), lambda match: raised(match[1])),
    Rule("exponent", re.compile(r"<sub>([^<>\n]*)</sub>", re.IGNORECASE), lambda match: lowered(match[1])),
    Rule("tag", _tag("p", "br|div|li|tr|h[1-6]|hr|table|ul|ol"), "\n"),
    Rule("tag", _tag("abiu", "em|strong|span|font|small|td|th|center")),
    Rule("emphasis", re.compile(r"\*\*(?=[^\s*])([^*\n]+)(?<=\S)\*\*"), r"\1"),
    Rule("emphasis", re.compile(r"^\*(?=[^\s*])([^*\n]+)(?<=\S)\*$", re.MULTILINE), r"\1"),
    Rule("entity", re.compile(_ENTITY), lambda match: html.unescape(match[0]).replace("\xa0", " ")),
)
