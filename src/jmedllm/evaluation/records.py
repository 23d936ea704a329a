"""Records of a sitting on disk: one line per item, appended as they come, safe against a kill."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.order import TURN_MARK
from jmedllm.files import cut_unfinished_line, read_jsonl, to_json, unwritable, write_jsonl
from jmedllm.models.backends.base import Failure


@dataclass(frozen=True, slots=True)
class Record:
    """All that a sitting keeps of one item.

    Attributes:
        id: the question's id; "116A1~2" where its choices were turned by two places.
        prompt_hash: hash of the text that the model was given; of the chat turns, where a server renders them.
        question_hash: hash of the question with its gold, which the verdicts depend on.
        order: index of the printed choice at each place, as it was asked.
        response: what the model wrote; None where no track asked for it.
        truncated: whether the token limit ended the response.
        thought_open: whether the prompt had opened a thought; None where a server does not tell.
        reasoning: the thought, where a server gives it apart from the response.
        failure: why there is no response at all: "too long" or "rejected".
        log_probs: natural log-probability of each printed choice; None where no track asked for them.
        item_scores: for each track that applies to the item, its verdict.
    """

    id: str
    prompt_hash: str
    question_hash: str
    order: tuple[int, ...] = ()
    response: str | None = None
    truncated: bool = False
    thought_open: bool | None = False
    reasoning: str | None = None
    failure: Failure | None = None
    log_probs: tuple[float, ...] | None = None
    item_scores: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """Id of the question."""
        return self.id.partition(TURN_MARK)[0]

    @property
    def turn(self) -> str:
        """By how many places its choices were turned; empty for the first showing."""
        return self.id.partition(TURN_MARK)[2]


def read_records(path: Path) -> dict[str, Record]:
    """Records by question id; a last line that a kill left unfinished is cut off the file.

    The caller has made sure that the file is ours.

    Raises:
        InputError: a line in the middle is broken, or an id stands twice.
    """
    if not path.exists():
        return {}
    cut_unfinished_line(path)
    return read_finished(path)


def read_finished(path: Path) -> dict[str, Record]:
    """Records by id, from a file that is left as it is.

    Raises:
        InputError: see `read_records`.
    """
    records: dict[str, Record] = {}
    for number, row in read_jsonl(path):
        record = _record(path, number, row)
        if record.id in records:
            raise InputError(f"{path}:{number}: question {record.id} stands twice; choose another --output")
        records[record.id] = record
    return records


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append records and hand them to the operating system before returning."""
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write("".join(to_json(_row(record)) + "\n" for record in records))
    except OSError as error:
        raise unwritable(path, error) from error


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write all records anew, atomically."""
    write_jsonl(path, map(_row, records))


def _row(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Record.__slots__}


def _record(path: Path, number: int, row: dict[str, Any]) -> Record:
    if row.keys() != set(Record.__slots__):
        raise InputError(f"{path}:{number}: not a record of this version; choose another --output")
    lists = {name: None if row[name] is None else tuple(row[name]) for name in ("order", "log_probs")}
    return Record(**{**row, **lists})
