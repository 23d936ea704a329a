"""Find the picture files that a row of custom questions names."""

import json
import re
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.question import Picture
from jmedllm.files import hash_file

FOLDER = "images"
"""Folder beside the file of questions in which pictures are found by their name alone."""

_LONGEST_SHOWN = 200
"""Maximum number of characters of a path in a message."""

_FIX = "copy the pictures there, or read the questions without images (leave the field or its part of --map out)"


def find_pictures(row: InputRow, *, strict: bool) -> tuple[Picture, ...]:
    """Return the pictures that the field `images` names; none if the row does not have the field.

    A path is relative to the file of the questions, or to the folder `images` beside it.

    Args:
        row: a row with our names.
        strict: whether the value must be a list of texts. Otherwise it may also be one text, in which several paths
            are separated by ";", "|" or line feeds or are JSON.

    Raises:
        InputError: the value has another form, or a file is missing.
    """
    if "images" not in row.record or row.record["images"] is None:
        return ()
    return tuple(find_picture(row, "images", name, _FIX) for name in _names(row, strict=strict))


def _names(row: InputRow, *, strict: bool) -> list[str]:
    value = row.record["images"]
    if isinstance(value, str) and not strict:
        value = _split(value)
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise row.wrong("images", "a list of paths")
    return value


def _split(text: str) -> object:
    if text.strip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return [name.strip() for name in re.split(r"[;|\n]", text) if name.strip()]


def find_picture(row: InputRow, field: str, name: str, fix: str) -> Picture:
    """Return the picture that a field names, relative to the row's file or to the folder `images` beside it.

    Args:
        fix: what to do if there is no such file, for the message.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    folder = row.path.parent
    for path in (folder / name, folder / FOLDER / name):
        if _is_file(path):
            return Picture(path, _hash(row, field, path), row.place)
    shown = str(folder / name)
    shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
    raise InputError(f'{row.place}: field "{field}": {shown}: no such file, nor in {folder / FOLDER}; {fix}')


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long, such as a data URL, or a folder is not readable
        return False


def _hash(row: InputRow, field: str, path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise InputError(f'{row.place}: field "{field}": {path}: cannot be read: {error.strerror}') from error
