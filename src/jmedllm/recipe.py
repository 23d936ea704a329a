"""The whole YAML schema of a recipe. Each component owns its settings; here they become one file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from jmedllm.errors import InputError, unknown
from jmedllm.exam.examine import ExamSettings, require_benchmark, require_known
from jmedllm.exam.prompts.asking import Prompting
from jmedllm.models.scratch import Scratch
from jmedllm.precision import DeviceName, PrecisionName
from jmedllm.settings import Settings, nearest
from jmedllm.training.adapter import Adapter
from jmedllm.training.loop import Optimization

Stage = Literal["corpus", "mfpt", "mpeft", "merge", "exam", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Sat = Literal["base", "mfpt", "mpeft"]


class Base(Settings):
    """The model to adapt: a directory or hub id, or one built from nothing."""

    path: str | None = Field(None, description="directory, or id in the local Hugging Face cache")
    revision: str | None = None
    scratch: Scratch | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Base":
        if (self.path is None) == (self.scratch is None):
            raise ValueError("give either path or scratch")
        return self


class Corpus(Settings):
    """Raw medical text for stage 1."""

    inputs: list[str] = Field(min_length=1, description="files, folders, or the built-in corpus demo")
    block_size: int = Field(2048, ge=8, description="tokens of a packed row")


class Mfpt(Optimization):
    """Stage 1: medical full-parameter training on the corpus."""


class QuestionSource(Settings):
    """Questions to train on."""

    benchmark: str = Field(description="a benchmark, or a .jsonl file of your own")
    languages: list[Literal["ja", "en"]] = Field(min_length=1)
    split: str = "train"
    selection: str = Field("graded", description="which items: all, graded, legacy")


class Mpeft(Optimization):
    """Stage 2: medical parameter-efficient tuning on questions and instructions."""

    questions: list[QuestionSource] = Field([], description="see QuestionSource")
    instructions: list[str] = Field([], description=".json or .jsonl files of instruction, input, output")
    replay: float = Field(0.0, ge=0, lt=1, description="share of the examples that are corpus documents")
    block_size: int = Field(2048, ge=8, description="tokens of a packed row; longer examples are an error")
    adapter: Adapter = Adapter()

    @model_validator(mode="after")
    def _some_data(self) -> "Mpeft":
        if not self.questions and not self.instructions:
            raise ValueError("give questions or instructions to train on")
        return self


class RecipeExam(ExamSettings):
    """What is sat, and by which models of the run."""

    models: list[Sat] = Field(["base", "mfpt", "mpeft"], min_length=1)


class Recipe(Settings):
    """One adaptation from raw text to report; a stage that is left out is not run."""

    name: str = Field(pattern=r"^[\w.-]+$")
    seed: int = Field(0, ge=0)
    data: str = Field("data", description="data directory, as `jmedllm data get` fills it")
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    base: Base
    prompt: Prompting = Prompting()
    corpus: Corpus | None = None
    mfpt: Mfpt | None = None
    mpeft: Mpeft | None = None
    exam: RecipeExam | None = None
    controls: dict[str, dict[str, Any]] = Field({}, description="named changes for `run --control NAME`")

    @model_validator(mode="after")
    def _stages_fit(self) -> "Recipe":
        if self.mfpt and not self.corpus:
            raise ValueError("mfpt needs a corpus section")
        if self.mpeft and self.mpeft.replay and not self.corpus:
            raise ValueError("mpeft.replay needs a corpus section")
        for model in self.exam.models if self.exam else ():
            if model != "base" and getattr(self, model) is None:
                raise ValueError(f"exam.models names {model}, but there is no {model} section")
        return self


def load_recipe(path: Path, *, control: str | None = None, seed: int | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the YAML file.
        control: one of the recipe's `controls`, laid over it.
        seed: replaces the recipe's seed.

    Raises:
        InputError: names the file, the line and the key that is wrong, and the nearest right one.
    """
    values, lines = _read_yaml(path)
    if control is not None:
        controls = values.get("controls") or {}
        if control not in controls:
            raise unknown(f"control of {path}", control, controls)
        values = _overlay(values, controls[control])
        values["name"] = f"{values.get('name')}.{control}"
    if seed is not None:
        values["seed"] = seed
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(path, lines, error) from None
    if recipe.exam:
        require_known(recipe.exam)
    for source in recipe.mpeft.questions if recipe.mpeft else ():
        require_benchmark(source.benchmark)
    return recipe


def _overlay(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        merged[key] = _overlay(values[key], value) if both else value
    return merged


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 5e-5 as a string; every recipe writes learning rates so."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)

_Place = tuple[str | int, ...]


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[_Place, int]]:
    """The values, and the line of each key."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{place}: broken YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe is a list of `key: value` lines, this is {type(values).__name__}")
    return values, dict(_lines(node, ()))


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
    first = error.errors()[0]
    place: _Place = first["loc"]
    known = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in lines), ())
    where = f"{path}:{lines[known]}" if known else str(path)
    key = ".".join(map(str, place)) or "recipe"
    more = len(error.errors()) - 1
    rest = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return InputError(f"{where}: {key}: unknown key{nearest(Recipe, place)}{rest}")
    problem = first["msg"].removeprefix("Value error, ")
    found = f", found {first['input']!r}" if isinstance(first["input"], str | int | float | bool) else ""
    return InputError(f"{where}: {key}: {problem[0].lower()}{problem[1:]}{found}{rest}")
