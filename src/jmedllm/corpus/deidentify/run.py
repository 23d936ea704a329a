"""De-identifies files: read, find, replace, report.

    files ─ parts ─► find and replace (parallel) ─► documents, report

The results of each part are kept until the end, so that a killed run resumes where it stopped. Everything is in the
order of the files: the output is the same, byte for byte, from any number of processes.
"""

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from jmedllm import __version__
from jmedllm.corpus.deidentify.crf import MODEL
from jmedllm.corpus.deidentify.find import find
from jmedllm.corpus.deidentify.keyed import Keyed, new_key, read_key
from jmedllm.corpus.deidentify.known import Known, read_known
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.replace import mask, surrogate
from jmedllm.corpus.deidentify.report import REPORT, DeidentificationReport, as_markdown
from jmedllm.corpus.deidentify.spans import Span
from jmedllm.corpus.documents import as_line
from jmedllm.corpus.pipeline.parallel import run_parallel
from jmedllm.corpus.pipeline.survey import CorpusPart, Survey, survey
from jmedllm.corpus.readers.inputs import DEIDENTIFIED, DOCUMENTS, Skipped, file_of
from jmedllm.corpus.readers.reader import read
from jmedllm.errors import InputError
from jmedllm.files import (
    LOCK,
    atomic_file,
    hash_file,
    hash_text,
    locked,
    make_folder,
    read_json,
    to_json,
    write_atomic,
)
from jmedllm.progress import progress

Mode = Literal["surrogate", "mask"]

FORMAT = 1
"""Increased whenever the same input and key make a different output."""

_WORK = "parts"
_KEY = "key"
_REVIEW = "review.jsonl"
_CONTEXT = 20
"""Characters of context on each side in the review list."""


@dataclass(frozen=True, slots=True)
class DeidentifyConfig:
    """Settings of a de-identification.

    Attributes:
        inputs: files and folders.
        field: the key of the text in lines of JSON.
        replacement: "surrogate" or "mask".
        known: CSV files of known people.
        columns: what further columns of them are.
        key_file: where the key of the surrogates is kept; None drops it at the end of the run.
        review: whether to write the list of uncertain finds, with their text.
    """

    inputs: tuple[Path, ...]
    field: str = "text"
    replacement: Mode = "surrogate"
    known: tuple[Path, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    key_file: Path | None = None
    review: bool = False


@dataclass(frozen=True, slots=True)
class _Work:
    """What every process needs."""

    folder: Path
    config: DeidentifyConfig
    key: bytes

    def __repr__(self) -> str:
        return f"_Work({self.folder})"  # the key is never to be printed


def deidentify(config: DeidentifyConfig, output: Path, processes: int) -> DeidentificationReport:
    """De-identify files into `output`, or resume a run that was killed.

    `output` receives `documents-NNNNN.jsonl`, `deidentification.md` and, last, `deidentification.json`; also
    the review list if it is asked for. All are for their owner alone.

    Raises:
        InputError: see `survey` and `read_known`; or the output has other files, or a process died.
    """
    surveyed = survey(config.inputs, config.field)
    _require_separate(config, output)
    _known(config.known, config.columns)  # an error of a list comes before the first document
    with locked(output):
        input_hash = _input_hash(config, surveyed)
        finished = read_json(output / DEIDENTIFIED) if (output / DEIDENTIFIED).is_file() else {}
        if finished.get("input_hash") == input_hash and all((output / name).is_file() for name in finished["files"]):
            return DeidentificationReport(**finished)
        folder = output / _WORK / input_hash
        for other in (output / _WORK).glob("*"):
            if other != folder:
                shutil.rmtree(other)
        make_folder(folder)
        work = _Work(folder, config, _key(config, folder))
        jobs = [job for job in enumerate(surveyed.parts) if not (folder / f"{job[0]:05d}.json").exists()]
        with progress("de-identify", len(surveyed.parts), len(surveyed.parts) - len(jobs)) as advance:
            run_parallel(partial(_part, work=work), jobs, processes, lambda: advance(1, "parts de-identified"))
        return _publish(output, folder, config, surveyed, input_hash)


def _key(config: DeidentifyConfig, folder: Path) -> bytes:
    """Return the key; one that is not kept is beside the parts until they are done, so that a killed run resumes."""
    if config.key_file:
        return read_key(config.key_file)
    if not (folder / _KEY).exists():
        write_atomic(folder / _KEY, new_key().hex())
    return read_key(folder / _KEY)


@lru_cache(maxsize=1)
def _known(paths: tuple[Path, ...], columns: tuple[tuple[str, str], ...]) -> Known | None:
    return read_known(paths, dict(columns), lexicon()) if paths else None


def _part(job: tuple[int, CorpusPart], work: _Work) -> None:
    """De-identify the documents of a part, in order."""
    number, part = job
    config, counts, skipped = work.config, Counter[tuple[str, str, str, str]](), list[list[str]]()
    known = _known(config.known, config.columns)
    documents = characters = 0
    with (
        atomic_file(work.folder / f"{number:05d}.jsonl") as texts,
        atomic_file(work.folder / f"{number:05d}.review") as review,
    ):
        for document in (each for byte_range in part for each in read(byte_range, config.field)):
            if isinstance(document, Skipped):
                skipped.append([document.where, document.reason])
                continue
            spans, title = find(document.text, known), document.title or ""
            keyed = Keyed(work.key, _patient(document.text, spans, document.id))
            text = _replaced(config.replacement, document.text, spans, keyed)
            new_title = _replaced(config.replacement, title, find(title, known), keyed) if title else None
            texts.write(as_line(replace(document, text=text, title=new_title)))
            documents, characters = documents + 1, characters + len(document.text)
            for span in spans:
                counts[file_of(document.where), span.label, span.confidence, span.rule] += 1
                if config.review and span.confidence != "certain":
                    review.write((to_json(_to_review(document.where, document.text, span)) + "\n").encode())
    rows = [[*key, count] for key, count in sorted(counts.items())]
    report = {"documents": documents, "characters": characters, "counts": rows, "skipped": skipped}
    write_atomic(work.folder / f"{number:05d}.json", to_json(report))


def _replaced(mode: Mode, text: str, spans: list[Span], keyed: Keyed) -> str:
    return mask(text, spans) if mode == "mask" else surrogate(text, spans, keyed)


def _patient(text: str, spans: list[Span], identity: str) -> str:
    """Return what identifies the patient: the first number of a patient in the text, else the document."""
    number = next(
        (text[span.start : span.end] for span in spans if span.label == "PATIENT_ID" and span.confidence == "certain"),
        None,
    )
    return f"patient {number}" if number else f"document {identity}"


def _to_review(where: str, text: str, span: Span) -> dict[str, Any]:
    return {
        "where": where,
        "start": span.start,
        "end": span.end,
        "label": span.label,
        "confidence": span.confidence,
        "rule": span.rule,
        "before": text[max(0, span.start - _CONTEXT) : span.start],
        "text": text[span.start : span.end],
        "after": text[span.end : span.end + _CONTEXT],
    }


def _publish(
    output: Path, folder: Path, config: DeidentifyConfig, surveyed: Survey, input_hash: str
) -> DeidentificationReport:
    """Move the parts to their places, and write the report last."""
    (output / DEIDENTIFIED).unlink(missing_ok=True)
    parts = [read_json(folder / f"{number:05d}.json") for number in range(len(surveyed.parts))]
    if not sum(part["documents"] for part in parts):
        shutil.rmtree(output / _WORK)
        raise InputError(f"corpus {', '.join(map(str, config.inputs))}: no text was found; give files that have some")
    written = {
        f"documents-{number:05d}.jsonl": folder / f"{number:05d}.jsonl"
        for number, part in enumerate(parts)
        if part["documents"]
    }
    for stale in (*output.glob(DOCUMENTS), output / _REVIEW):
        if stale.name not in written:
            stale.unlink(missing_ok=True)
    if config.review:
        with atomic_file(output / _REVIEW) as lines:
            for number in range(len(parts)):
                lines.write((folder / f"{number:05d}.review").read_bytes())
    for name, path in written.items():
        if path.exists():
            path.replace(output / name)
    counts = [row for part in parts for row in part["counts"]]
    report = DeidentificationReport(
        input_hash=input_hash,
        version=__version__,
        replacement=config.replacement,
        key_kept=config.key_file is not None,
        known_lists=len(config.known),
        documents=sum(part["documents"] for part in parts),
        characters=sum(part["characters"] for part in parts),
        counts=counts,
        inputs=dict(surveyed.hashes),
        skipped=[[each.where, each.reason] for each in surveyed.skipped]
        + [row for part in parts for row in part["skipped"]],
        files={name: hash_file(output / name) for name in written},
    )
    write_atomic(output / REPORT, as_markdown(report))
    write_atomic(output / DEIDENTIFIED, to_json(report.as_json(), indent=2) + "\n")
    shutil.rmtree(output / _WORK)
    return report


def _input_hash(config: DeidentifyConfig, surveyed: Survey) -> str:
    """Hash all that decides the output, except the key. Known people are hashed with it: their file is never named."""
    known = [hash_file(path) for path in config.known]
    model = hash_file(MODEL)
    settings = [
        config.field,
        config.replacement,
        config.review,
        list(config.columns),
        known,
        str(config.key_file or ""),
    ]
    return hash_text(to_json([FORMAT, __version__, model, settings, list(surveyed.hashes.items())]))


def _require_separate(config: DeidentifyConfig, output: Path) -> None:
    for path in config.inputs:
        one, other = path.resolve(), output.resolve()
        if one == other or one in other.parents or other in one.parents:
            raise InputError(f"--output {output} and the input {path} overlap; choose another --output")
    if config.key_file and output.resolve() in config.key_file.resolve().parents:
        raise InputError(f"--key-file {config.key_file} is inside --output; keep the key away from the text")
    present = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if present - {LOCK} and DEIDENTIFIED not in present and _WORK not in present:
        raise InputError(f"{output} has files that are not a de-identified corpus; choose another --output")
