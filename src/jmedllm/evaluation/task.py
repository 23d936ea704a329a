"""A model sits one benchmark in one language: prompts out, answers in, one record per item."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.calibration import Calibration, calibrate
from jmedllm.evaluation.human_baseline import Group, beside_people
from jmedllm.evaluation.order import Shown, show
from jmedllm.evaluation.prompts.format import Asking, ask
from jmedllm.evaluation.prompts.numbering import shows_numbers
from jmedllm.evaluation.question import Question, label, question_hash
from jmedllm.evaluation.records import Record, append_records, read_records, write_records
from jmedllm.evaluation.resume import begin, begun_settings, differing_settings, files_of, require_same
from jmedllm.evaluation.rotations import Rotations, turned
from jmedllm.evaluation.scorers import READ_FROM_TEXT, TRACKS, Given, judge, legacy, verdict_of
from jmedllm.evaluation.scorers.official import Board, boards
from jmedllm.evaluation.statistics import Score
from jmedllm.files import hash_file, hash_text, read_json, to_json, write_atomic
from jmedllm.models.backends.base import Completion, Model, Request, Response, Writing
from jmedllm.models.chat import ChatText, no_template
from jmedllm.progress import progress


@dataclass(frozen=True, slots=True)
class Paper:
    """What is sat: the questions of one benchmark in one language, how they are asked and judged.

    Attributes:
        questions: at least one, all of one benchmark and language.
        selected: how many items the selection gave, of which a limit may have left fewer.
        shuffle: seed of a random order of the choices; None for the printed one.
        rotations: how many turns of its choices each question is shown in.
        tracks: names from `TRACKS`.
        selection: name of the step that chose the questions, before any limit.
        max_new_tokens: length at which a completion is cut off.
        left_out: how many items the selection left out, by reason; a limit does not count.
        notes: what else reports must say of how the questions were read.
        reading: how a user's own file was read.
        skip_invalid: whether an item that cannot be asked counts as no answer instead of ending the evaluation.
    """

    questions: tuple[Question, ...]
    selected: int
    asking: Asking
    tracks: tuple[str, ...]
    selection: str
    split: str
    max_new_tokens: int = 256
    shuffle: int | None = None
    rotations: int = 1
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reading: custom.Reading = custom.PLAIN
    skip_invalid: bool = False

    @property
    def by_label(self) -> bool:
        """Whether likelihood is that of the choices' labels: where the prompt asks for a letter."""
        return self.asking.answer_as == "letter"

    def showings(self) -> list[Shown]:
        """All that is asked."""
        return [shown for question in self.questions for shown in show(question, self.shuffle, self.rotations)]

    def writing(self) -> Writing:
        """How responses end: where only track legacy reads them, its first line is enough."""
        if any(TRACKS[name].needs == "response" and name != "legacy" for name in self.tracks):
            return Writing(self.max_new_tokens, skip_invalid=self.skip_invalid)
        return Writing(
            self.max_new_tokens,
            lambda completion: legacy.is_final(_to_read(self.asking, completion)),
            self.skip_invalid,
        )

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
            "shuffle": self.shuffle,
            "rotations": self.rotations,
            "decoding": "greedy",
            **self.reading.settings(),
        }


@dataclass(frozen=True, slots=True)
class Sitting:
    """The outcome of one paper.

    Attributes:
        settings: all that shaped the answers: model, precision, prompts, tracks.
        selected: how many items the selection gave.
        asked: how many of them were sat; fewer under a limit.
        scores: one for each metric of each track, on the first showing of each question.
        official: the outcome of each year's exam, where track official was asked for.
        calibration: how far the model's probabilities hold, where track likelihood was asked for.
        rotations: for each track what turning the choices does, where there are several showings.
        trace: hashes of the questions with their gold and of the records, and the version that judged them.
        people: the first track beside the human examinees, by difficulty and subject.
        readings: for each track that reads responses, how many were read in which way, commonest first.
        left_out: how many items the selection left out, by reason.
        notes: what else reports must say of how the questions were read.
        failures: ids of items that got no response at all, by the reason; they count as no answer.
    """

    settings: dict[str, Any]
    selected: int
    asked: int
    scores: tuple[Score, ...]
    official: tuple[Board, ...]
    calibration: Calibration | None
    rotations: tuple[Rotations, ...]
    trace: dict[str, str]
    people: tuple[Group, ...] = ()
    readings: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failures: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Name of the model that sat."""
        return str(self.settings["model"])


def read_sitting(summary_file: Path) -> Sitting | None:
    """The sitting a summary file holds; None for other JSON files and sittings that are not finished."""
    summary = read_json(summary_file)
    if not isinstance(summary, dict) or summary.keys() != set(Sitting.__slots__):
        return None
    calibration = summary["calibration"]
    parts = {
        "scores": tuple(Score(**row) for row in summary["scores"]),
        "official": tuple(Board(**_frozen(row)) for row in summary["official"]),
        "calibration": calibration and Calibration(**_frozen(calibration)),
        "rotations": tuple(Rotations(**_frozen(row)) for row in summary["rotations"]),
        "people": tuple(Group(**row) for row in summary["people"]),
        "notes": tuple(summary["notes"]),
        "failures": _frozen(summary["failures"]),
    }
    return Sitting(**{**summary, **parts})


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    """A dataclass's values as they were before JSON made lists of its tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def sit(
    paper: Paper,
    model_settings: dict[str, Any],
    load: Callable[[], Model],
    folder: Path,
    chat_text: ChatText = no_template,
) -> Sitting:
    """Sit a paper, going on from the records in `folder`; the model is loaded only if items are missing.

    Args:
        paper: what is sat.
        model_settings: name, fingerprint, precision: all that shapes the answers besides the paper.
        load: gives the model.
        folder: gets PAPER.jsonl (records, in the order of the questions) and PAPER.json (settings, scores).
        chat_text: the model's chat template, where the paper is asked by chat.

    Raises:
        InputError: `folder` holds the paper sat under other settings or files of the user's, an item cannot
            be asked, or the folder cannot be written.
    """
    records_file, summary_file = files_of(paper.name, folder)
    settings = model_settings | paper.settings()
    if begun := begun_settings(records_file, summary_file):
        require_same(summary_file, begun, settings)
    records = read_records(records_file)
    showings = paper.showings()
    prompts = {shown.key: ask(paper.asking, shown.permuted, chat_text) for shown in showings}
    stale = {shown.key for shown in showings if _is_stale(shown, prompts[shown.key], records)}
    if stale:
        # Items that changed since they were answered; they must not stand beside their new answer.
        write_records(records_file, (record for name, record in records.items() if name not in stale))
        records = read_records(records_file)
    missing = [shown for shown in showings if shown.key not in records]
    if missing:
        for number, record in enumerate(_answer(paper, missing, prompts, load())):
            if number == 0:  # not before there is something to keep
                begin(summary_file, settings)
            append_records(records_file, [record])
            records[record.id] = record
    if list(records) != (order := _order(paper, records)):
        write_records(records_file, (records[name] for name in order))
    return _summarise(paper, settings, records, records_file, summary_file)


def _is_stale(shown: Shown, prompt: str, records: dict[str, Record]) -> bool:
    record = records.get(shown.key)
    return record is not None and (record.prompt_hash, record.question_hash) != _hashes(shown, prompt)


def _hashes(shown: Shown, prompt: str) -> tuple[str, str]:
    """Hashes of the prompt as the model is given it, and of the question with its gold."""
    return hash_text(prompt), question_hash(shown.question)


def _order(paper: Paper, records: dict[str, Record]) -> list[str]:
    """Ids in the order of the questions, then those of an earlier, longer sitting."""
    wanted = dict.fromkeys(shown.key for shown in paper.showings())
    return [*wanted, *(name for name in records if name not in wanted)]


def forget(paper: Paper, model_settings: dict[str, Any], folder: Path) -> None:
    """Remove the records of a paper that was sat under other settings.

    Raises:
        InputError: the files are not ours.
    """
    records_file, summary_file = files_of(paper.name, folder)
    begun = begun_settings(records_file, summary_file)
    if begun is not None and differing_settings(begun, model_settings | paper.settings()):
        records_file.unlink()
        summary_file.unlink()


def adopt(paper: Paper, model_settings: dict[str, Any], share: Path, folder: Path) -> None:
    """Take the records of a share of the paper, sat under the same settings, over into `folder`.

    Raises:
        InputError: `folder` or `share` holds the paper sat under other settings, or files of the user's.
    """
    settings = model_settings | paper.settings()
    files = [files_of(paper.name, each) for each in (share, folder)]
    for records_file, summary_file in files:
        if (begun := begun_settings(records_file, summary_file)) is not None:
            require_same(summary_file, begun, settings)
    (theirs_file, _), (ours_file, summary_file) = files
    theirs, ours = read_records(theirs_file), read_records(ours_file)
    if theirs:
        if not summary_file.exists():
            begin(summary_file, settings)
        append_records(ours_file, [record for name, record in theirs.items() if name not in ours])


def _answer(paper: Paper, missing: Sequence[Shown], prompts: dict[str, str], model: Model) -> Iterator[Record]:
    """Records of the missing items as the model gives its answers."""
    requests = [_request(paper, shown, prompts[shown.key]) for shown in missing]
    whole = len(paper.showings())
    with progress(f"{model.name} {paper.name}", whole, whole - len(missing)) as advance:
        for index, response in model.answer(requests, paper.writing()):
            yield _record(paper, missing[index], requests[index].prompt, response)
            advance(1, "")


def _request(paper: Paper, shown: Shown, prompt: str) -> Request:
    question = shown.permuted
    needs = {TRACKS[name].needs for name in paper.tracks if TRACKS[name].applies(question)}
    scored = "log_probs" in needs
    return Request(
        id=shown.key,
        prompt=prompt,
        group=question.id,
        choices=question.choices if scored and not paper.by_label else (),
        labels=tuple(map(label, range(len(question.choices)))) if scored and paper.by_label else (),
        write="response" in needs,
    )


def _to_read(asking: Asking, completion: Completion) -> str:
    """The text that the published extraction is applied to.

    For the published prompts, zero-shot and raw, that is the whole decoded text, as it was there; any other
    prompt may hold marks of its own, so only what the model wrote is read.
    """
    whole = asking.pack.published and not asking.chat and not asking.shots
    if whole:
        return completion.decoded
    return legacy.after_marker(completion.text if completion.plain is None else completion.plain)


def _record(paper: Paper, shown: Shown, prompt: str, response: Response) -> Record:
    completion = response.completion
    given = Given(
        shown=shown,
        text=None if completion is None else completion.text,
        line=None if completion is None else legacy.extract_response(_to_read(paper.asking, completion)),
        truncated=completion is not None and completion.truncated,
        log_probs=_as_printed(shown, response.log_probs),
        answer_as=paper.asking.answer_as,
        thought_open=completion.thought_open if completion else False,
        thoughts=completion.thoughts if completion else (),
        failure=response.failure,
        numbered=shows_numbers(ask(paper.asking, shown.permuted, _plain_turns), shown.permuted.choices),
    )
    return Record(
        shown.key,
        *_hashes(shown, prompt),
        order=shown.order,
        response=given.text,
        truncated=given.truncated,
        thought_open=given.thought_open,
        reasoning=completion.reasoning if completion else None,
        failure=given.failure,
        log_probs=given.log_probs,
        verdicts=judge(paper.tracks, given),
    )


def _plain_turns(turns: list[dict[str, str]]) -> str:
    return "\n".join(turn["content"] for turn in turns)


def _as_printed(shown: Shown, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    by_choice = dict(zip(shown.order, values, strict=True))
    return tuple(by_choice[choice] for choice in sorted(by_choice))


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
    accounted = (paper.selected, paper.left_out, paper.notes)
    if before is not None and before.trace == trace and _accounted(before) == accounted:
        return before
    verdicts = {
        name: {
            record.id: verdict_of(name, record.verdicts[name])
            for record in records.values()
            if name in record.verdicts
        }
        for name in paper.tracks
    }
    judged = {name: [q for q in paper.questions if q.id in verdicts[name]] for name in paper.tracks}
    first = {name: [verdicts[name][question.id] for question in judged[name]] for name in paper.tracks}
    sitting = Sitting(
        settings=settings,
        selected=paper.selected,
        asked=len(paper.questions),
        scores=tuple(
            s for name in paper.tracks if judged[name] for s in TRACKS[name].scores(judged[name], first[name])
        ),
        official=tuple(boards(judged["official"], first["official"])) if "official" in paper.tracks else (),
        calibration=calibrate(paper.questions, [records[question.id].log_probs for question in paper.questions]),
        rotations=tuple(
            found for name in paper.tracks if (found := turned(name, paper.showings(), verdicts[name]))
        ),
        trace=trace,
        people=tuple(beside_people(paper.tracks[0], paper.questions, verdicts[paper.tracks[0]])),
        readings={
            name: dict(Counter(verdict.how for verdict in first[name]).most_common())
            for name in READ_FROM_TEXT
            if first.get(name)
        },
        left_out=paper.left_out,
        notes=paper.notes,
        failures=_failures(paper, records),
    )
    write_atomic(summary_file, to_json(asdict(sitting), indent=2) + "\n")
    return sitting


def _failures(paper: Paper, records: dict[str, Record]) -> dict[str, tuple[str, ...]]:
    """Ids of the items that got no response in one of their showings, by the reason."""
    found: dict[str, dict[str, None]] = {}
    for shown in paper.showings():
        if failure := records[shown.key].failure:
            found.setdefault(failure, {})[shown.question.id] = None
    return {failure: tuple(ids) for failure, ids in found.items()}


def _accounted(sitting: Sitting) -> tuple[int, dict[str, int], tuple[str, ...]]:
    return sitting.selected, sitting.left_out, sitting.notes
