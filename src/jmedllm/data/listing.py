"""List the catalogue and its files on disk, as text for the terminal and as JSON."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from jmedllm.data.catalogue import Source
from jmedllm.data.check import expected_counts
from jmedllm.data.installed import is_installed
from jmedllm.data.on_disk import OnDisk, State
from jmedllm.evaluation.benchmarks import Benchmark
from jmedllm.files import hash_text

_NAME, _FACT = 12, 9


def as_text(found: Sequence[OnDisk], width: int) -> str:
    """List each source: its state on disk, benchmarks, licence and origin, in lines of at most `width` characters."""
    return "\n\n".join("\n".join(_lines(each, width)) for each in found)


def outside_as_text(benchmarks: Sequence[Benchmark], data: Path, width: int) -> str:
    """List benchmarks of other packages in the same form."""
    return "\n\n".join("\n".join(_outside_lines(each, data, width)) for each in benchmarks)


def outside_as_json(benchmarks: Sequence[Benchmark], data: Path) -> list[dict[str, Any]]:
    """List benchmarks of other packages as plain values."""
    return [
        {
            "name": each.name,
            "title": each.title,
            "licence": each.licence,
            "state": _outside_state(each, data),
            "items": [
                {"language": language, "split": split, "items": count}
                for (language, split), count in each.expected_counts.items()
            ],
        }
        for each in benchmarks
    ]


def _outside_state(benchmark: Benchmark, data: Path) -> State:
    found = [is_installed(source, data) for source in benchmark.sources.values()]
    return "present" if all(found) else "part" if any(found) else "absent"


def _outside_lines(each: Benchmark, data: Path, width: int) -> Iterator[str]:
    yield f"{each.name:<{_NAME}}{_outside_state(each, data)}"
    yield from wrap(each.title, width, initial_indent=" " * _NAME, subsequent_indent=" " * _NAME)
    counts = (_count(language, split, count) for (language, split), count in each.expected_counts.items())
    folders = sorted({f"{data / source}" for source in each.sources.values() if source is not None})
    facts = (("items", f"{each.name}: {', '.join(counts)}"), ("licence", each.licence))
    for name, text in (*facts, ("from", f"another package; its files are in {', '.join(folders)}")):
        head = f"{'':<{_NAME}}{name:<{_FACT}}"
        below = " " * len(head)
        # Keep paths whole.
        yield from wrap(
            text, width, initial_indent=head, subsequent_indent=below, break_on_hyphens=False, break_long_words=False
        )


def as_json(found: Sequence[OnDisk]) -> list[dict[str, Any]]:
    """List each source as plain values."""
    return [
        {
            "name": each.source.name,
            "title": each.source.title,
            "state": each.state,
            "files": len(each.source.files),
            "files_on_disk": each.files,
            "bytes_on_disk": each.size,
            "benchmarks": [
                {"benchmark": benchmark, "language": language, "split": split, "items": count}
                for benchmark, language, split, count in expected_counts(each.source)
            ],
            "licence": each.source.licence,
            "upstream": each.source.upstream,
            "revision": each.source.revision,
            "needs_mirror": each.source.needs_mirror,
            "unpinned_files": len(each.source.unpinned),
            "note": each.source.note,
        }
        for each in found
    ]


def _lines(each: OnDisk, width: int) -> Iterator[str]:
    yield f"{each.source.name:<{_NAME}}{_state(each)}"
    yield from wrap(each.source.title, width, initial_indent=" " * _NAME, subsequent_indent=" " * _NAME)
    for name, text in _facts(each.source):
        head = f"{'':<{_NAME}}{name:<{_FACT}}"
        yield from wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def _state(each: OnDisk) -> str:
    if each.state == "absent":
        return "absent"
    total = len(each.source.files)
    of = f" of {total:,}" if each.state == "part" else ""
    return f"{each.state}: {each.files:,}{of} {'file' if total == 1 else 'files'}, {each.size / 1e6:,.1f} MB"


def _facts(source: Source) -> Iterator[tuple[str, str]]:
    for benchmark, items in _items(source).items():
        yield "items", f"{benchmark}: {', '.join(items)}"
    known = [file.sha256 for file in source.files if file.sha256]
    checksums = f"checksum over theirs {hash_text(' '.join(known))}" if known else "not verified: no checksum is known"
    yield "files", f"{len(source.files)}, {checksums}"
    yield "licence", source.licence
    yield "from", f"{source.upstream} @ {source.revision}"
    if source.needs_mirror:
        yield "note", "needs --mirror: no address with these exact files is known"
    if source.unpinned:
        yield "note", "needs --allow-unverified"
    if source.note:
        yield "note", source.note


def _items(source: Source) -> dict[str, list[str]]:
    items = defaultdict(list)
    for benchmark, language, split, count in expected_counts(source):
        items[benchmark].append(_count(language, split, count))
    return items


def _count(language: str, split: str, count: int | None) -> str:
    return f"{language} {split} {'not counted' if count is None else f'{count:,}'}"
