"""A model sits one benchmark in one language: prompts out, answers in, one record per item."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from jmedllm import __version__
from jmedllm.errors import InputError
from jmedllm.exam.prompts.asking import Asking, ask
from jmedllm.exam.question import Question, question_hash
from jmedllm.exam.records import Record, append_records, read_records, write_records
from jmedllm.exam.statistics import Score
from jmedllm.exam.tracks import TRACKS, Answer, Track, legacy
from jmedllm.files import hash_file, hash_text, read_json, to_json, write_atomic
from jmedllm.models import Completion, Model, Request
from jmedllm.progress import progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paper:
    """What is sat: the questions of one benchmark in one language, how they are asked and judged.

    Attributes:
        questions: at least one, all of one benchmark and language.
        selected: how many items the selection gave, of which a limit may have left fewer.
        tracks: names from `TRACKS`.
        selection: name of the step that chose the questions, before any limit.
        max_new_tokens: length at which a completion is cut off.
    """

    questions: tuple[Question, ...]
    selected: int
    asking: Asking
    tracks: tuple[str, ...]
    selection: str
    split: str
    max_new_tokens: int = 256

    @property
    def name(self) -> str:
        """For files and progress: "igakuqa.ja"."""
        return f"{self.questions[0].benchmark}.{self.questions[0].language}"

    def questions_hash(self) -> str:
        """Hash over all items with their gold."""
        return hash_text("".join(question_hash(question) for question in self.questions))

    def settings(self) -> dict[str, Any]:
        """All that shapes a record besides the model, as plain values."""
        language = self.questions[0].language
        return {
            "benchmark": self.questions[0].benchmark,
            "language": language,
            "selection": self.selection,
            "split": self.split,
            "tracks": list(self.tracks),
            "prompt_pack": self.asking.pack.name,
            "prompt_pack_note": self.asking.pack.note,
            "prompt_pack_hash": self.asking.fingerprint(language),
            "answer_as": self.asking.answer_as,
            "shots": len(self.asking.shots_in(language)),
            "chat": self.asking.chat,
            "max_new_tokens": self.max_new_tokens,
            "decoding": "greedy",
        }


@dataclass(frozen=True, slots=True)
class Sitting:
    """The outcome of one paper.

    Attributes:
        settings: all that shaped the answers: model, precision, prompts, tracks.
        selected: how many items the selection gave.
        asked: how many of them were sat; fewer under a limit.
        scores: one for each metric of each track.
        trace: hashes of the questions with their gold and of the records, and the version that judged them.
    """

    settings: dict[str, Any]
    selected: int
    asked: int
    scores: tuple[Score, ...]
    trace: dict[str, str]

    @property
    def model(self) -> str:
        """Name of the model that sat."""
        return str(self.settings["model"])


def read_sitting(summary_file: Path) -> Sitting | None:
    """The sitting a summary file holds; None for other JSON files and sittings that are not finished."""
    summary = read_json(summary_file)
    if not isinstance(summary, dict) or summary.keys() != set(Sitting.__slots__):
        return None
    return Sitting(**{**summary, "scores": tuple(Score(**row) for row in summary["scores"])})


def sit(
    paper: Paper,
    model_settings: dict[str, Any],
    load: Callable[[], Model],
    folder: Path,
    *,
    batch: int = 32,
) -> Sitting:
    """Sit a paper, going on from the records in `folder`; the model is loaded only if items are missing.

    Args:
        paper: what is sat.
        model_settings: name, fingerprint, precision: all that shapes the answers besides the paper.
        load: gives the model.
        folder: gets PAPER.jsonl (records, in the order of the questions) and PAPER.json (settings, scores).
        batch: items answered together; it does not change the answers.

    Raises:
        InputError: `folder` holds the paper sat under other settings or files of the user's, an item cannot
            be asked, or the folder cannot be written.
    """
    records_file, summary_file = _files(paper, folder)
    settings = model_settings | paper.settings()
    if begun := _begun(records_file, summary_file):
        _require_same(summary_file, begun, settings)
    records = read_records(records_file)
    stale = {question.id for question in paper.questions if _is_stale(paper, question, records)}
    if stale:
        # Items that changed since they were answered; they must not stand beside their new answer.
        write_records(records_file, (record for name, record in records.items() if name not in stale))
        records = read_records(records_file)
    missing = [question for question in paper.questions if question.id not in records]
    if missing:
        summary = {"settings": settings, "trace": {"jmedllm": __version__}}
        write_atomic(summary_file, to_json(summary, indent=2) + "\n")
        for part in _answer(paper, missing, load(), batch):
            append_records(records_file, part)
            records |= {record.id: record for record in part}
    if list(records) != (order := _order(paper, records)):
        write_records(records_file, (records[name] for name in order))
    return _summarise(paper, settings, records, records_file, summary_file)


def _is_stale(paper: Paper, question: Question, records: dict[str, Record]) -> bool:
    record = records.get(question.id)
    return record is not None and (record.prompt_hash, record.question_hash) != _hashes(paper, question)


def _hashes(paper: Paper, question: Question) -> tuple[str, str]:
    """Hashes of the prompt, as text or as chat turns, and of the question with its gold."""
    return hash_text(ask(paper.asking, question, chat_text=to_json)), question_hash(question)


def _order(paper: Paper, records: dict[str, Record]) -> list[str]:
    """Ids in the order of the questions, then those of an earlier, longer sitting."""
    wanted = dict.fromkeys(question.id for question in paper.questions)
    return [*wanted, *(name for name in records if name not in wanted)]


def _files(paper: Paper, folder: Path) -> tuple[Path, Path]:
    """Where a paper's records and its summary lie."""
    return folder / f"{paper.name}.jsonl", folder / f"{paper.name}.json"


def forget(paper: Paper, model_settings: dict[str, Any], folder: Path) -> None:
    """Remove the records of a paper that was sat under other settings.

    Raises:
        InputError: the files are not ours.
    """
    records_file, summary_file = _files(paper, folder)
    begun = _begun(records_file, summary_file)
    if begun is not None and begun != model_settings | paper.settings():
        records_file.unlink()
        summary_file.unlink()


def _begun(records_file: Path, summary_file: Path) -> dict[str, Any] | None:
    """Settings under which the records there were begun; None where there are none.

    Raises:
        InputError: there are such files, and they are not ours.
    """
    summary = read_json(summary_file) if summary_file.exists() else None
    if summary_file.exists() and not _is_ours(summary):
        raise InputError(f"{summary_file}: is no summary of an exam; choose another --output")
    if not records_file.exists():
        return None
    if summary is None:
        raise InputError(f"{records_file}: has no {summary_file.name} beside it; choose another --output")
    return dict(summary["settings"])


def _is_ours(summary: Any) -> bool:
    if not isinstance(summary, dict):
        return False
    parts = {"settings": "fingerprint", "trace": "jmedllm"}
    return all(isinstance(summary.get(part), dict) and key in summary[part] for part, key in parts.items())


def _require_same(summary_file: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    differing = [key for key in before | settings if before.get(key) != settings.get(key)]
    if differing:
        changes = ", ".join(f"{key} {before.get(key)!r} is now {settings.get(key)!r}" for key in differing)
        raise InputError(f"{summary_file}: sat with other settings ({changes}); choose another --output")


def _answer(paper: Paper, questions: Sequence[Question], model: Model, batch: int) -> Iterator[list[Record]]:
    """Records in batches. Longest prompts first: what does not fit shows at once."""
    prompts = {question.id: ask(paper.asking, question, model.chat_text) for question in questions}
    order = sorted(questions, key=lambda question: -len(prompts[question.id]))
    tracks = [TRACKS[name] for name in paper.tracks]
    title = f"{model.name} {paper.name}"
    with progress(title, len(paper.questions), len(paper.questions) - len(questions)) as advance:
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            yield _answer_batch(paper, tracks, part, prompts, model)
            advance(len(part), "")


def _answer_batch(
    paper: Paper,
    tracks: Sequence[Track],
    questions: Sequence[Question],
    prompts: dict[str, str],
    model: Model,
) -> list[Record]:
    def requests(needs: str) -> list[Request]:
        return [
            Request(question.id, prompts[question.id], question.choices)
            for question in questions
            if any(track.needs == needs and track.applies(question) for track in tracks)
        ]

    def is_final(completion: Completion) -> bool:
        return legacy.is_final(_to_read(paper.asking, completion))

    log_probs: dict[str, tuple[float, ...]] = {}
    completions: dict[str, Completion] = {}
    if to_score := requests("log_probs"):
        log_probs = _by_id(to_score, model.score(to_score))
    if to_complete := requests("response"):
        completions = _by_id(to_complete, model.complete(to_complete, paper.max_new_tokens, is_final))
    return [
        _record(paper, question, completions.get(question.id), log_probs.get(question.id))
        for question in questions
    ]


def _to_read(asking: Asking, completion: Completion) -> str:
    """The text that the published extraction is applied to.

    For the published prompts, zero-shot and raw, that is the whole decoded text, as it was there; any other
    prompt may hold marks of its own, so only what the model wrote is read.
    """
    whole = asking.pack.published and not asking.chat and not asking.shots
    return completion.decoded if whole else legacy.after_marker(completion.text)


def _record(
    paper: Paper, question: Question, completion: Completion | None, log_probs: tuple[float, ...] | None
) -> Record:
    response = None if completion is None else legacy.extract_response(_to_read(paper.asking, completion))
    answer = Answer(response, log_probs)
    verdicts = {
        name: asdict(TRACKS[name].judge(question, answer))
        for name in paper.tracks
        if TRACKS[name].applies(question)
    }
    text = None if completion is None else completion.text
    return Record(question.id, *_hashes(paper, question), text, log_probs, verdicts)


def _by_id(requests: Sequence[Request], answers: Iterable[T]) -> dict[str, T]:
    return {request.id: answer for request, answer in zip(requests, answers, strict=True)}


def _summarise(
    paper: Paper, settings: dict[str, Any], records: dict[str, Record], records_file: Path, summary_file: Path
) -> Sitting:
    """Scores over the paper's items, from the summary on disk where it is of these very records."""
    trace = {
        "questions": paper.questions_hash(),
        "records": hash_file(records_file),
        # The version that answered, not the one that reads.
        "jmedllm": read_json(summary_file)["trace"]["jmedllm"],
    }
    before = read_sitting(summary_file)
    if before is not None and before.trace == trace and before.selected == paper.selected:
        return before
    scores: list[Score] = []
    for name in paper.tracks:
        judged = [question for question in paper.questions if name in records[question.id].verdicts]
        verdicts = [TRACKS[name].verdict(**records[question.id].verdicts[name]) for question in judged]
        scores += TRACKS[name].scores(judged, verdicts) if judged else []
    sitting = Sitting(settings, paper.selected, len(paper.questions), tuple(scores), trace)
    write_atomic(summary_file, to_json(asdict(sitting), indent=2) + "\n")
    return sitting
