"""Read recipe files: YAML with the sections of all stages; errors are one line."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, create_model
from pydantic_core import ErrorDetails

from jmedllm.bounded_yaml import MOST_CHARACTERS, BoundedLoader
from jmedllm.errors import InputError, NoSuchPathError, unknown
from jmedllm.evaluation.evaluate import split_language
from jmedllm.recipe import Recipe
from jmedllm.settings import nearest
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Stage, model_names

_Place = tuple[str | int, ...]
"""Keys and list indices that lead to a value."""


def schema(stages: Iterable[Stage]) -> type[Recipe]:
    """Return the recipe schema with the sections of all stages, including those of other packages."""
    sections: dict[str, Any] = {
        stage.name: (stage.section | None, None)
        for stage in stages
        if stage.section and stage.name not in Recipe.model_fields
    }
    return create_model("Recipe", __base__=Recipe, **sections) if sections else Recipe


def load_recipe(path: Path, *, control: str | None = None, seed: int | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the YAML file.
        control: name of one of the recipe's `controls`, whose values replace those of the recipe.
        seed: replaces the recipe's seed and is added to its name, so that runs do not overwrite each other.

    Raises:
        InputError: the recipe is invalid; the message names the file, the line and the key, and suggests the nearest
            key.
    """
    values, lines = _read_yaml(path)
    recipe = _validate(path, values, lines)
    if control is not None:
        if not recipe.controls:
            raise InputError(f"{path}: has no controls; leave --control out")
        if control not in recipe.controls:
            raise unknown(f"control of {path}", control, recipe.controls)
        values = _overlay(values, recipe.controls[control])
        values["name"] = f"{values['name']}.{control}"
        lines |= {place[2:]: line for place, line in lines.items() if place[:2] == ("controls", control)}
    if seed is not None:
        values = values | {"seed": seed, "name": f"{values['name']}.seed{seed}"}
        lines.pop(("seed",), None)
    recipe = _validate(path, values, lines)
    return _with_models(path, recipe, lines)


@contextmanager
def located(recipe: Path) -> Iterator[None]:
    """Add to the error for a missing path where the recipe names it, and the nearest name that exists beside it."""
    try:
        yield
    except NoSuchPathError as error:
        node = yaml.compose(recipe.read_text(encoding="utf-8"), Loader=_Loader)
        places = [(place, each) for place, each in _scalars(node, ()) if _names_path(each.value, error.path)]
        if not places:
            raise
        place, scalar = places[0]
        beside = {each.name: each for each in error.path.parent.iterdir()} if error.path.parent.is_dir() else {}
        near = difflib.get_close_matches(error.path.name, beside, n=1)
        suggested = f"; did you mean {beside[near[0]]}?" if near else ""
        raise InputError(f"{recipe}:{scalar.start_mark.line + 1}: {_dotted(place)}: {error}{suggested}") from None


def _names_path(value: str, path: Path) -> bool:
    return Path(split_language(value)[0]) == path


def _scalars(node: yaml.Node | None, place: _Place) -> Iterator[tuple[_Place, yaml.ScalarNode]]:
    """Yield the values of a recipe with their places."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _scalars(value, (*place, index))
    elif isinstance(node, yaml.ScalarNode):
        yield place, node


def _with_models(path: Path, recipe: Recipe, lines: dict[_Place, int]) -> Recipe:
    """Fill in the models to evaluate, by default all that the stages yield."""
    if recipe.eval is None:
        return recipe
    names = model_names(STAGES.values(), recipe)
    for number, name in enumerate(recipe.eval.models or ()):
        if name not in names:
            place = ("eval", "models", number)
            line = next((lines[place[:n]] for n in range(3, 0, -1) if place[:n] in lines), None)
            file = f"{path}:{line}" if line else str(path)
            raise InputError(f"{file}: eval.models: {unknown('model of this recipe', name, names)}")
    models = recipe.eval.models or names
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"models": models})})


def _validate(path: Path, values: dict[str, Any], lines: dict[_Place, int]) -> Recipe:
    try:
        return schema(STAGES.values()).model_validate(values)
    except ValidationError as error:
        raise _explain(path, lines, error) from None


def _overlay(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        merged[key] = _overlay(values[key], value) if both else value
    return merged


class _Loader(BoundedLoader):
    """YAML loader that reads 5e-5 as a number, which YAML 1.1 reads as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[_Place, int]]:
    """Read the values, and the line of each key."""
    try:
        with path.open(encoding="utf-8") as handle:
            loader = _Loader(handle.read(MOST_CHARACTERS + 1))
        node = loader.get_single_node()
        located = list(_lines(node, ()))  # before construction, which replaces merge keys
        values = loader.construct_document(node) if node else None
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{place}: broken YAML: {problem}") from error
    if not isinstance(values, dict):
        found = "empty" if values is None else f"a {type(values).__name__}"
        raise InputError(f"{path}: a recipe must consist of `key: value` lines, but this file is {found}")
    lines: dict[_Place, int] = {}
    for key, line in located:
        if key in lines:
            raise InputError(f"{path}:{line}: {_dotted(key)}: given twice, first in line {lines[key]}; remove one")
        lines[key] = line
    return values, lines


def _dotted(place: _Place) -> str:
    return ".".join(map(str, place))


def _lines(node: yaml.Node | None, place: _Place) -> Iterator[tuple[_Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))


def _explain(path: Path, lines: dict[_Place, int], error: ValidationError) -> InputError:
    """Report the first error, but mistyped keys first, because they also cause errors about missing keys."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    message = _located(path, lines, first)
    others = {_place(each, lines): each for each in errors if not _follows(each, message)}
    others.pop(_place(first, lines), None)
    if len(others) == 1:
        return InputError("; also ".join([message, *(_located(path, lines, each) for each in others.values())]))
    return InputError(message + (f" (and {len(others)} more)" if others else ""))


def _located(path: Path, lines: dict[_Place, int], error: ErrorDetails) -> str:
    place = _place(error, lines)
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    return ": ".join([f"{path}:{line}" if line else str(path), *([_dotted(place)] if place else []), _problem(error)])


def _follows(error: ErrorDetails, message: str) -> bool:
    """Return whether an error is that of a missing key that the message suggests for a mistyped one."""
    return error["type"] == "missing" and f"did you mean {error['loc'][-1]}?" in message


def _place(error: ErrorDetails, lines: dict[_Place, int]) -> _Place:
    """Return the place of an error in the file, without the names that pydantic appends."""
    place = error["loc"]
    if error["type"] in ("missing", "extra_forbidden"):
        return place
    return next((place[:n] for n in range(len(place), 0, -1) if place[:n] in lines), place)


def _problem(error: ErrorDetails) -> str:
    """Describe what is wrong with a value and how to fix it."""
    kind, value, message = error["type"], error["input"], error["msg"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(schema(STAGES.values()), error['loc'])}"
    if kind == "missing":
        fix = "write [ja], [en] or [ja, en]" if error["loc"][-1] == "languages" else "it has no default"
        return f"missing; {fix}"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    found = f", found {value!r}" if isinstance(value, str | int | float | bool) else ""
    if kind == "model_type":
        return f"should be a section of `key: value` lines{found}"
    fix = ""
    if kind in ("float_type", "int_type") and isinstance(value, str):
        fix = "; write it as a number, without quotes" if _is_number(value) else "; write a number"
    elif kind == "list_type" and isinstance(value, str):
        fix = f"; write [{value}]"
    return f"{message[0].lower()}{message[1:]}{found}{fix}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
