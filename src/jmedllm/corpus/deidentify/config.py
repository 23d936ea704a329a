"""Settings of a de-identification: options of the command, and the section `corpus.deidentify` of a recipe."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from jmedllm.corpus.deidentify.known_list import COLUMNS
from jmedllm.corpus.readers.inputs import LINES, kind
from jmedllm.corpus.readers.jsonl import require_field
from jmedllm.errors import OPTIONAL, InputError, unknown
from jmedllm.progress import notice
from jmedllm.settings import Settings

_PACKAGES = {"sudachipy": "sudachipy", "sudachidict_core": "sudachidict_core", "pycrfsuite": "python-crfsuite"}
"""Packages of the extra `deid`, by module."""


class DeidentifyConfig(Settings):
    """How to replace identifiers."""

    replacement: Literal["surrogate", "mask"] = Field(
        "surrogate", description="surrogate: other names, moved dates; mask: a tag of the kind"
    )
    known: list[str] = Field([], description="CSV lists of known patients or staff; read, never stored")
    known_columns: dict[str, str] = Field({}, description="header of the lists → what the column is, such as name")
    key_file: str | None = Field(None, description="keep the key of the surrogates here; default: it is dropped")
    patient_field: str | None = Field(None, description="key of the patient in lines of JSON")
    review: bool = Field(False, description="also write review.jsonl: uncertain finds and rare facts, with their text")

    @field_validator("known_columns")
    @classmethod
    def _known_kinds(cls, columns: dict[str, str]) -> dict[str, str]:
        for column in columns.values():
            if column not in COLUMNS:
                raise ValueError(str(unknown("kind of column", column, COLUMNS)))
        return columns


def require_ready(config: DeidentifyConfig, output: Path) -> None:
    """Check what can be checked before a document is read. Nothing is written.

    Args:
        config: the settings.
        output: directory of the output.

    Raises:
        InputError: a package is missing, a list of people cannot be used, or the key would be beside the text.
    """
    from importlib.util import find_spec

    from jmedllm.corpus.deidentify.keyed import require_key
    from jmedllm.corpus.deidentify.known import read_known
    from jmedllm.corpus.deidentify.lexicon import lexicon

    missing = [OPTIONAL[package] for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        named = " ".join(f"'{each}'" for each in missing)
        raise InputError(f"de-identification needs packages that are missing; install them with: pip install {named}")
    for line in read_known(map(Path, config.known), config.known_columns, lexicon()).notes:
        notice(line)
    if config.key_file:
        file = Path(config.key_file)
        if output.resolve() in file.resolve().parents:
            raise InputError(f"the key file {file} is inside the output {output}; keep the key away from the text")
        require_key(file)


def require_patients(files: Iterable[Path], config: DeidentifyConfig) -> None:
    """Check that the first line of each file names its patient: a wrong key would give each document one of its own.

    Raises:
        InputError: one does not, or no file has lines.
    """
    if config.patient_field is None:
        return
    with_lines = [file for file in files if kind(file) in LINES]
    if not with_lines:
        raise InputError("patient_field is a key of lines of JSON, and no input is .jsonl; leave it out")
    for file in with_lines:
        require_field(file, config.patient_field, "--patient-field", "patient field", (str, int))
