"""Instruction data: what to do, on what, and the wanted output."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.exam.prompts.render import Instruction
from jmedllm.files import read_json, read_jsonl


def read_instructions(path: Path) -> Iterator[Instruction]:
    """Yield the instructions of a .json file (one list) or a .jsonl file, each with `instruction`, `output`
    and, if there is something to work on, `input`.

    Raises:
        InputError: the file is missing, or an entry lacks text; names file and line or entry.
    """
    for place, row in _entries(path):
        for key in ("instruction", "output"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise InputError(f"{place}: field '{key}' must be a text that is not empty")
        text = row.get("input") or ""
        if not isinstance(text, str):
            raise InputError(f"{place}: field 'input' must be a text or left out")
        yield Instruction(place, row["instruction"], text, row["output"])


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".jsonl":
        for number, row in read_jsonl(path):
            yield f"{path}:{number}", row
        return
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: expected a JSON list of objects with instruction, input, output")
    for number, row in enumerate(rows, 1):
        yield f"{path}: entry {number}", row
