"""Builds a clean corpus from raw files: read, clean, deduplicate, decontaminate, report.

    files ─ parts ─► read, clean, sign (parallel) ─► duplicates (one process) ─► remove, cut (parallel) ─► documents

The results of each part are kept until the end, so that a killed build resumes where it stopped. Everything is in the
order of the files: the corpus is the same, byte for byte, from any number of processes.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.corpus.contamination_index import build_index, save_index
from jmedllm.corpus.dedup import DuplicateIndex
from jmedllm.corpus.deidentify.provenance import deidentifications
from jmedllm.corpus.pipeline.parallel import run_parallel
from jmedllm.corpus.pipeline.process_part import WorkDir, finish, places, prepare, signatures
from jmedllm.corpus.pipeline.report import write_reports
from jmedllm.corpus.pipeline.summary import Summary, gather
from jmedllm.corpus.pipeline.survey import Survey, survey
from jmedllm.corpus.readers.inputs import CANARIES, DOCUMENTS, NAME, require_separate
from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question, question_hash
from jmedllm.files import atomic_file, atomic_folder, hash_file, hash_text, read_json, to_json, write_atomic
from jmedllm.locks import LOCK, locked
from jmedllm.progress import progress

_WORK = "parts"
_MARK = "input_hash"
FORMAT = 3
"""Increased whenever the same input makes a different corpus."""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """Settings of a corpus build.

    Attributes:
        inputs: files and folders.
        field: the key of the text in lines of JSON.
        tokenizer: a tokenizer.json to count tokens with; None counts none.
    """

    inputs: tuple[Path, ...]
    field: str = "text"
    tokenizer: Path | None = None


def build(config: BuildConfig, questions: Iterable[Question], output: Path, processes: int) -> Summary:
    """Build a corpus in `output`, or resume a build that was killed.

    `output` receives `documents-NNNNN.jsonl`, `removed.jsonl`, `corpus.md` and, last, `corpus.json`. A finished corpus
    of the same files, settings and questions is left unchanged.

    Args:
        questions: benchmark questions to cut out of the corpus.
        processes: number of parallel processes; each keeps a part of some megabytes in memory.

    Raises:
        InputError: see `survey`; or no input has any text, the output has other files or cannot be written, or a
            process died.
    """
    require_separate(config.inputs, output)
    surveyed = survey(config.inputs, config.field)
    _require_ours(output)
    with locked(output):
        items = list(questions)
        input_hash = _input_hash(config, surveyed, items)
        finished = read_json(output / NAME) if (output / NAME).is_file() else {}
        if finished.get("input_hash") == input_hash and all((output / name).is_file() for name in finished["files"]):
            shutil.rmtree(output / _WORK, ignore_errors=True)
            return Summary(**finished)
        folder = _work_folder(output, input_hash)
        work_dir = WorkDir(folder, config.field, config.tokenizer, folder / f"{input_hash}.npz")
        _process_parts(work_dir, surveyed, items, processes)
        done = deidentifications(surveyed.hashes)
        summary = Summary(
            input_hash=input_hash,
            version=__version__,
            personal_data_removed=done is not None,
            deidentification=done,
            tokenizer=str(config.tokenizer) if config.tokenizer else None,
            questions=dict(sorted(Counter(f"{each.benchmark} {each.language}" for each in items).items())),
            files={},
            **gather(work_dir, surveyed),
        )
        return _publish(work_dir, output, config, summary)


def tokenizer_file(folder: Path) -> Path:
    """Return the tokenizer.json of a model or tokenizer directory, or the file itself.

    Raises:
        InputError: the file is missing or broken.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json" if folder.is_dir() else folder
    if not file.is_file():
        raise InputError(f"tokenizer {folder}: it has no tokenizer.json; give the directory of a model")
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers, written in Rust, raises plain exceptions
        raise InputError(f"tokenizer {file}: {error}; give the directory of a model") from error
    return file


def shards(folder: Path) -> list[Path]:
    """Return the document files of a finished corpus, in order.

    Raises:
        InputError: the folder has no finished corpus.
    """
    if not (folder / NAME).is_file():
        raise InputError(f"{folder}: there is no finished corpus; build it with: jmedllm corpus build")
    return [folder / name for name in read_json(folder / NAME)["files"]]


def _process_parts(work_dir: WorkDir, surveyed: Survey, items: Sequence[Question], processes: int) -> None:
    """Do whatever is not yet done for each part."""
    numbers = range(len(surveyed.parts))
    jobs = [job for job in enumerate(surveyed.parts) if not work_dir.file(job[0], "cleaned.json").exists()]
    waiting = [number for number in numbers if not work_dir.file(number, "finished.json").exists()]
    done = 2 * len(numbers) - len(jobs) - len(waiting)
    with progress("corpus", 2 * len(numbers), done) as advance:
        run_parallel(partial(prepare, work_dir=work_dir), jobs, processes, lambda: advance(1, "parts cleaned"))
        if waiting:
            _find_duplicates(work_dir, numbers)
            with atomic_file(work_dir.index) as handle:
                save_index(build_index(items), handle)
        run_parallel(partial(finish, work_dir=work_dir), waiting, processes, lambda: advance(1, "parts finished"))


def _input_hash(config: BuildConfig, surveyed: Survey, questions: Sequence[Question]) -> str:
    tokenizer = hash_file(config.tokenizer) if config.tokenizer else None
    hashed = hash_text("".join(question_hash(question) for question in questions))
    files = [list(surveyed.hashes.items()), [astuple(each) for each in surveyed.skipped]]
    return hash_text(to_json([FORMAT, __version__, files, config.field, tokenizer, hashed]))


def _require_ours(output: Path) -> None:
    present = {path.name for path in output.iterdir()} if output.is_dir() else set()
    ours = NAME in present or (output / _WORK / _MARK).is_file()
    if present - {LOCK} and not ours:
        raise InputError(f"{output} has files that are not a corpus; choose another --output")


def _work_folder(output: Path, input_hash: str) -> Path:
    """Return the folder of the parts, without those of another build."""
    folder = output / _WORK
    if not ((folder / _MARK).is_file() and (folder / _MARK).read_text(encoding="utf-8") == input_hash):
        with atomic_folder(folder, _MARK) as empty:
            write_atomic(empty / _MARK, input_hash)
    return folder


def _find_duplicates(work_dir: WorkDir, numbers: Iterable[int]) -> None:
    """Compare all signatures in order. The first of several equal documents is kept."""
    index = DuplicateIndex()
    for number in numbers:
        found: dict[str, Any] = {}
        named = zip(
            places(work_dir.file(number, "cleaned.jsonl")),
            signatures(work_dir.file(number, "signatures")),
            strict=True,
        )
        for position, (where, signed) in enumerate(named):
            if duplicate := index.add(where, signed):
                found[str(position)] = {
                    "where": where,
                    "duplicate_of": duplicate.name,
                    "similarity": duplicate.similarity,
                }
        write_atomic(work_dir.file(number, "duplicates.json"), to_json(found) + "\n")


def _publish(work_dir: WorkDir, output: Path, config: BuildConfig, summary: Summary) -> Summary:
    """Replace the documents of an earlier corpus, and write the reports.

    If a build is killed here, the next one does the rest.
    """
    written = {
        f"documents-{report.name.partition('.')[0]}.jsonl": report.with_suffix(".jsonl")
        for report in sorted(work_dir.folder.glob("*.finished.json"))
        if read_json(report)["kept"]
    }
    if not written:
        shutil.rmtree(work_dir.folder)
        raise InputError(_no_text(config, summary))
    (output / NAME).unlink(missing_ok=True)
    for stale in output.glob(DOCUMENTS):
        if stale.name not in written:
            stale.unlink()
    for name, path in written.items():
        if path.exists():
            path.replace(output / name)
    if planted := next((path / CANARIES for path in config.inputs if (path / CANARIES).is_file()), None):
        write_atomic(output / CANARIES, planted.read_text(encoding="utf-8"))
    summary = replace(summary, files={name: hash_file(output / name) for name in written})
    write_reports(work_dir, output, summary)
    shutil.rmtree(work_dir.folder)
    return summary


def _no_text(config: BuildConfig, summary: Summary) -> str:
    named = [f"{each['file']} {each['reason']}" for each in summary.inputs if each["reason"]]
    reasons = "".join(f"; {each}" for each in named[:3])
    return f"corpus {', '.join(map(str, config.inputs))}: no text was found; give files that have some{reasons}"
