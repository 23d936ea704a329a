"""The whole YAML schema of a recipe. Each component owns its settings; here they become one file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from jmedllm.deploy.merge import MergeConfig
from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.benchmarks.columns import require_fields
from jmedllm.evaluation.benchmarks.file_formats import is_table
from jmedllm.evaluation.evaluate import EvalConfig, require_benchmark, require_known, split_language
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.selection import SELECTIONS
from jmedllm.files import hash_text, to_json
from jmedllm.models.folder import Quantization
from jmedllm.models.random_init import RandomInit
from jmedllm.models.tokenizer.extend import Vocabulary
from jmedllm.precision import DeviceName, PrecisionName
from jmedllm.settings import Settings, nearest
from jmedllm.training.config import TrainingConfig, ValidationConfig, clash
from jmedllm.training.examples import ExcessLength
from jmedllm.training.instructions import INSTRUCTION_FIELDS
from jmedllm.training.lora import AdapterConfig
from jmedllm.training.mixing import MixingConfig

Weight = Annotated[float, Field(ge=0)]
Stage = Literal["corpus", "mfpt", "mpeft", "merge", "eval", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
CollectedResult = Literal["base", "mfpt", "mpeft"]

_Place = tuple[str | int, ...]
"""Keys and list indices that lead to a value."""


@contextmanager
def _told_in_place() -> Iterator[None]:
    """Make an `InputError` one of those that pydantic tells together with their place."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from None


class BaseConfig(Settings):
    """The model to adapt: a directory or hub id, or one built from nothing."""

    path: str | None = Field(None, description="directory, or id in the local Hugging Face cache")
    revision: str | None = None
    ignore_adapter: bool = Field(False, description="use the weights alone where an adapter lies beside them")
    random_init: RandomInit | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "BaseConfig":
        if (self.path is None) == (self.random_init is None):
            raise ValueError("give either path or random_init")
        return self


class CorpusConfig(Settings):
    """Raw medical text for stage 1."""

    inputs: list[str] = Field(min_length=1, description="files, folders, or the built-in corpus demo")
    field: str = Field("text", description="key of the text in lines of JSON")
    block_size: int = Field(2048, ge=8, description="tokens of a packed row")
    mixing: MixingConfig = MixingConfig()
    vocabulary: Vocabulary | None = None


class MfptConfig(TrainingConfig):
    """Stage 1: medical full-parameter training on the corpus."""


class QuestionSource(Settings):
    """Questions to train on."""

    benchmark: str = Field(description="a benchmark, or a file of your own")
    languages: list[Literal["ja", "en"]] = Field(min_length=1)
    split: str = Field("train", description="any but test")
    selection: str = Field("graded", description="which items: all, graded, legacy")
    map: dict[str, str] = Field({}, description="our fields → columns of your own file, see docs/questions.md")
    skip_invalid: bool = Field(False, description="leave wrong rows of your own file out and count them")

    @property
    def read_options(self) -> custom.ReadOptions:
        """How a file of the user's own is read."""
        return custom.ReadOptions(tuple(self.map.items()), self.skip_invalid)

    @model_validator(mode="after")
    def _known(self) -> "QuestionSource":
        with _told_in_place():
            require_benchmark(self.benchmark)
            require_fields(self.map, custom.MAP_FIELDS)
            if self.read_options != custom.DEFAULT_READ_OPTIONS and not is_table(self.benchmark):
                raise InputError("map and skip_invalid belong to a file of your own; leave them out")
            if self.selection not in SELECTIONS:
                raise unknown("selection", self.selection, SELECTIONS)
        return self

    @field_validator("split")
    @classmethod
    def _never_the_exam(cls, split: str) -> str:
        if split == "test":
            raise ValueError("a model trained on a test split has seen its exam; train on another split")
        return split


class MpeftConfig(TrainingConfig):
    """Stage 2: medical parameter-efficient tuning on questions and instructions."""

    questions: list[QuestionSource] = Field([], description="see QuestionSource")
    instructions: list[str] = Field(
        [], description="files of instruction, input, output, or of messages, or of ShareGPT's conversations"
    )
    map: dict[str, str] = Field({}, description="our fields → columns of the instructions' files")
    skip_invalid: bool = Field(False, description="leave wrong rows of the instructions' files out and count them")
    weights: dict[str, Weight] = Field(
        {}, description="benchmark, file or language → how often each of its examples is there; else once"
    )
    replay: float = Field(0.0, ge=0, lt=1, description="share of the examples that are corpus documents")
    max_prompt_tokens: int | None = Field(None, ge=1, description="most tokens of a prompt")
    max_completion_tokens: int | None = Field(None, ge=2, description="most tokens of an answer, EOS included")
    block_size: int = Field(2048, ge=8, description="tokens of a packed row: most of a prompt with its answer")
    excess_length_strategy: ExcessLength = Field("raise", description="drop: leave longer examples out and count them")
    adapter: AdapterConfig = AdapterConfig()
    offload_embedding: bool = Field(False, description="keep the input embedding in host memory")

    @property
    def read_options(self) -> custom.ReadOptions:
        """How the files of instructions are read."""
        return custom.ReadOptions(tuple(self.map.items()), self.skip_invalid)

    @field_validator("map")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        with _told_in_place():
            require_fields(columns, INSTRUCTION_FIELDS)
        return columns

    @model_validator(mode="after")
    def _some_data(self) -> "MpeftConfig":
        if not self.questions and not self.instructions:
            raise ValueError("give questions or instructions to train on")
        return self

    @model_validator(mode="after")
    def _adapter_is_small(self) -> "MpeftConfig":
        if self.cpu_offload != "none" or self.optimizer_in_backward:
            raise ValueError("cpu_offload and optimizer_in_backward belong to mfpt: adapters are small; remove them")
        return self


class EvalSection(EvalConfig):
    """What is sat, and by which models of the run."""

    models: list[CollectedResult] = Field(["base", "mfpt", "mpeft"], min_length=1)
    quantization: Quantization = Field("none", description="nf4: models sit in 4 bits, mpeft as it was trained")

    @model_validator(mode="after")
    def _known(self) -> "EvalSection":
        with _told_in_place():
            require_known(self)
        return self


class Recipe(Settings):
    """One adaptation from raw text to report; a stage that is left out is not run."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    seed: int = Field(0, ge=0)
    data: str = Field("data", description="data directory, as `jmedllm data get` fills it")
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    threads: int | None = Field(None, ge=1, description="CPU threads; by default one for each core")
    memory: Literal["as-configured", "auto"] = Field(
        "as-configured", description="auto: train in the first way that fits this machine, see docs/plan.md"
    )
    base: BaseConfig
    prompt: PromptConfig = PromptConfig()
    corpus: CorpusConfig | None = None
    validation: ValidationConfig | None = None
    mfpt: MfptConfig | None = None
    mpeft: MpeftConfig | None = None
    merge: MergeConfig = MergeConfig()
    eval: EvalSection | None = None
    controls: dict[str, dict[str, Any]] = Field({}, description="named changes for `run --control NAME`")

    # What was wrong with an earlier section is told there, so a section that failed counts as given.
    @field_validator("mfpt")
    @classmethod
    def _text_to_train_on(cls, mfpt: MfptConfig | None, info: ValidationInfo) -> MfptConfig | None:
        if mfpt and info.data.get("corpus", ...) is None:
            raise ValueError("needs a corpus section")
        return mfpt

    @field_validator("mfpt", "mpeft")
    @classmethod
    def _one_precision(cls, stage: TrainingConfig | None, info: ValidationInfo) -> TrainingConfig | None:
        if stage and (reason := clash(stage.weight_format, info.data.get("precision", "auto"))):
            raise ValueError(reason)
        return stage

    @field_validator("validation")
    @classmethod
    def _text_to_hold_out(cls, validation: ValidationConfig | None, info: ValidationInfo) -> ValidationConfig | None:
        if validation and validation.held_out and info.data.get("corpus", ...) is None:
            raise ValueError("held_out needs a corpus section")
        return validation

    @field_validator("mfpt", "mpeft")
    @classmethod
    def _something_to_watch(cls, stage: TrainingConfig | None, info: ValidationInfo) -> TrainingConfig | None:
        if stage and stage.early_stopping.metric and info.data.get("validation", ...) is None:
            raise ValueError("early_stopping.metric needs a validation section, which says what is measured")
        return stage

    @field_validator("mpeft")
    @classmethod
    def _text_to_replay(cls, mpeft: MpeftConfig | None, info: ValidationInfo) -> MpeftConfig | None:
        if mpeft and mpeft.replay and info.data.get("corpus", ...) is None:
            raise ValueError("replay needs a corpus section")
        return mpeft

    @field_validator("eval")
    @classmethod
    def _models_to_examine(cls, exam: EvalSection | None, info: ValidationInfo) -> EvalSection | None:
        for model in exam.models if exam else ():
            if model != "base" and info.data.get(model, ...) is None:
                raise ValueError(f"models names {model}, but there is no {model} section")
        return exam

    @field_validator("eval")
    @classmethod
    def _nothing_chosen_by_the_exam(cls, exam: EvalSection | None, info: ValidationInfo) -> EvalSection | None:
        validation = info.data.get("validation")
        chosen_by = [name for stage in ("mfpt", "mpeft") for name in _chosen_by(info.data.get(stage))]
        if (
            exam
            and validation
            and validation.split == exam.split
            and any(n.startswith("accuracy.") for n in chosen_by)
        ):
            for name in {split_language(each)[0] for each in validation.benchmarks}:
                if name in {split_language(each)[0] for each in exam.benchmarks}:
                    raise ValueError(
                        f"{name} also chooses the weights (early_stopping.metric), which makes its score too good; "
                        "choose by another benchmark, another split or bits per byte"
                    )
        return exam

    @model_validator(mode="after")
    def _text_for_the_tokenizer(self) -> "Recipe":
        if self.base.random_init and not self.corpus:
            raise ValueError("base.random_init needs a corpus section, for its tokenizer")
        return self

    @model_validator(mode="after")
    def _a_template_to_shape(self) -> "Recipe":
        shapes = bool(self.prompt.chat_template_kwargs or self.prompt.date)
        if shapes and not self.prompt.chat and not (self.mpeft and self.mpeft.instructions):
            raise ValueError(
                "prompt.chat_template_kwargs and prompt.date shape the chat template; set prompt.chat: true"
            )
        return self

    @model_validator(mode="after")
    def _something_to_plan_from(self) -> "Recipe":
        if self.memory == "auto" and self.base.random_init:
            raise ValueError(
                "memory: auto plans from the config of a base, and base.random_init has none; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _training_for_new_tokens(self) -> "Recipe":
        if self.corpus and self.corpus.vocabulary and not self.mfpt:
            raise ValueError("corpus.vocabulary needs an mfpt section, which trains the new tokens")
        return self


def _chosen_by(stage: TrainingConfig | None) -> list[str]:
    return stage.early_stopping.metric if stage else []


def recipe_hash(recipe: Recipe) -> str:
    """Hash over all values of a recipe, defaults included."""
    return hash_text(to_json(recipe.model_dump()))


def load_recipe(path: Path, *, control: str | None = None, seed: int | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the YAML file.
        control: one of the recipe's `controls`, laid over it.
        seed: replaces the recipe's seed and is added to its name, so that runs do not overwrite each other.

    Raises:
        InputError: names the file, the line and the key that is wrong, and the nearest right one.
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
    return _validate(path, values, lines)


def _validate(path: Path, values: dict[str, Any], lines: dict[_Place, int]) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(path, lines, error) from None


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
    except ValueError as error:  # YAML reads 2020-13-45 as a date
        raise InputError(f"{path}: broken YAML: {error}; put the value in quotes") from error
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{place}: broken YAML: {problem}") from error
    if not isinstance(values, dict):
        found = "empty" if values is None else f"a {type(values).__name__}"
        raise InputError(f"{path}: a recipe is a file of `key: value` lines, this one is {found}")
    lines: dict[_Place, int] = {}
    for key, line in _lines(node, ()):
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
    """Tell the first error: a mistyped key first of all, for what it was meant to be is then missing too."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    place = _place(first, lines)
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    more = len({_place(each, lines) for each in errors}) - 1
    rest = f" (and {more} more)" if more else ""
    parts = [f"{path}:{line}" if line else str(path), *([_dotted(place)] if place else []), _problem(first)]
    return InputError(": ".join(parts) + rest)


def _place(error: ErrorDetails, lines: dict[_Place, int]) -> _Place:
    """Where an error is, as far as it is written: behind that pydantic puts names of its own."""
    place = error["loc"]
    if error["type"] in ("missing", "extra_forbidden"):
        return place
    return next((place[:n] for n in range(len(place), 0, -1) if place[:n] in lines), place)


def _problem(error: ErrorDetails) -> str:
    """What is wrong with a value and how to mend it."""
    kind, value, message = error["type"], error["input"], error["msg"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(Recipe, error['loc'])}"
    if kind == "missing":
        return "missing; it has no default"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    found = f", found {value!r}" if isinstance(value, str | int | float | bool) else ""
    if kind == "model_type":
        return f"should be a section of `key: value` lines{found}"
    mend = ""
    if kind in ("float_type", "int_type") and isinstance(value, str):
        mend = "; write it as a number, without quotes" if _is_number(value) else "; write a number"
    elif kind == "list_type" and isinstance(value, str):
        mend = f"; write [{value}]"
    return f"{message[0].lower()}{message[1:]}{found}{mend}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
