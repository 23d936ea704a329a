"""A model sits one benchmark in one language: prompts out, answers in, one record per item."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.calibration import Calibration, calibrate
from jmedllm.evaluation.human_baseline import Group, beside_people
from jmedllm.evaluation.order import PresentedQuestion, show
from jmedllm.evaluation.prompts.format import PromptFormat, ask
from jmedllm.evaluation.prompts.numbering import shows_numbers
from jmedllm.evaluation.question import Question, label, question_hash
from jmedllm.evaluation.records import Record, append_records, read_records, write_records
from jmedllm.evaluation.resume import begin, begun_settings, differing_settings, files_of, require_same
from jmedllm.evaluation.rotations import Rotations, turned
from jmedllm.evaluation.scorers import READ_FROM_TEXT, SCORERS, ModelOutput, item_score_of, judge, legacy
from jmedllm.evaluation.scorers.official import ExamOutcome, outcomes
from jmedllm.evaluation.statistics import Score
from jmedllm.files import hash_file, hash_text, read_json, to_json, write_atomic
from jmedllm.models.backends.base import Completion, GenerationConfig, InferenceModel, Request, Response
from jmedllm.models.chat import ChatText, no_template
from jmedllm.progress import progress


@dataclass(frozen=True, slots=True)
class EvalTask:
    """What is sat: the questions of one benchmark in one language, how they are asked and judged.

    Attributes:
        questions: at least one, all of one benchmark and language.
        selected: how many items the selection gave, of which a limit may have left fewer.
        shuffle: seed of a random order of the choices; None for the printed one.
        rotations: how many turns of its choices each question is shown in.
        scorers: names from `SCORERS`.
        selection: name of the step that chose the questions, before any limit.
        max_new_tokens: length at which a completion is cut off.
        left_out: how many items the selection left out, by reason; a limit does not count.
        notes: what else reports must say of how the questions were read.
        read_options: how a user's own file was read.
        skip_invalid: whether an item that cannot be asked counts as no answer instead of ending the evaluation.
    """

    questions: tuple[Question, ...]
    selected: int
    prompt_format: PromptFormat
    scorers: tuple[str, ...]
    selection: str
    split: str
    max_new_tokens: int = 256
    shuffle: int | None = None
    rotations: int = 1
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    read_options: custom.ReadOptions = custom.DEFAULT_READ_OPTIONS
    skip_invalid: bool = False

    @property
    def by_label(self) -> bool:
        """Whether likelihood is that of the choices' labels: where the prompt asks for a letter."""
        return self.prompt_format.answer_as == "letter"

    def showings(self) -> list[PresentedQuestion]:
        """All that is asked."""
        return [presented for question in self.questions for presented in show(question, self.shuffle, self.rotations)]

    def generation_config(self) -> GenerationConfig:
        """How responses end: where only scorer legacy reads them, its first line is enough."""
        if any(SCORERS[name].needs == "response" and name != "legacy" for name in self.scorers):
            return GenerationConfig(self.max_new_tokens, skip_invalid=self.skip_invalid)
        return GenerationConfig(
            self.max_new_tokens,
            lambda completion: legacy.is_final(_to_read(self.prompt_format, completion)),
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
            "scorers": list(self.scorers),
            "prompt_pack": self.prompt_format.pack.name,
            "prompt_pack_note": self.prompt_format.pack.note,
            "prompt_pack_hash": self.prompt_format.fingerprint(language),
            "answer_as": self.prompt_format.answer_as,
            "shots": len(self.prompt_format.shots_in(language)),
            "chat": self.prompt_format.chat,
            "max_new_tokens": self.max_new_tokens,
            "shuffle": self.shuffle,
            "rotations": self.rotations,
            "decoding": "greedy",
            **self.read_options.settings(),
        }


@dataclass(frozen=True, slots=True)
class EvalResult:
    """The outcome of one paper.

    Attributes:
        settings: all that shaped the answers: model, precision, prompts, tracks.
        selected: how many items the selection gave.
        asked: how many of them were sat; fewer under a limit.
        scores: one for each metric of each track, on the first showing of each question.
        official: the outcome of each year's exam, where scorer official was asked for.
        calibration: how far the model's probabilities hold, where scorer likelihood was asked for.
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
    official: tuple[ExamOutcome, ...]
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


def read_result(summary_file: Path) -> EvalResult | None:
    """The sitting a summary file holds; None for other JSON files and sittings that are not finished."""
    summary = read_json(summary_file)
    if not isinstance(summary, dict) or summary.keys() != set(EvalResult.__slots__):
        return None
    calibration = summary["calibration"]
    parts = {
        "scores": tuple(Score(**row) for row in summary["scores"]),
        "official": tuple(ExamOutcome(**_frozen(row)) for row in summary["official"]),
        "calibration": calibration and Calibration(**_frozen(calibration)),
        "rotations": tuple(Rotations(**_frozen(row)) for row in summary["rotations"]),
        "people": tuple(Group(**row) for row in summary["people"]),
        "notes": tuple(summary["notes"]),
        "failures": _frozen(summary["failures"]),
    }
    return EvalResult(**{**summary, **parts})


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    """A dataclass's values as they were before JSON made lists of its tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def evaluate_task(
    task: EvalTask,
    model_settings: dict[str, Any],
    load: Callable[[], InferenceModel],
    folder: Path,
    chat_text: ChatText = no_template,
) -> EvalResult:
    """Sit a paper, going on from the records in `folder`; the model is loaded only if items are missing.

    Args:
        task: what is sat.
        model_settings: name, fingerprint, precision: all that shapes the answers besides the paper.
        load: gives the model.
        folder: gets TASK.jsonl (records, in the order of the questions) and TASK.json (settings, scores).
        chat_text: the model's chat template, where the paper is asked by chat.

    Raises:
        InputError: `folder` holds the paper sat under other settings or files of the user's, an item cannot
            be asked, or the folder cannot be written.
    """
    records_file, summary_file = files_of(task.name, folder)
    settings = model_settings | task.settings()
    if begun := begun_settings(records_file, summary_file):
        require_same(summary_file, begun, settings)
    records = read_records(records_file)
    showings = task.showings()
    prompts = {presented.key: ask(task.prompt_format, presented.permuted, chat_text) for presented in showings}
    stale = {presented.key for presented in showings if _is_stale(presented, prompts[presented.key], records)}
    if stale:
        # Items that changed since they were answered; they must not stand beside their new answer.
        write_records(records_file, (record for name, record in records.items() if name not in stale))
        records = read_records(records_file)
    missing = [presented for presented in showings if presented.key not in records]
    if missing:
        for number, record in enumerate(_answer(task, missing, prompts, load())):
            if number == 0:  # not before there is something to keep
                begin(summary_file, settings)
            append_records(records_file, [record])
            records[record.id] = record
    if list(records) != (order := _order(task, records)):
        write_records(records_file, (records[name] for name in order))
    return _summarise(task, settings, records, records_file, summary_file)


def _is_stale(presented: PresentedQuestion, prompt: str, records: dict[str, Record]) -> bool:
    record = records.get(presented.key)
    return record is not None and (record.prompt_hash, record.question_hash) != _hashes(presented, prompt)


def _hashes(presented: PresentedQuestion, prompt: str) -> tuple[str, str]:
    """Hashes of the prompt as the model is given it, and of the question with its gold."""
    return hash_text(prompt), question_hash(presented.question)


def _order(task: EvalTask, records: dict[str, Record]) -> list[str]:
    """Ids in the order of the questions, then those of an earlier, longer sitting."""
    wanted = dict.fromkeys(presented.key for presented in task.showings())
    return [*wanted, *(name for name in records if name not in wanted)]


def forget(task: EvalTask, model_settings: dict[str, Any], folder: Path) -> None:
    """Remove the records of a paper that was sat under other settings.

    Raises:
        InputError: the files are not ours.
    """
    records_file, summary_file = files_of(task.name, folder)
    begun = begun_settings(records_file, summary_file)
    if begun is not None and differing_settings(begun, model_settings | task.settings()):
        records_file.unlink()
        summary_file.unlink()


def adopt(task: EvalTask, model_settings: dict[str, Any], share: Path, folder: Path) -> None:
    """Take the records of a share of the paper, sat under the same settings, over into `folder`.

    Raises:
        InputError: `folder` or `share` holds the paper sat under other settings, or files of the user's.
    """
    settings = model_settings | task.settings()
    files = [files_of(task.name, each) for each in (share, folder)]
    for records_file, summary_file in files:
        if (begun := begun_settings(records_file, summary_file)) is not None:
            require_same(summary_file, begun, settings)
    (theirs_file, _), (ours_file, summary_file) = files
    theirs, ours = read_records(theirs_file), read_records(ours_file)
    if theirs:
        if not summary_file.exists():
            begin(summary_file, settings)
        append_records(ours_file, [record for name, record in theirs.items() if name not in ours])


def _answer(
    task: EvalTask, missing: Sequence[PresentedQuestion], prompts: dict[str, str], model: InferenceModel
) -> Iterator[Record]:
    """Records of the missing items as the model gives its answers."""
    requests = [_request(task, presented, prompts[presented.key]) for presented in missing]
    whole = len(task.showings())
    with progress(f"{model.name} {task.name}", whole, whole - len(missing)) as advance:
        for index, response in model.answer(requests, task.generation_config()):
            yield _record(task, missing[index], requests[index].prompt, response)
            advance(1, "")


def _request(task: EvalTask, presented: PresentedQuestion, prompt: str) -> Request:
    question = presented.permuted
    needs = {SCORERS[name].needs for name in task.scorers if SCORERS[name].applies(question)}
    scored = "log_probs" in needs
    return Request(
        id=presented.key,
        prompt=prompt,
        group=question.id,
        choices=question.choices if scored and not task.by_label else (),
        labels=tuple(map(label, range(len(question.choices)))) if scored and task.by_label else (),
        generate="response" in needs,
    )


def _to_read(prompt_format: PromptFormat, completion: Completion) -> str:
    """The text that the published extraction is applied to.

    For the published prompts, zero-shot and raw, that is the whole decoded text, as it was there; any other
    prompt may hold marks of its own, so only what the model wrote is read.
    """
    whole = prompt_format.pack.published and not prompt_format.chat and not prompt_format.shots
    if whole:
        return completion.decoded
    return legacy.after_marker(completion.text if completion.plain is None else completion.plain)


def _record(task: EvalTask, presented: PresentedQuestion, prompt: str, response: Response) -> Record:
    completion = response.completion
    given = ModelOutput(
        presented=presented,
        text=None if completion is None else completion.text,
        line=None if completion is None else legacy.extract_response(_to_read(task.prompt_format, completion)),
        truncated=completion is not None and completion.truncated,
        log_probs=_as_printed(presented, response.log_probs),
        answer_as=task.prompt_format.answer_as,
        thought_open=completion.thought_open if completion else False,
        thoughts=completion.thoughts if completion else (),
        failure=response.failure,
        numbered=shows_numbers(ask(task.prompt_format, presented.permuted, _plain_turns), presented.permuted.choices),
    )
    return Record(
        presented.key,
        *_hashes(presented, prompt),
        order=presented.order,
        response=given.text,
        truncated=given.truncated,
        thought_open=given.thought_open,
        reasoning=completion.reasoning if completion else None,
        failure=given.failure,
        log_probs=given.log_probs,
        item_scores=judge(task.scorers, given),
    )


def _plain_turns(turns: list[dict[str, str]]) -> str:
    return "\n".join(turn["content"] for turn in turns)


def _as_printed(presented: PresentedQuestion, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    by_choice = dict(zip(presented.order, values, strict=True))
    return tuple(by_choice[choice] for choice in sorted(by_choice))


def _summarise(
    task: EvalTask, settings: dict[str, Any], records: dict[str, Record], records_file: Path, summary_file: Path
) -> EvalResult:
    """Scores over the paper's items, from the summary on disk where it is of these very records."""
    trace = {
        "questions": task.questions_hash(),
        "records": hash_file(records_file),
        # The version that answered, not the one that reads.
        "jmedllm": read_json(summary_file)["trace"]["jmedllm"],
    }
    before = read_result(summary_file)
    accounted = (task.selected, task.left_out, task.notes)
    if before is not None and before.trace == trace and _accounted(before) == accounted:
        return before
    item_scores = {
        name: {
            record.id: item_score_of(name, record.item_scores[name])
            for record in records.values()
            if name in record.item_scores
        }
        for name in task.scorers
    }
    judged = {name: [q for q in task.questions if q.id in item_scores[name]] for name in task.scorers}
    first = {name: [item_scores[name][question.id] for question in judged[name]] for name in task.scorers}
    result = EvalResult(
        settings=settings,
        selected=task.selected,
        asked=len(task.questions),
        scores=tuple(
            s for name in task.scorers if judged[name] for s in SCORERS[name].scores(judged[name], first[name])
        ),
        official=tuple(outcomes(judged["official"], first["official"])) if "official" in task.scorers else (),
        calibration=calibrate(task.questions, [records[question.id].log_probs for question in task.questions]),
        rotations=tuple(found for name in task.scorers if (found := turned(name, task.showings(), item_scores[name]))),
        trace=trace,
        people=tuple(beside_people(task.scorers[0], task.questions, item_scores[task.scorers[0]])),
        readings={
            name: dict(Counter(item_score.how for item_score in first[name]).most_common())
            for name in READ_FROM_TEXT
            if first.get(name)
        },
        left_out=task.left_out,
        notes=task.notes,
        failures=_failures(task, records),
    )
    write_atomic(summary_file, to_json(asdict(result), indent=2) + "\n")
    return result


def _failures(task: EvalTask, records: dict[str, Record]) -> dict[str, tuple[str, ...]]:
    """Ids of the items that got no response in one of their showings, by the reason."""
    found: dict[str, dict[str, None]] = {}
    for presented in task.showings():
        if failure := records[presented.key].failure:
            found.setdefault(failure, {})[presented.question.id] = None
    return {failure: tuple(ids) for failure, ids in found.items()}


def _accounted(result: EvalResult) -> tuple[int, dict[str, int], tuple[str, ...]]:
    return result.selected, result.left_out, result.notes
