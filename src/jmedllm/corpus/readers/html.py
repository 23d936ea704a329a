"""The text of an HTML page, by selectolax (the lexbor parser).

This module walks the tree itself. trafilatura 2.3, an extractor of main text, turned 10<sup>3</sup> into 103 and kept
the navigation of short pages, and it has twelve dependencies.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from jmedllm.corpus.cleaning.markup import lowered, raised
from jmedllm.corpus.readers.decode import decode
from jmedllm.corpus.readers.file_text import FileText
from jmedllm.errors import InputError

_FURNITURE = (
    "script, style, noscript, template, svg, math annotation, iframe, object, "
    "nav, header:not(:has(h1)), footer, aside, form, button, "
    "select, input, dialog, rt, rp, [hidden], [aria-hidden=true], "
    "[role=navigation], [role=banner], [role=contentinfo], [role=search]"
)
"""Elements that are not reading text. `rt` and `rp` are furigana, which repeat the word below them."""

_INLINE = frozenset(
    ("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i",
     "ins", "kbd", "label", "mark", "q", "rb", "ruby", "s", "samp", "small", "span", "strong", "time", "tt", "u",
     "var", "wbr")
)  # fmt: skip
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
_SHIFT_JIS = frozenset(("shift_jis", "shift-jis", "x-sjis", "sjis", "windows-31j", "ms_kanji"))
_SAYS_NOTHING = frozenset(
    ("", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252", "cp1252", "utf-16",
     "utf-16le", "utf-16be", "unicode")
)  # fmt: skip
"""Encodings that servers and editors declare by default, or that no page with a declaration in ASCII can have."""

_MOST_DEPTH = 1000
_MOST_ATTRIBUTES = 1000
_FEW_TAGS = 5000
"""A page with fewer tags cannot be deep enough to take long."""

_LONG_TAG = 10_000
_LONG_TAGS = re.compile(rf"<[a-zA-Z][^<>]{{{_LONG_TAG},}}")
_QUOTED = re.compile(r"\"[^\"]*\"?|'[^']*'?")
_TAGS = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_NOT_NESTED = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "wbr",
     "p", "li", "dt", "dd", "td", "th", "tr", "tbody", "thead", "tfoot", "option", "optgroup", "colgroup", "rb", "rt",
     "rp", "html", "head", "body")
)  # fmt: skip
"""Elements without content, and those that the next of their kind ends."""

_LINKS = 4
_LINKED = 0.8
"""A block with this many links or more, and this share of its letters in links, is a menu."""


def html_text(raw: bytes) -> FileText:
    """Return the text of a page, each block on its own line, and its title.

    Page furniture, scripts, menus and furigana are left out. Exponents and indices become ³ and ₂, and tabs separate
    the cells of a table.

    Raises:
        InputError: no encoding decodes the file, or the page has no text.
    """
    text, title = readable_text(_decoded(raw))
    if not text:
        raise InputError("has no text between its tags; a page that a script fills must be saved after it has run")
    return FileText(text, title or None)


def readable_text(page: str) -> tuple[str, str]:
    """Return text and title of a page, either of which may be empty; see `html_text`.

    Raises:
        InputError: the tags are nested too deeply, or one has too many attributes.
    """
    from selectolax.lexbor import LexborHTMLParser

    _require_plain(page)
    tree = LexborHTMLParser(page)
    heading = tree.css_first("title")
    title = " ".join(heading.text().split()) if heading else ""
    for node in tree.css(_FURNITURE):
        node.decompose()
    for node in tree.css("ul, ol, table, div, p"):
        if _is_menu(node):
            node.decompose()
    root = tree.css_first("main, [role=main]") or tree.css_first("article:only-of-type") or tree.body
    try:
        text = "".join(_pieces(root)) if root else ""
    except RecursionError:
        raise InputError("nests its tags too deeply to be read; repair the page or leave it out") from None
    lines = (re.sub(r"[ \r\f\v]+", " ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), title


def _require_plain(page: str) -> None:
    """Check what makes the parser slow: its time is quadratic in the depth of tags and in the attributes of one.

    The checks are rough, and see only pages with very many tags, or with very long ones.
    """
    for match in _LONG_TAGS.finditer(page):
        if len(_QUOTED.sub("", match[0]).replace("=", " ").split()) > _MOST_ATTRIBUTES:
            raise InputError(
                f"has a tag with more than {_MOST_ATTRIBUTES:,} attributes; repair the page or leave it out"
            )
    if page.count("<") < _FEW_TAGS:
        return
    depth = 0
    for closes, name in _TAGS.findall(page):
        if name.lower() not in _NOT_NESTED:
            depth = max(0, depth - 1) if closes else depth + 1
            if depth > _MOST_DEPTH:
                raise InputError(
                    f"nests its tags more than {_MOST_DEPTH:,} levels deep; repair the page or leave it out"
                )


def _decoded(raw: bytes) -> str:
    """Decode a page: as UTF-8 if it is valid, else in the declared encoding if it decodes, else as any text."""
    declared = _CHARSET.search(raw[:4096])
    name = declared[1].decode("ascii").lower() if declared else ""
    if name not in _SAYS_NOTHING and not _is_utf_8(raw):
        with suppress(UnicodeError, LookupError):  # many pages declare a wrong or unknown encoding
            return raw.decode("cp932" if name in _SHIFT_JIS else name)
    return decode(raw)[0]


def _is_utf_8(raw: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        raw.decode()
        return True
    return False


def _is_menu(node: Any) -> bool:
    links = node.css("a[href]")
    if len(links) < _LINKS or node.css_first("h1, h2, main, article"):
        return False
    linked = sum(len("".join(link.text().split())) for link in links)
    return linked >= _LINKED * len("".join(node.text().split()))


def _pieces(node: Any) -> Iterator[str]:
    """Yield the text below a node in reading order."""
    for child in node.iter(include_text=True):
        tag = child.tag
        if tag == "-text":
            yield re.sub(r"\s+", " ", child.text(deep=False)) if node.tag != "pre" else child.text(deep=False)
        elif tag == "br":
            yield "\n"
        elif tag in ("sup", "sub"):
            yield (raised if tag == "sup" else lowered)("".join(_pieces(child)))
        elif tag in ("td", "th"):
            yield " ".join("".join(_pieces(child)).split())
            yield "\t"
        elif tag in _INLINE:
            yield from _pieces(child)
        elif tag != "-comment":
            yield "\n"
            yield from _pieces(child)
            yield "\n"
