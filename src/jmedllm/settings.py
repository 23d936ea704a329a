"""Base class of all settings in a recipe."""

import difflib
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from jmedllm.errors import InputError

_LISTS = {"benchmarks": "benchmark", "languages": "language", "scorers": "scorer"}
"""Options that take a list, by the setting, which has the plural."""


class Settings(BaseModel):
    """Settings of a component. Unknown keys and values of a wrong type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def from_options(settings: type[S], **options: object) -> S:
    """Build settings from command-line options of the same names; options of lists are singular.

    Raises:
        InputError: a value is not allowed; the message names the option.
    """
    try:
        return settings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name, *within = [each for each in first["loc"] if isinstance(each, str)] or [""]
        option = " ".join([f"--{_LISTS.get(name, name).replace('_', '-')}" if name else "options", *within])
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{option} {first['input']!r}: {message[0].lower()}{message[1:]}") from None


def nearest(settings: type[Settings], place: tuple[str | int, ...]) -> str:
    """Suggest a known key for the unknown one at `place`, as text to append to a message."""
    *parents, wrong = place
    holder = settings
    for parent in parents:
        if isinstance(parent, str) and parent in holder.model_fields:
            holder = _settings_in(holder.model_fields[parent].annotation) or holder
    beginnings = [name for name in holder.model_fields if len(name) > 3 and str(wrong).startswith(name)]
    near = beginnings or difflib.get_close_matches(str(wrong), holder.model_fields, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(holder.model_fields)}"


def _settings_in(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for part in get_args(annotation) if (found := _settings_in(part))), None)
