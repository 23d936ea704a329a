"""The command line as it is stored with results."""

import shlex
from pathlib import Path

import typer

from jmedllm.errors import InputError
from jmedllm.output import redact

_PATHS = ("model", "benchmark", "data", "judge", "prompt", "shots", "adapter")
"""Options whose values may be paths."""

_NOT_RECORDED = ("output", "scorer", "as_json", "proxy")
"""Options that `jmedllm score` chooses, and one that may have a password."""


def as_given(context: typer.Context) -> str:
    """Return this command with absolute paths, without the options that `jmedllm score` chooses."""
    words = ["jmedllm", "eval"]
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name == "DEFAULT" or name in _NOT_RECORDED:
            continue
        value = context.params[name]
        text = ",".join(map(_absolute, str(value).split(","))) if name in _PATHS else str(value)
        words += [option.opts[0], *([] if value is True else [text])]
    command = shlex.join(words)
    if redact(command) != command:
        raise InputError("the command itself has the key, and would be stored with the results; leave the key out")
    return command


def _absolute(value: str) -> str:
    """Return a path to an existing file or folder as an absolute one, also with a language behind it."""
    path, *language = value.rsplit(":", 1)
    if Path(value).exists():
        return str(Path(value).resolve())
    return ":".join((str(Path(path).resolve()), *language)) if language and Path(path).is_file() else value
