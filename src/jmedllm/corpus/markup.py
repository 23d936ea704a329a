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
_TARGET = r"(?:[a-z]+://|mailto:|[./#]|[\w-]+/|[\w-]+\.\w{2,4}\b)(?:[^()\s]|\([^()\s]*\))*(?:\s\"[^\"\n]*\")?"
_ADDRESS = r"(?:https?://|ftp://|www\.)[\w\-.~:/?#@!$&'*+,;=%]*[\w\-~/#=]"
_ENTITY = r"&(?:#\d{1,6}|#x[0-9a-fA-F]{1,5}|nbsp|amp|lt|gt|quot|mu|alpha|beta|gamma|deg|plusmn|times|le|ge);"
_LINK_ONLY = rf"^[ \t]*[-*・][ \t]*\[[^\[\]\n]+\]\({_TARGET}\)(?:[ \t]*[(（]\d+箇所[)）])?[ \t]*(?:\n|$)"

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
    Rule("tag", re.compile(rf"</?(?:br|p|div|li|tr|h[1-6]|hr|table|ul|ol){_VALUES}>", re.IGNORECASE), "\n"),
    Rule("tag", re.compile(rf"</?(?:a|b|i|u|em|strong|span|font|small|td|th|center){_VALUES}>", re.IGNORECASE)),
    Rule("emphasis", re.compile(r"\*\*(?=[^\s*])([^*\n]+)(?<=\S)\*\*"), r"\1"),
    Rule("emphasis", re.compile(r"^\*(?=[^\s*])([^*\n]+)(?<=\S)\*$", re.MULTILINE), r"\1"),
    Rule("entity", re.compile(_ENTITY), lambda match: html.unescape(match[0]).replace("\xa0", " ")),
)
