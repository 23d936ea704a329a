"""From raw files to a clean corpus: read, clean, deduplicate, decontaminate, report.

    files ─ parts ─► read, clean, sign (processes) ─► duplicates (one) ─► leave out, cut (processes) ─► documents

Each part's products are kept until the end, so a killed build goes on where it stopped. Every order is the order
of the files: the corpus is the same, byte for byte, from any number of processes.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.corpus.contamination_index import index, save
from jmedllm.corpus.dedup import Seen
from jmedllm.corpus.pipeline.parallel import spread
from jmedllm.corpus.pipeline.report import write_reports
from jmedllm.corpus.pipeline.steps import WorkDir, finish, places, prepare, signatures
from jmedllm.corpus.pipeline.summary import Summary, gather
from jmedllm.corpus.pipeline.survey import Survey, survey
from jmedllm.corpus.readers.inputs import DOCUMENTS, NAME, Unread, ending
from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.files import (
    LOCK,
    atomic_file,
    atomic_folder,
    hash_file,
    hash_text,
    locked,
    read_json,
    to_json,
    write_atomic,
)
from jmedllm.progress import progress

_WORK = "parts"
_MARK = "identity"
FORMAT = 2
"""Raised whenever the same input makes another corpus."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built.

    Attributes:
        inputs: files and folders.
        field: the key that holds the text in lines of JSON.
        tokenizer: a tokenizer.json to count tokens with; None counts none.
    """

    inputs: tuple[Path, ...]
    field: str = "text"
    tokenizer: Path | None = None


def build(order: Order, questions: Iterable[Question], output: Path, processes: int) -> Summary:
    """Build a corpus in `output`, or go on with the one that a killed build left there.

    `output` gets `documents-NNNNN.jsonl`, `removed.jsonl`, `corpus.md` and, last, `corpus.json`. A corpus that is
    there already, of the same files, settings and questions, is left as it is.

    Args:
        questions: exam items that must not be in the corpus.
        processes: how many work side by side; each holds a part of some megabytes.

    Raises:
        InputError: see `survey`; or no input holds any text, the output holds something else or cannot be written,
            or a process died.
    """
    _require_apart(order.inputs, output)
    surveyed = survey(order.inputs, order.field)
    _require_ours(output)
    with locked(output):
        asked = list(questions)
        identity = _identity(order, surveyed, asked)
        finished = read_json(output / NAME) if (output / NAME).is_file() else {}
        if finished.get("identity") == identity and all((output / name).is_file() for name in finished["files"]):
            shutil.rmtree(output / _WORK, ignore_errors=True)
            return Summary(**finished)
        folder = _workplace(output, identity)
        workshop = WorkDir(folder, order.field, order.tokenizer, folder / f"{identity}.npz")
        numbers = range(len(surveyed.parts))
        with progress("corpus", 2 * len(numbers)) as advance:
            jobs = [job for job in enumerate(surveyed.parts) if not workshop.file(job[0], "cleaned.json").exists()]
            advance(len(numbers) - len(jobs), "")
            spread(partial(prepare, workshop=workshop), jobs, processes, lambda: advance(1, "read and cleaned"))
            waiting = [number for number in numbers if not workshop.file(number, "finished.json").exists()]
            advance(len(numbers) - len(waiting), "")
            if waiting:
                _find_duplicates(workshop, numbers)
                with atomic_file(workshop.leaks) as handle:
                    save(index(asked), handle)
            spread(partial(finish, workshop=workshop), waiting, processes, lambda: advance(1, "decontaminated"))
        summary = Summary(
            identity=identity,
            version=__version__,
            inputs=surveyed.hashes,
            tokenizer=str(order.tokenizer) if order.tokenizer else None,
            questions=dict(sorted(Counter(f"{each.benchmark} {each.language}" for each in asked).items())),
            files={},
            skipped=dict(sorted(Counter(f"{ending(each.where)}: {each.reason}" for each in surveyed.unread).items())),
            **gather(workshop, numbers),
        )
        return _publish(workshop, output, order, summary, surveyed.unread)


def tokenizer_file(folder: Path) -> Path:
    """The tokenizer.json of a model or tokenizer directory, or the file itself.

    Raises:
        InputError: there is none, or it is broken.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json" if folder.is_dir() else folder
    if not file.is_file():
        raise InputError(f"tokenizer {folder}: no tokenizer.json is here; give the directory of a model")
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers, written in Rust, raises plain exceptions
        raise InputError(f"tokenizer {file}: {error}; give the directory of a model") from error
    return file


def shards(folder: Path) -> list[Path]:
    """The files of documents of a corpus that was built whole, in their order.

    Raises:
        InputError: no whole corpus is there.
    """
    if not (folder / NAME).is_file():
        raise InputError(f"{folder}: no whole corpus is here; build it with: jmedllm corpus build")
    return [folder / name for name in read_json(folder / NAME)["files"]]


def _identity(order: Order, surveyed: Survey, questions: Sequence[Question]) -> str:
    tokenizer = hash_file(order.tokenizer) if order.tokenizer else None
    asked = hash_text("".join(question_hash(question) for question in questions))
    files = [list(surveyed.hashes.items()), [astuple(each) for each in surveyed.unread]]
    return hash_text(to_json([FORMAT, __version__, files, order.field, tokenizer, asked]))


def _require_apart(inputs: Sequence[Path], output: Path) -> None:
    for path in inputs:
        one, other = path.resolve(), output.resolve()
        if one == other or one in other.parents or other in one.parents:
            raise InputError(f"--output {output} and the input {path} lie in one another; choose another --output")


def _require_ours(output: Path) -> None:
    there = {path.name for path in output.iterdir()} if output.is_dir() else set()
    ours = NAME in there or (output / _WORK / _MARK).is_file()
    if there - {LOCK} and not ours:
        raise InputError(f"{output} holds files that are no corpus; choose another --output")


def _workplace(output: Path, identity: str) -> Path:
    """The folder of the parts, emptied of those of another build."""
    folder = output / _WORK
    if not ((folder / _MARK).is_file() and (folder / _MARK).read_text(encoding="utf-8") == identity):
        with atomic_folder(folder, _MARK) as empty:
            write_atomic(empty / _MARK, identity)
    return folder


def _find_duplicates(workshop: WorkDir, numbers: Iterable[int]) -> None:
    """Go through all signatures in order; the first of equal documents stays."""
    seen = Seen()
    for number in numbers:
        found: dict[str, Any] = {}
        named = zip(
            places(workshop.file(number, "cleaned.jsonl")),
            signatures(workshop.file(number, "signatures")),
            strict=True,
        )
        for position, (where, signed) in enumerate(named):
            if duplicate := seen.add(where, signed):
                found[str(position)] = {"where": where, "of": duplicate.name, "similarity": duplicate.similarity}
        write_atomic(workshop.file(number, "duplicates.json"), to_json(found) + "\n")


def _publish(workshop: WorkDir, output: Path, order: Order, summary: Summary, skipped: Sequence[Unread]) -> Summary:
    """Put the documents in the place of those of an earlier corpus, and write the reports.

    Done again after a kill, it does the rest.
    """
    made = {
        f"documents-{report.name.partition('.')[0]}.jsonl": report.with_suffix(".jsonl")
        for report in sorted(workshop.folder.glob("*.finished.json"))
        if read_json(report)["documents"]
    }
    if not made:
        shutil.rmtree(workshop.folder)
        raise InputError(_nothing(order, summary, skipped))
    (output / NAME).unlink(missing_ok=True)
    for stale in output.glob(DOCUMENTS):
        if stale.name not in made:
            stale.unlink()
    for name, path in made.items():
        if path.exists():
            path.replace(output / name)
    summary = replace(summary, files={name: hash_file(output / name) for name in made})
    write_reports(workshop, output, summary, skipped)
    shutil.rmtree(workshop.folder)
    return summary


def _nothing(order: Order, summary: Summary, skipped: Sequence[Unread]) -> str:
    named = [*summary.unread_named, *map(astuple, skipped)]
    reasons = "".join(f"; {where} {reason}" for where, reason in named[:3])
    return f"corpus {', '.join(map(str, order.inputs))}: holds no text; give files that do{reasons}"
