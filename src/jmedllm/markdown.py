"""Markdown lists and tables of text that nobody here wrote."""

import re
from collections.abc import Iterable, Sequence

from jmedllm.output import visible

_TAG = re.compile("<(?=[A-Za-z/!?])")
"""What begins HTML, unlike the sign in `p < 0.05`."""


def plain(text: str) -> str:
    """Return text of which no viewer makes HTML, and which stays on one line."""
    return _TAG.sub("&lt;", visible(text).replace("\n", " "))


def bullets(lines: Iterable[str]) -> str:
    """Format lines as a list."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], alignments: Sequence[str] = ()) -> str:
    """Format a Markdown table; bars and HTML inside cells are escaped.

    Args:
        head: headings.
        rows: cells of each row.
        alignments: "---" or "---:" for each column; left-aligned by default.
    """
    lines = [head, alignments or ["---"] * len(head), *rows]
    escaped = ([plain(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
