"""The catalogue as text for the terminal."""

from collections import defaultdict
from collections.abc import Iterator
from textwrap import wrap

from jmedllm.data.catalogue import SOURCES, Source
from jmedllm.data.check import expected_counts
from jmedllm.files import hash_text

_NAME, _WIDTH = 12, 80
_KIND = 9


def listing() -> str:
    """Each source: what it is, how many items, its licence, where it comes from."""
    return "\n\n".join("\n".join(_lines(source)) for source in SOURCES.values())


def _lines(source: Source) -> Iterator[str]:
    yield from wrap(f"{source.name:<{_NAME}}{source.title}", _WIDTH, subsequent_indent=" " * _NAME)
    for kind, told in _facts(source):
        head = f"{'':<{_NAME}}{kind:<{_KIND}}"
        yield from wrap(told, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _facts(source: Source) -> Iterator[tuple[str, str]]:
    for benchmark, items in _items(source).items():
        yield "items", f"{benchmark}: {', '.join(items)}"
    known = [file.sha256 for file in source.files if file.sha256]
    checksums = f"checksum over theirs {hash_text(' '.join(known))}" if known else "not verified: no checksum is known"
    yield "files", f"{len(source.files)}, {checksums}"
    yield "licence", source.licence
    yield "from", f"{source.upstream} @ {source.revision}"
    if any(file.url is None for file in source.files):
        yield "note", "needs --mirror: no address with these very bytes is known to us"
    if source.unpinned:
        yield "note", "needs --allow-unverified"
    if source.note:
        yield "note", source.note


def _items(source: Source) -> dict[str, list[str]]:
    items = defaultdict(list)
    for benchmark, language, split, count in expected_counts(source):
        items[benchmark].append(f"{language} {split} {'not counted' if count is None else f'{count:,}'}")
    return items
