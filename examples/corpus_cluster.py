"""The steps of `jmedllm corpus build` as a datatrove pipeline, for a corpus that one machine is too small for.

python examples/corpus_cluster.py raw --data data --output corpora/large --tasks 64 --workers 16

Reading, cleaning and the search for benchmark questions are functions of jmedllm. datatrove distributes the files over
tasks, records which are finished, and finds near-duplicates. See docs/corpus.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document as Carried
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.contamination_index import build_index
from jmedllm.corpus.decontaminate import cut, find
from jmedllm.corpus.dedup import SHORT, signature
from jmedllm.corpus.documents import Document, as_line, open_documents
from jmedllm.corpus.language import language
from jmedllm.corpus.ngrams import characters, grams
from jmedllm.corpus.readers.inputs import ByteRange, Skipped, find_files
from jmedllm.corpus.readers.reader import read
from jmedllm.data.installed import test_questions
from jmedllm.errors import InputError
from jmedllm.files import atomic_file

Stream = Iterable[Carried]
"""The items of a datatrove pipeline. Their metadata has the document."""

MINHASH = MinhashConfig(num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(hash_fc="sha1"))
"""Finds 92 % of pairs of similarity 0.8 and half of those of 0.7."""


class Signatures(MinhashDedupSignature):
    """Shingles of characters, for Japanese. A short text is one shingle, so that it equals only the same text."""

    def __init__(self, folder: Path) -> None:
        # Words are not used; the default tokenizer for them would have to be installed.
        super().__init__(str(folder), MINHASH, WhitespaceTokenizer())

    def get_shingles(self, text: str) -> Any:
        """The hashes of a text's shingles, [N, 1]."""
        letters = characters(text).numbers
        if len(letters) < SHORT:
            return np.array([[int.from_bytes(signature(text).exact[:8], "big")]], np.uint64)
        return grams(letters, 8).reshape(-1, 1)


def carried(document: Document) -> Carried:
    """A document as an item of datatrove."""
    return Carried(text=document.text, id=document.id, metadata={"document": document})


def read_and_clean(
    data: Stream, rank: int, world_size: int, *, files: Sequence[tuple[Path, str]]
) -> Iterator[Carried]:
    """Read and clean the files of a task; what cannot be read is printed to its log."""
    for file, name in files[rank::world_size]:
        for found in read(ByteRange(file, name=name)):
            if isinstance(found, Skipped):
                print(f"{found.where}: {found.reason}")
            elif text := clean(found.text).text:
                title = clean(found.title or "").text or None
                yield carried(replace(found, text=text, language=language(text), title=title))


def read_clean(data: Stream, rank: int, world_size: int, *, folder: Path) -> Iterator[Carried]:
    """Read what the task with the same number wrote."""
    for document in open_documents([folder / f"documents-{rank:05d}.jsonl"]):
        yield carried(document)


def decontaminate(data: Stream, rank: int, world_size: int, *, benchmarks: Path) -> Iterator[Carried]:
    """Cut benchmark questions out of documents."""
    index = build_index(list(test_questions(benchmarks)))
    for each in data:
        document: Document = each.metadata["document"]
        hits = find(index, document.text)
        for number, piece in enumerate(cut(document.text, hits) if hits else [document.text], 1):
            yield carried(replace(document, text=piece, id=f"{document.id}#{number}" if hits else document.id))


def write(data: Stream, rank: int, world_size: int, *, folder: Path) -> Iterator[Carried]:
    """Write documents as a file of a corpus."""
    with atomic_file(folder / f"documents-{rank:05d}.jsonl") as handle:
        for each in data:
            handle.write(as_line(each.metadata["document"]))
            yield each


def stages(
    files: Sequence[tuple[Path, str]], benchmarks: Path, output: Path, tasks: int
) -> list[tuple[list[Callable[..., Any]], int]]:
    """The steps of each stage, and its number of tasks. A stage needs all tasks of the one before."""
    work = output.with_name(f"{output.name}.work")
    clean_texts, hashes, pairs, repeated = (work / name for name in ("clean", "signatures", "pairs", "repeated"))
    first = [partial(read_and_clean, files=files), partial(write, folder=clean_texts)]
    last = [partial(decontaminate, benchmarks=benchmarks), partial(write, folder=output)]
    again = partial(read_clean, folder=clean_texts)
    return [
        (first, tasks),
        ([again, Signatures(hashes)], tasks),
        ([MinhashDedupBuckets(str(hashes), str(pairs), config=MINHASH)], MINHASH.num_buckets),
        ([MinhashDedupCluster(str(pairs), str(repeated), config=MINHASH)], 1),
        ([again, MinhashDedupFilter(str(repeated)), *last], tasks),
    ]


def main() -> None:
    """Run all stages here. On a cluster, replace the local executor by datatrove's SlurmPipelineExecutor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files and folders")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data directory with the benchmarks")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=8, help="number of tasks, and of files of the corpus")
    parser.add_argument("--workers", type=int, default=1, help="number of tasks in parallel")
    options = parser.parse_args()
    before = None
    try:
        files = list(find_files(options.paths).files.items())
    except InputError as error:
        sys.exit(f"error: {error}")
    if not options.data.is_dir():
        sys.exit(f"error: --data {options.data}: no such folder, so there would be no benchmark to search for")
    steps = stages(files, options.data, options.output, options.tasks)
    for number, (pipeline, tasks) in enumerate(steps):
        logs = options.output.with_name(f"{options.output.name}.logs") / str(number)
        before = LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=options.workers, logging_dir=str(logs), depends=before
        )
    if before is not None:
        before.run()


if __name__ == "__main__":
    main()
