"""What a process does with one part: before duplicates are known, and after.

A part's files lie beside one another, named by its number. Each is written whole or not at all, the report last,
so that a report says that its step is done and need not be done again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jmedllm.corpus.cleaning.clean import Cleaned, clean
from jmedllm.corpus.contamination_index import ContaminationIndex, load
from jmedllm.corpus.decontaminate import Hit, cut, find, removed
from jmedllm.corpus.dedup import Signature, signature
from jmedllm.corpus.documents import as_line, as_row
from jmedllm.corpus.language import language
from jmedllm.corpus.pipeline.counts import Amount, Tally
from jmedllm.corpus.pipeline.survey import Part
from jmedllm.corpus.readers.inputs import Unread
from jmedllm.corpus.readers.read import Document, read
from jmedllm.files import atomic_file, read_json, to_json, write_atomic

EXAMPLES = 5
"""Pieces of each cleaning rule that a part's report shows."""

EXAMPLE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class WorkDir:
    """Where the parts lie, and what all processes need.

    Attributes:
        field: the key of the text in lines of JSON.
        tokenizer: a tokenizer.json to count tokens with.
        leaks: the evidence of the exam questions; other questions lie in another file.
    """

    folder: Path
    field: str
    tokenizer: Path | None
    leaks: Path

    def file(self, number: int, ending: str) -> Path:
        """A file of a part."""
        return self.folder / f"{number:05d}.{ending}"


def prepare(job: tuple[int, Part], workshop: WorkDir) -> None:
    """Read and clean a part and sign its documents, in its order."""
    number, part = job
    tally, cleaning, unread, emptied = Tally(), _Cleaning(), [], []
    count = _counter(workshop.tokenizer)
    with (
        atomic_file(workshop.file(number, "cleaned.jsonl")) as texts,
        atomic_file(workshop.file(number, "signatures")) as signatures,
    ):
        for found in (each for extent in part for each in read(extent, workshop.field)):
            if isinstance(found, Unread):
                unread.append([found.where, found.reason])
                continue
            cleaned = clean(found.text)
            cleaning.add(found, cleaned)
            tag = language(cleaned.text)
            tally.add("read", found, tag, Amount(1, len(found.text), count(found.text)))
            if not cleaned.text:
                emptied.append(found.where)
                continue
            document = replace(found, text=cleaned.text, language=tag, title=clean(found.title or "").text or None)
            tokens = count(document.text)
            tally.add("clean", document, tag, Amount(1, len(document.text), tokens))
            texts.write(_line(as_row(document) | {"where": document.where, "tokens": tokens}))
            signed = signature(document.text)
            signatures.write(f"{(signed.exact + signed.least).hex()}\n".encode())
    report = {"counts": tally.rows(), "unread": unread, "emptied": emptied, "cleaning": cleaning.report()}
    write_atomic(workshop.file(number, "cleaned.json"), to_json(report) + "\n")


def finish(number: int, workshop: WorkDir) -> None:
    """Leave out a part's duplicates and cut out exam questions."""
    duplicates = read_json(workshop.file(number, "duplicates.json"))
    leaks = _leaks(workshop.leaks)
    tally, leaked, written = Tally(), [], 0
    count = _counter(workshop.tokenizer)
    with atomic_file(workshop.file(number, "finished.jsonl")) as texts:
        for index, (document, tokens) in enumerate(_cleaned(workshop.file(number, "cleaned.jsonl"))):
            if str(index) in duplicates:
                continue
            tag = document.language or "other"
            tally.add("deduplicate", document, tag, Amount(1, len(document.text), tokens))
            hits = find(leaks, document.text)
            leaked += [
                {"where": document.where, "text": text, "questions": [_named(document, hit) for hit in inside]}
                for text, inside in removed(document.text, hits)
            ]
            pieces = cut(document.text, hits) if hits else [document.text]
            for order, piece in enumerate(pieces, 1):
                kept = replace(document, text=piece, id=f"{document.id}#{order}" if hits else document.id)
                amount = Amount(1, len(piece), count(piece) if hits else tokens)
                tally.add("decontaminate", document, tag, amount)
                texts.write(as_line(kept))
                written += 1
    report = {"documents": written, "counts": tally.rows(), "leaked": leaked}
    write_atomic(workshop.file(number, "finished.json"), to_json(report) + "\n")


def _named(document: Document, hit: Hit) -> dict[str, str]:
    """A hit with the words that gave the question away."""
    found = document.text[hit.start : hit.end]
    return {"benchmark": hit.benchmark, "question": hit.question, "text": found}


def signatures(path: Path) -> Iterator[Signature]:
    """The signatures of a part's documents, in their order."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            signed = bytes.fromhex(line)
            yield Signature(signed[:16], signed[16:])


def places(path: Path) -> Iterator[str]:
    """Where each document of a part was read from."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["where"]


def _cleaned(path: Path) -> Iterator[tuple[Document, int]]:
    """A part's documents, each with its number of tokens."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            value = json.loads(line)
            yield (
                Document(
                    value["id"], value["text"], value["lang"], value["source"], value["license"], value["title"],
                    value["where"],
                ),
                value["tokens"],
            )  # fmt: skip


def _line(value: dict[str, Any]) -> bytes:
    return (to_json(value) + "\n").encode()


class _Cleaning:
    """What the rules took out of a part, with examples."""

    def __init__(self) -> None:
        self.pieces: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()
        self.examples: dict[str, dict[str, str]] = {}

    def add(self, document: Document, cleaned: Cleaned) -> None:
        for rule, text in cleaned.removed:
            self.pieces[rule] += 1
            self.characters[rule] += len(text)
            presented = self.examples.setdefault(rule, {})
            if len(presented) < EXAMPLES:
                presented.setdefault(text[:EXAMPLE_CHARACTERS], document.where)

    def report(self) -> dict[str, Any]:
        return {
            rule: {
                "pieces": self.pieces[rule],
                "characters": self.characters[rule],
                "examples": [[where, text] for text, where in self.examples[rule].items()],
            }
            for rule in sorted(self.pieces)
        }


@lru_cache(maxsize=1)
def _leaks(path: Path) -> ContaminationIndex:
    return load(path)


@lru_cache(maxsize=1)
def _counter(tokenizer: Path | None) -> Callable[[str], int]:
    """Counts the tokens of a text, without special ones; nothing where there is no tokenizer."""
    if tokenizer is None:
        return lambda text: 0
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    loaded.no_truncation()
    # The batch call leaves out offsets, which take as long as the ids.
    return lambda text: len(loaded.encode_batch_fast([text], add_special_tokens=False)[0].ids)
