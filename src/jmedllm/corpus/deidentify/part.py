"""The work on one part: read its documents, find and replace their identifiers, and count them.

The files of a part are named by its number. Each is written atomically, the report last: a part that has a report is
done and is not repeated. They contain paths and text as they are, and are removed at the end of the run.
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from jmedllm.corpus.deidentify.config import DeidentifyConfig
from jmedllm.corpus.deidentify.find import find
from jmedllm.corpus.deidentify.fold import fold
from jmedllm.corpus.deidentify.keyed import Keyed
from jmedllm.corpus.deidentify.known import Known, read_known
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.rare_facts import facts
from jmedllm.corpus.deidentify.replace import mask, masks, spliced, surrogates
from jmedllm.corpus.deidentify.review import to_review
from jmedllm.corpus.deidentify.spans import Span
from jmedllm.corpus.documents import Document, as_line
from jmedllm.corpus.pipeline.survey import CorpusPart
from jmedllm.corpus.readers.inputs import DOCUMENTS, Skipped, file_of
from jmedllm.corpus.readers.reader import read
from jmedllm.files import atomic_file, to_json, write_atomic

_GAP = "\n\n"
"""What separates a title from its text while identifiers are found, so that a name in one is a name in the other."""


@dataclass(frozen=True, slots=True)
class PartWork:
    """What every process needs.

    Attributes:
        folder: folder of the parts.
        field: the key of the text in lines of JSON.
    """

    folder: Path
    field: str
    config: DeidentifyConfig
    key: bytes

    def __repr__(self) -> str:
        """Return the folder only: the key is never to be printed."""
        return f"PartWork({self.folder})"


def deidentify_part(job: tuple[int, CorpusPart], work: PartWork) -> None:
    """De-identify the documents of a part, in order."""
    number, part = job
    counts, patients, skipped = Counter[tuple[str, str, str, str]](), Counter[str](), list[list[str]]()
    known = known_people(work.config)
    names: dict[str, str] = {}
    documents = characters = 0
    with (
        atomic_file(work.folder / f"{number:05d}.jsonl") as texts,
        atomic_file(work.folder / f"{number:05d}.review") as review,
        atomic_file(work.folder / f"{number:05d}.facts") as shared,
    ):
        for found in (each for byte_range in part for each in read(byte_range, work.field, work.config.patient_field)):
            file = file_of(found.where)
            names.setdefault(file, masked_name(file, known))
            if isinstance(found, Skipped):
                skipped.append([found.where, found.reason])
                continue
            whole = f"{found.title}{_GAP}{found.text}" if found.title else found.text
            spans = find(whole, known)
            patient, said_by = _patient(whole, spans, found)
            texts.write(as_line(_replaced(found, whole, spans, Keyed(work.key, patient), work.config, known)))
            documents, characters = documents + 1, characters + len(found.text)
            patients[said_by] += 1
            counts.update((file, span.label, span.confidence, span.rule) for span in spans)
            for row in to_review(found.where, whole, spans) if work.config.review else ():
                review.write((to_json(row) + "\n").encode())
            if stated := facts(whole, spans):
                shared.write((to_json({"where": found.where, **asdict(stated)}) + "\n").encode())
    report = {
        "documents": documents,
        "characters": characters,
        "counts": [[*key, count] for key, count in sorted(counts.items())],
        "patients": patients,
        "skipped": skipped,
        "names": names,
    }
    write_atomic(work.folder / f"{number:05d}.json", to_json(report))


def known_people(config: DeidentifyConfig) -> Known | None:
    """Return the lists of known people, which a process reads once; None if there are none."""
    return _known(tuple(config.known), tuple(sorted(config.known_columns.items())))


@lru_cache(maxsize=1)
def _known(paths: tuple[str, ...], columns: tuple[tuple[str, str], ...]) -> Known | None:
    return read_known(map(Path, paths), dict(columns), lexicon()) if paths else None


def _replaced(
    document: Document, whole: str, spans: list[Span], keyed: Keyed, config: DeidentifyConfig, known: Known | None
) -> Document:
    """Return a document with other text, title, id and source. Ids and names of files often are numbers or names of
    patients."""
    pieces = masks(spans) if config.replacement == "mask" else surrogates(whole, spans, keyed)
    title = document.title or ""
    after = len(whole) - len(document.text)
    return replace(
        document,
        id=f"{Keyed(keyed.key).number('id', document.id, 1 << 64):016x}",
        title=spliced(whole, spans, pieces, 0, len(title)) or None,
        text=spliced(whole, spans, pieces, after, len(whole)),
        source=_masked(document.source, known) if document.source else None,
    )


def _patient(whole: str, spans: list[Span], document: Document) -> tuple[str, str]:
    """Return what identifies the patient, and what says so: a field of the line, the first certain number of a patient
    in the text, or else nothing; the document is then the only one of its patient."""
    if document.patient is not None:
        return f"patient {_squeezed(document.patient)}", "field"
    for span in spans:
        if span.label == "PATIENT_ID" and span.confidence == "certain":
            return f"patient {_squeezed(whole[span.start : span.end])}", "number in the text"
    return f"document {document.id}", "none: each document apart"


def _squeezed(number: str) -> str:
    """Return a number without spaces, signs and widths: １２３-４ is 1234. What has nothing else stays as it is."""
    return re.sub(r"[\W_]", "", fold(number)).lower() or number


def masked_name(path: str, known: Known | None) -> str:
    """Return the name of a file for reports: identifiers, and numbers that may be a patient's, are masked."""
    return "/".join(_masked(each, known) for each in path.split("/"))


@lru_cache(maxsize=4096)
def _masked(name: str, known: Known | None) -> str:
    if Path(name).match(DOCUMENTS):
        return name
    masked = mask(name, find(re.sub(r"[_.]", " ", name), known))
    return re.sub(r"\d{4,}", "[NUMBER]", masked)
