"""WordprocessingML reduced to what mammoth reads: paragraphs, runs, tables and notes."""

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

_PROPERTIES = frozenset(("pPr", "tblPr", "tblGrid", "trPr", "tcPr"))
"""Elements that are kept whole: styles, lists, merged cells, deleted rows and paragraph marks."""

_STRUCTURE = frozenset(
    ("document", "body", "p", "r", "vertAlign", "t", "tab", "br", "sym", "noBreakHyphen", "softHyphen", "tbl",
     "tr", "tc", "footnotes", "footnote", "endnotes", "endnote", "footnoteReference", "endnoteReference")
)  # fmt: skip
"""Elements that are kept, with simplified content. Other elements are replaced by their content."""

_DROPPED = frozenset(("del", "delText", "moveFrom", "instrText", "rubyPr", "rt", "sdtPr"))
"""Tracked deletions, codes of fields, and furigana, which repeat the word below them."""

_GRAPHICS = frozenset(("AlternateContent", "drawing", "pict", "object"))
_EQUATIONS = frozenset(("oMath", "oMathPara"))


def simplify(root: Element) -> Element:
    """Rewrite a part in place: drop everything but text, and turn equations, text boxes and furigana into runs."""
    stack = [root]
    while stack:  # a loop instead of recursion, because a hostile file may nest thousands of elements
        element = stack.pop()
        element[:] = [new for child in element for new in _rewritten(child)]
        stack += (child for child in element if local(child) not in _PROPERTIES)
    return root


def local(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _rewritten(element: Element) -> Iterator[Element]:
    """Yield the replacement of an element: itself, other elements, or nothing."""
    stack = [element]
    while stack:
        element = stack.pop()
        name = local(element)
        if name in _DROPPED or (name == "r" and _is_hidden(element)):
            continue
        if name == "cr":
            yield Element(_sibling(element, "br"))
        elif name == "rPr":
            yield _run_properties(element)
        elif name in _STRUCTURE or name in _PROPERTIES:
            yield element
        elif name in _GRAPHICS:
            yield from _text_boxes(element)
        elif name in _EQUATIONS:
            yield from _equation(element)
        else:
            stack += reversed(element)


def _run_properties(element: Element) -> Element:
    """Return the one property of a run that changes its meaning: 10⁹ is not 109.

    LibreOffice writes a superscript as smaller text with a position, in half points from the baseline.
    """
    found = {local(child): child for child in element}
    kept = Element(element.tag)
    if "vertAlign" in found:
        kept.append(found["vertAlign"])
    elif "position" in found and "sz" in found:
        position = found["position"]
        rise = next(iter(position.attrib.values()), "0")
        if rise not in ("0", ""):
            key = f"{position.tag.rpartition('}')[0]}}}val"
            aligned = "subscript" if rise.startswith("-") else "superscript"
            kept.append(Element(_sibling(element, "vertAlign"), {key: aligned}))
    return kept


def _is_hidden(run: Element) -> bool:
    marks = [each for child in run if local(child) == "rPr" for each in child if local(each) == "vanish"]
    return any(value not in ("0", "false", "off") for mark in marks for value in (*mark.attrib.values(), "")[:1])


def _text_boxes(element: Element) -> Iterator[Element]:
    """Yield the paragraphs of text boxes, which are read after their anchor paragraph. Pictures yield nothing.

    Word writes a text box twice: as a choice for new programs and as a fallback for old ones.
    """
    branches = [child for child in element if local(child) in ("Choice", "Fallback")] or [element]
    for branch in branches:
        boxes = [each for each in branch.iter() if local(each) == "txbxContent"]
        if boxes:
            box = Element(_sibling(boxes[0], "pict"))
            box.extend(child for each in boxes for child in each)
            yield box
            return


def _sibling(element: Element, name: str) -> str:
    return f"{element.tag.rpartition('}')[0]}}}{name}"


_Runs = Iterator[tuple[str, str | None]]
"""Text, and how it is aligned: "superscript", "subscript" or None."""


def _equation(element: Element) -> Iterator[Element]:
    """Yield an equation as runs on one line: exponents raised, fractions with a slash."""
    space = _WORD[0] if "purl.oclc.org" not in element.tag else _WORD[1]
    for text, aligned in _runs(element):
        run = Element(f"{{{space}}}r")
        if aligned:
            alignment = Element(f"{{{space}}}vertAlign", {f"{{{space}}}val": aligned})
            properties = Element(f"{{{space}}}rPr")
            properties.append(alignment)
            run.append(properties)
        content = Element(f"{{{space}}}t")
        content.text = text
        run.append(content)
        yield run


_WORD = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)


def _runs(element: Element, aligned: str | None = None) -> _Runs:
    name = local(element)
    if name == "t":
        yield element.text or "", aligned
    elif name in _BUILDS and not aligned:
        yield from _BUILDS[name](element)
    else:
        for child in element:
            yield from _runs(child, aligned)


def _part(element: Element, name: str, aligned: str | None = None) -> _Runs:
    for child in element:
        if local(child) == name:
            yield from _runs(child, aligned)


def _superscript(element: Element) -> _Runs:
    yield from _part(element, "e")
    yield from _part(element, "sup", "superscript")


def _subscript(element: Element) -> _Runs:
    yield from _part(element, "e")
    yield from _part(element, "sub", "subscript")


def _both_scripts(element: Element) -> _Runs:
    yield from _subscript(element)
    yield from _part(element, "sup", "superscript")


def _fraction(element: Element) -> _Runs:
    for name, sign in (("num", "/"), ("den", "")):
        text = "".join(text for text, _ in _part(element, name))
        yield (f"({text})" if not text.replace(".", "").isalnum() else text), None
        yield sign, None


def _delimited(element: Element) -> _Runs:
    yield "(", None
    yield from _part(element, "e")
    yield ")", None


_BUILDS: dict[str, Callable[[Element], _Runs]] = {
    "sSup": _superscript,
    "sSub": _subscript,
    "sSubSup": _both_scripts,
    "f": _fraction,
    "d": _delimited,
}
