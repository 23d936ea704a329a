"""Joins the lines of text that is laid out in pages, and removes page numbers and running heads."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

from jmedllm.corpus.cleaning.rules import Removed

_EDGE = 3
"""Lines at the top and at the bottom of a page that may be page numbers or running heads."""

_OFTEN = 3
"""Minimum number of pages that a running head is on, ignoring its digits; in shorter documents all pages."""

_LONGEST_HEAD = 120
_PAGE_NUMBER = re.compile(
    r"[-–—‐・\s(（\[]*(?:p(?:age|\.)?\s*)?(?:\d{1,4}|[ivxlc]{1,7})(?:\s*(?:/|of)\s*\d{1,4})?\s*(?:頁|ページ)?[-–—‐・\s)）\]]*",
    re.IGNORECASE,
)
_OPENS_ITEM = re.compile(
    r"\s{2,}|[•・●○■◆◇□※▶→]|[-–*]\s|[(（]?[0-9]{1,3}[.)．）](?![0-9])|[①-⑳]|[【〔■]|第[0-9一二三四五六七八九十百]+[章節条編]"
)
_WIDE = re.compile(r"[\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]")
_HYPHENATED = re.compile(r"([0-9A-Za-zα-ωΑ-Ω]+)[-‐]$")
_SPACED_OUT = re.compile(r"(?<![^\s])(?:[\u3041-\u30ff\u4e00-\u9fff] ){3,}[\u3041-\u30ff\u4e00-\u9fff](?![^\s])")
_SLACK = 4
"""Columns by which lines of one paragraph may differ: Japanese lines must not start with 。 or end with 「."""

_NARROWEST = 20
"""Minimum width of text whose lines are joined; narrower text is a list or a table."""


def reflow(text: str, removed: list[Removed]) -> str:
    """Join pages that "\\f" divides: remove page numbers and running heads, and join lines to paragraphs.

    Everything that is removed is appended to `removed`.
    """
    pages = [page.strip("\n").split("\n") for page in text.split("\f")]
    pages = [page for page in pages if any(line.strip() for line in page)]
    heads = _heads(pages)
    lines = [line.rstrip() for page in pages for line in _body(page, heads, removed)]
    joined = "\n".join(_paragraphs(lines))
    return _SPACED_OUT.sub(lambda run: run[0].replace(" ", ""), joined)


def _key(line: str) -> str:
    return re.sub(r"\d+", "0", re.sub(r"\s", "", line))


def _heads(pages: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return the keys of lines that recur at the edges of pages."""
    counted = Counter(
        key
        for page in pages
        for key in {_key(line) for line in chain(page[:_EDGE], page[-_EDGE:]) if len(line) <= _LONGEST_HEAD}
        if key
    )
    needed = min(_OFTEN, len(pages)) if len(pages) > 1 else _OFTEN
    return frozenset(key for key, count in counted.items() if count >= needed)


def _body(page: Sequence[str], heads: frozenset[str], removed: list[Removed]) -> Sequence[str]:
    """Return the lines between the page furniture at the top and at the bottom."""
    first, last = 0, len(page)
    while first < min(_EDGE, last) and _is_furniture(page[first], heads, removed):
        first += 1
    while last > max(first, len(page) - _EDGE) and _is_furniture(page[last - 1], heads, removed):
        last -= 1
    return page[first:last]


def _is_furniture(line: str, heads: frozenset[str], removed: list[Removed]) -> bool:
    if not line.strip():
        return True
    rule = "page number" if _PAGE_NUMBER.fullmatch(line) else "running head" if _key(line) in heads else None
    if rule:
        removed.append(Removed(rule, line))
    return rule is not None


def _paragraphs(lines: Sequence[str]) -> Iterator[str]:
    widths = sorted(width for line in lines if (width := _width(line)))
    measure = widths[int(0.9 * len(widths))] if widths else 0
    words = Counter(re.findall(r"[A-Za-z]+(?:-[A-Za-z]+)+", "\n".join(lines)))
    paragraph = ""
    for line, following in pairwise([*lines, ""]):
        paragraph += line.lstrip() if paragraph else line
        if _continues(line, following, measure):
            paragraph = _open_end(paragraph, following, words)
        else:
            yield paragraph
            paragraph = ""


def _continues(line: str, following: str, measure: int) -> bool:
    """Return whether the paragraph continues on the next line, whose first word would not have fitted on this one."""
    if not line or not following or measure < _NARROWEST or _OPENS_ITEM.match(following):
        return False
    if (broken := _HYPHENATED.search(line)) and broken[1].isalpha() and following[0].isalpha():
        return True
    first = following[:1] if _WIDE.match(following) else following.split(maxsplit=1)[0]
    return _width(line) + 1 + _width(first) > measure - _SLACK


def _open_end(paragraph: str, following: str, words: Counter[str]) -> str:
    """Return the paragraph, ready for the next line to be appended."""
    if broken := _HYPHENATED.search(paragraph):
        rest = re.match(r"[a-z][A-Za-z]*", following.lstrip())
        # Only words are broken, not IL-6, T-cell or β-lactam. A word that the document also hyphenates elsewhere keeps
        # its hyphen: well-known, but microbiology.
        is_word = broken[1].isascii() and broken[1].isalpha() and not broken[1].isupper()
        keeps = not (rest and is_word) or f"{broken[1]}-{rest[0]}" in words
        return paragraph[:-1] + "-" * keeps
    apart = not _WIDE.match(paragraph[-1]) and not _WIDE.match(following.lstrip())
    return paragraph + " " * apart


def _width(line: str) -> int:
    """Return the width of a line in columns. Japanese characters take two."""
    return len(line) + len(_WIDE.findall(line))
