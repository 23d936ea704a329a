"""The catalogue as text for the terminal."""

from collections import defaultdict
from collections.abc import Iterator

from jmedllm.data.catalogue import SOURCES, Source
from jmedllm.data.check import census
from jmedllm.files import hash_text

_INDENT = " " * 12


def listing() -> str:
    """Each source: what it is, how many items, its licence, where it comes from."""
    return "\n\n".join("\n".join(_lines(source)) for source in SOURCES.values())


def _lines(source: Source) -> Iterator[str]:
    yield f"{source.name:<11} {source.title}"
    for benchmark, items in _items(source).items():
        yield f"{_INDENT}items    {benchmark}: {', '.join(items)}"
    known = [file.sha256 for file in source.files if file.sha256]
    checksums = f"checksum over theirs {hash_text(' '.join(known))}" if known else "checksums are not known"
    yield f"{_INDENT}files    {len(source.files)}, {checksums}"
    yield f"{_INDENT}licence  {source.licence}"
    yield f"{_INDENT}from     {source.upstream} @ {source.revision}"
    if any(file.url is None for file in source.files):
        yield f"{_INDENT}         no address with these bytes is known: needs --mirror"
    if source.note:
        yield f"{_INDENT}note     {source.note}"


def _items(source: Source) -> dict[str, list[str]]:
    items = defaultdict(list)
    for benchmark, language, split, count in census(source):
        items[benchmark].append(f"{language} {split} {'not counted' if count is None else f'{count:,}'}")
    return items
