"""De-identifies files: read, find, replace, report.

    files ─ parts ─► find and replace (parallel) ─► documents, report

The results of each part are kept until the end, so that a killed run resumes where it stopped. Everything is in the
order of the files: the output is the same, byte for byte, from any number of processes.
"""

import hashlib
import hmac
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.corpus.deidentify import lists
from jmedllm.corpus.deidentify.config import DeidentifyConfig, require_patients, require_ready
from jmedllm.corpus.deidentify.crf import MODEL
from jmedllm.corpus.deidentify.keyed import new_key, read_key
from jmedllm.corpus.deidentify.part import PartWork, deidentify_part, known_people, masked_name
from jmedllm.corpus.deidentify.rare_facts import Facts, K, rare_counts
from jmedllm.corpus.deidentify.report import REPORT, DeidentificationReport, as_markdown, by_label
from jmedllm.corpus.pipeline.parallel import run_parallel
from jmedllm.corpus.pipeline.survey import Survey, survey
from jmedllm.corpus.readers.inputs import DEIDENTIFIED, DOCUMENTS, file_of, require_separate
from jmedllm.errors import InputError
from jmedllm.files import atomic_file, hash_file, hash_text, make_folder, read_json, read_jsonl, to_json, write_atomic
from jmedllm.locks import LOCK, locked
from jmedllm.progress import progress

FORMAT = 3
"""Increased whenever the same input and key make a different output."""

_WORK = "parts"
_KEY = "key"
_REVIEW = "review.jsonl"


def deidentify(
    inputs: Sequence[Path], field: str, config: DeidentifyConfig, output: Path, processes: int
) -> DeidentificationReport:
    """De-identify files into `output`, or resume a run that was killed.

    `output` receives `documents-NNNNN.jsonl`, `deidentification.md` and, last, `deidentification.json`; also
    the review list if it is asked for. All are for their owner alone.

    Args:
        inputs: files and folders.
        field: the key of the text in lines of JSON.
        config: the settings.
        output: directory to write.
        processes: number of parallel processes.

    Raises:
        InputError: see `survey` and `require_ready`; or the output has other files, or a process died.
    """
    require_separate(inputs, output)
    _require_ours(output)
    require_ready(config, output)
    surveyed = survey(inputs, field)
    require_patients([Path(name) for name in surveyed.hashes], config)
    with locked(output):
        input_hash = _input_hash(field, config, surveyed)
        finished = read_json(output / DEIDENTIFIED) if (output / DEIDENTIFIED).is_file() else {}
        if finished.get("input_hash") == input_hash and all((output / name).is_file() for name in finished["files"]):
            shutil.rmtree(output / _WORK, ignore_errors=True)  # a run that was killed here has left its key
            return DeidentificationReport(**finished)
        folder = output / _WORK / input_hash
        for other in (output / _WORK).glob("*"):
            if other != folder:
                shutil.rmtree(other)
        make_folder(folder)
        work = PartWork(folder, field, config, _key(config, folder))
        jobs = [job for job in enumerate(surveyed.parts) if not (folder / f"{job[0]:05d}.json").exists()]
        with progress("de-identify", len(surveyed.parts), len(surveyed.parts) - len(jobs)) as advance:
            run_parallel(
                partial(deidentify_part, work=work), jobs, processes, lambda: advance(1, "parts de-identified")
            )
        return _publish(output, folder, config, surveyed, input_hash)


def _key(config: DeidentifyConfig, folder: Path) -> bytes:
    """Return the key; one that is not kept is beside the parts until they are done, so that a killed run resumes."""
    if config.key_file:
        return read_key(Path(config.key_file))
    if not (folder / _KEY).exists():
        write_atomic(folder / _KEY, new_key().hex())
    return read_key(folder / _KEY)


def _publish(
    output: Path, folder: Path, config: DeidentifyConfig, surveyed: Survey, input_hash: str
) -> DeidentificationReport:
    """Move the parts to their places, and write the report last."""
    (output / DEIDENTIFIED).unlink(missing_ok=True)
    parts = [read_json(folder / f"{number:05d}.json") for number in range(len(surveyed.parts))]
    if not sum(part["documents"] for part in parts):
        shutil.rmtree(output / _WORK)
        raise InputError(_no_text(surveyed, parts))
    written = {
        f"documents-{number:05d}.jsonl": folder / f"{number:05d}.jsonl"
        for number, part in enumerate(parts)
        if part["documents"]
    }
    for stale in (*output.glob(DOCUMENTS), output / _REVIEW):
        if stale.name not in written:
            stale.unlink(missing_ok=True)
    shared = Counter(stated for _, stated in _facts(folder, len(parts)))
    if config.review:
        _write_review(output / _REVIEW, folder, len(parts), shared)
    for name, path in written.items():
        if path.exists():
            path.replace(output / name)
    report = _report(config, surveyed, parts, input_hash, rare_counts(shared), [output / name for name in written])
    write_atomic(output / REPORT, as_markdown(report))
    write_atomic(output / DEIDENTIFIED, to_json(report.as_json(), indent=2) + "\n")
    shutil.rmtree(output / _WORK)
    return report


def _report(
    config: DeidentifyConfig,
    surveyed: Survey,
    parts: Sequence[dict[str, Any]],
    input_hash: str,
    rare: dict[str, int],
    written: Sequence[Path],
) -> DeidentificationReport:
    shown = _shown_names(config, surveyed, parts)
    counts = [[shown[file], *row] for part in parts for file, *row in part["counts"]]
    patients = sum((Counter(part["patients"]) for part in parts), Counter[str]())
    return DeidentificationReport(
        input_hash=input_hash,
        summary={
            "version": __version__,
            "replacement": config.replacement,
            "key_kept": config.key_file is not None,
            "known_lists": len(config.known),
            "model": hash_file(MODEL),
            "lists": _hash_of_lists(),
            "dictionary": _dictionary(),
            "documents": sum(part["documents"] for part in parts),
            "characters": sum(part["characters"] for part in parts),
            "files_not_read": sum(each.files for each in surveyed.skipped),
            "read_errors": sum(len(part["skipped"]) for part in parts),
            "counts": by_label(counts),
        },
        patients=dict(patients.most_common()),
        rare_facts=rare,
        counts=counts,
        inputs={shown[file]: hashed for file, hashed in surveyed.hashes.items()},
        skipped=[[shown.get(each.where, each.where), each.reason] for each in surveyed.skipped]
        + [_shown_place(where, reason, shown) for part in parts for where, reason in part["skipped"]],
        files={path.name: hash_file(path) for path in written},
    )


def _shown_names(config: DeidentifyConfig, surveyed: Survey, parts: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what reports call each file: its name with identifiers masked, and a number where two are the same."""
    known = known_people(config)
    masked = {name: text for part in parts for name, text in part["names"].items()}
    masked |= {each.where: masked_name(each.where, known) for each in surveyed.skipped}
    shown: dict[str, str] = {}
    taken = Counter[str]()
    for name in sorted(masked, key=lambda each: (masked[each], each)):
        text = masked[name]
        taken[text] += 1
        shown[name] = text if taken[text] == 1 else f"{text} ({taken[text]})"
    return {name: shown.get(name) or masked_name(name, known) for name in (*surveyed.hashes, *shown)}


def _shown_place(where: str, reason: str, shown: dict[str, str]) -> list[str]:
    """Return a file or a line of it as reports call it; the reason may name the file, too."""
    file = file_of(where)
    return [shown[file] + where.removeprefix(file), reason.replace(file, shown[file])]


def _facts(folder: Path, parts: int) -> Iterator[tuple[str, Facts]]:
    """Yield the place of each document that states facts, and them."""
    for number in range(parts):
        for _, row in read_jsonl(folder / f"{number:05d}.facts"):
            yield row.pop("where"), Facts(**row)


def _write_review(path: Path, folder: Path, parts: int, shared: Counter[Facts]) -> None:
    """Write the uncertain finds, then the documents with rare facts."""
    with atomic_file(path) as lines:
        for number in range(parts):
            lines.write((folder / f"{number:05d}.review").read_bytes())
        for where, stated in _facts(folder, parts):
            if shared[stated] < K:
                row = {"where": where, "label": "RARE_FACTS", "documents": shared[stated], **asdict(stated)}
                lines.write((to_json(row) + "\n").encode())


def _no_text(surveyed: Survey, parts: Sequence[dict[str, Any]]) -> str:
    named = [f"{where}: {reason}" for part in parts for where, reason in part["skipped"]]
    files = ", ".join([*surveyed.hashes][:3])
    return f"corpus {files}: no text was found; give files that have some" + "".join(f"; {each}" for each in named[:3])


def _input_hash(field: str, config: DeidentifyConfig, surveyed: Survey) -> str:
    """Hash all that decides the output, except a key that is not kept. Lists of people are hashed with the rest."""
    key = hmac.digest(read_key(Path(config.key_file)), b"key", hashlib.sha256).hex() if config.key_file else ""
    values = [
        FORMAT,
        __version__,
        hash_file(MODEL),
        _hash_of_lists(),
        _dictionary(),
        field,
        config.model_dump(exclude={"known", "key_file"}),
        [hash_file(Path(path)) for path in config.known],
        key,
        list(surveyed.hashes.items()),
        [astuple(each) for each in surveyed.skipped],
    ]
    return hash_text(to_json(values))


@lru_cache(maxsize=1)
def _hash_of_lists() -> str:
    """Return the SHA-256 of the hashes of the lists that come with jmedllm."""
    folder = Path(lists.__file__).parent
    hashed = "".join(f"{path.name} {hash_file(path)}\n" for path in sorted(folder.glob("*.tsv")))
    return hashlib.sha256(hashed.encode()).hexdigest()


def _dictionary() -> str:
    """Return the version of SudachiPy's dictionary; "unknown" if it is installed without metadata."""
    with suppress(PackageNotFoundError):
        return version("sudachidict_core")
    return "unknown"


def _require_ours(output: Path) -> None:
    present = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if present - {LOCK} and DEIDENTIFIED not in present and _WORK not in present:
        raise InputError(f"{output} has files that are not a de-identified corpus; choose another --output")
