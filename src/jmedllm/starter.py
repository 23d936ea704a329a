"""Write a starter recipe with the user's model, data and benchmarks, and memory settings that fit a machine."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jmedllm.deploy.gguf.architectures import ARCHITECTURES
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom, load
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.evaluate import require_benchmark, split_language
from jmedllm.files import write_atomic
from jmedllm.models.folder import has_chat_template, resolve
from jmedllm.planning.auto import choose
from jmedllm.planning.machine import Machine, gib
from jmedllm.planning.plan import base_of
from jmedllm.planning.shape import config_of
from jmedllm.planning.techniques import Techniques
from jmedllm.precision import Precision
from jmedllm.recipe import Recipe
from jmedllm.stages import training_stages

TRAIN = "train"

LONGEST_BLOCK = 1024
"""Tokens of a training row, unless the model's context is shorter."""

_COMMENT_COLUMN = 42

_DEPLOY = (
    ("# deploy:", "without the # signs: exports the last model for llama.cpp, with proof; docs/deploy.md"),
    ("#   types: [q4_k_m]", "4.9 bits a weight; f16 is almost exact; q8_0, q6_k and q5_k_m are between"),
)
"""Section that a user may want, and the comment of each line."""

COMMENTS = {
    "name": "the run is written to runs/NAME",
    "seed": "the same seed gives the same result on the same machine",
    "data": "data directory, filled by `jmedllm data get`",
    "base": "the model to adapt",
    "base.path": "directory, or id in the local Hugging Face cache",
    "prompt": "how questions are asked, in training and evaluation alike",
    "prompt.pack": "instruction, preamble, plain, or a folder of templates",
    "prompt.answer_as": "text: the choice's text; letter: its label",
    "prompt.chat": "whether to use the model's chat template",
    "corpus": "medical text; test questions found in it are cut out",
    "corpus.inputs": "files and folders",
    "corpus.block_size": "tokens of a training row; longer documents are split",
    "mfpt": "stage 1: continued pretraining of all weights on the corpus",
    "mpeft": "stage 2: tuning of a LoRA adapter on questions and instructions",
    "eval": "evaluates each model on the benchmarks",
    "eval.benchmarks": "add :ja or :en for one language",
    "eval.map": "our fields and the columns of your own files",
    "eval.scorers": "answer: reads the response; likelihood: ranks the choices; docs/evaluation/scorers.md",
    "eval.models": "base: before; mfpt, mpeft: after each stage",
    "mpeft.questions": "the train split, never the test split",
    "mpeft.instructions": "files with instruction, input and output, or with messages",
    "mpeft.block_size": "tokens of a training row, and of the longest example",
    "mpeft.excess_length_strategy": "leaves longer examples out and prints how many; raise: stops",
    "mpeft.adapter": "rank and scale of LoRA, and the layers it adapts",
    "epochs": "passes over the data; `steps: N` instead sets the number of steps",
    "learning_rate": "peak; the first value to vary",
    "batch_size": "rows per optimizer step",
    "micro_batch_size": "rows per forward pass; changes speed and memory only",
}
"""Comment of each section and key by its path; for training stages also by the key alone."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """Choices of the user.

    Attributes:
        base: directory or Hugging Face id of the model to adapt.
        texts: files and folders of medical text to train on.
        questions: benchmarks and files of questions to tune on; NAME:ja for one language.
        instructions: files of instructions to tune on.
        benchmarks: benchmarks and files of questions to evaluate on; NAME:ja for one language.
        data: the data directory.
        columns: our fields with the columns of the files of questions, if they have other names.
    """

    base: str
    texts: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    data: Path = Path("data")
    columns: Mapping[str, str] = field(default_factory=dict)


def write_recipe(path: Path, wishes: Wishes, machine: Machine, precision: Precision) -> None:
    """Write a commented recipe whose training fits a machine.

    Args:
        path: file to write; it must not exist.
        wishes: choices of the user.
        machine: machine on which the recipe will run.
        precision: device and dtype of the computation on it.

    Raises:
        InputError: the file exists, no data or benchmark is given, a file is missing, the base's config is not found,
            or training does not fit the machine.
    """
    require_new(path)
    values = recipe_values(_run_name(path), wishes)
    changes = _memory(Recipe.model_validate(values), machine, precision)
    comments = dict(COMMENTS)
    for stage, made in changes.items():
        for change in made:
            values[stage] = _merged(values[stage], change.values)
            comments |= {f"{stage}.{key}": f"saves memory; cost: {change.cost}" for key in change.values}
    Recipe.model_validate(values)
    head = f"# Written by jmedllm init for {machine.gpu.name} with {gib(machine.gpu.memory)} of memory."
    how = f"# Run it: jmedllm run {_printable(path)}. All keys: docs/recipes.md."
    lines = [head, how, *_lines(values, comments), *_offered(values)]
    write_atomic(path, "\n".join(lines) + "\n")


def _offered(values: Mapping[str, Any]) -> list[str]:
    """Return the lines that offer files for llama.cpp, if it knows the architecture of the trained model."""
    architectures = config_of(values["base"]["path"]).get("architectures") or []
    if not {"mfpt", "mpeft"} & values.keys() or not set(architectures) <= ARCHITECTURES.keys():
        return []
    return ["", *(_line(text, comment) for text, comment in _DEPLOY)]


def require_new(path: Path) -> None:
    """Check that a file does not exist.

    Raises:
        InputError: it exists.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: exists; choose another name, or remove it")


def recipe_values(name: str, wishes: Wishes) -> dict[str, Any]:
    """Return the recipe as plain values, before changes that save memory.

    Raises:
        InputError: no data or benchmark is given, a file is missing, or the base's config is not found.
    """
    trains = bool(wishes.questions or wishes.instructions)
    if not (wishes.texts or trains or wishes.benchmarks):
        raise InputError(
            "nothing to do: name --texts, --questions or --instructions to train on, or --benchmark to evaluate on"
        )
    block_size = min(LONGEST_BLOCK, int(config_of(wishes.base).get("max_position_embeddings", LONGEST_BLOCK)))
    values: dict[str, Any] = {"name": name, "seed": 0, "data": str(wishes.data), "base": {"path": wishes.base}}
    values["prompt"] = {"pack": "instruction", "answer_as": "text", "chat": _has_chat_template(wishes.base)}
    if wishes.texts:
        values["corpus"] = {"inputs": list(wishes.texts), "block_size": block_size}
        values["mfpt"] = {"epochs": 1, "learning_rate": 1e-5, "batch_size": 8, "micro_batch_size": 1}
    if trains:
        questions = [_source(each, wishes.data, wishes.columns) for each in wishes.questions]
        values["mpeft"] = {
            **({"questions": questions} if questions else {}),
            **({"instructions": list(wishes.instructions)} if wishes.instructions else {}),
            "epochs": 1, "learning_rate": 1e-4, "batch_size": 8, "micro_batch_size": 1,
            "block_size": block_size, "excess_length_strategy": "drop",
            "adapter": {"r": 16, "alpha": 32, "targets": "all-linear"},
        }  # fmt: skip
    if wishes.benchmarks:
        models = ["base", *(["mfpt"] if wishes.texts else []), *(["mpeft"] if trains else [])]
        columns = map_of(wishes.benchmarks, wishes.columns)
        values["eval"] = {
            "benchmarks": list(wishes.benchmarks), **({"map": columns} if columns else {}),
            "scorers": scorers_of(wishes.benchmarks), "models": models,
        }  # fmt: skip
    return values


def scorers_of(names: Iterable[str]) -> list[str]:
    """Return the usual scorers, and those of the published metrics of benchmarks."""
    known = [BENCHMARKS[name] for name, _ in map(split_language, names) if name in BENCHMARKS]
    return [*dict.fromkeys(("answer", "likelihood", *(scorer for each in known for scorer in each.scorers)))]


def map_of(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping of columns if one of the benchmarks is a file of custom questions, else an empty one."""
    return dict(columns) if any(is_custom_file(split_language(name)[0]) for name in names) else {}


def training_languages(name: str, data: Path, columns: Mapping[str, str]) -> list[str]:
    """Return the languages in which a benchmark or a file of custom questions has questions to train on.

    Raises:
        InputError: there are none, or the files are not on disk.
    """
    benchmark, asked = split_language(name)
    require_benchmark(benchmark)
    read_options = custom.ReadOptions(tuple(map_of([name], columns).items()))
    if is_custom_file(benchmark):
        found = custom.read_file(Path(benchmark), read_options).languages
    else:
        card = BENCHMARKS[benchmark]
        found = tuple(language for language in card.languages if TRAIN in card.splits(language))
    languages = [language for language in found if not asked or language in asked]
    if not languages:
        able = [each.name for each in BENCHMARKS.values() if any(TRAIN in each.splits(one) for one in each.languages)]
        raise InputError(
            f"{name}: has no questions to train on, only test questions; benchmarks with a train split: "
            f"{', '.join(able)}"
        )
    for language in languages:
        load(benchmark, language, data, TRAIN, read_options)
    return list(languages)


def _run_name(path: Path) -> str:
    """Return the file's name with characters replaced that a run's name cannot contain."""
    return re.sub(r"[^\w.-]|^[^\w]", "-", path.stem).lstrip("-.") or "run"


def _printable(path: Path) -> str:
    """Return a path as text; bytes that are not UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _source(name: str, data: Path, columns: Mapping[str, str]) -> dict[str, Any]:
    benchmark, _ = split_language(name)
    source: dict[str, Any] = {"benchmark": benchmark, "languages": training_languages(name, data, columns)}
    if not is_custom_file(benchmark):
        return source | {"split": TRAIN}
    return source | ({"map": dict(columns)} if columns else {})


def _has_chat_template(base: str) -> bool:
    try:
        return has_chat_template(resolve(base))
    except InputError:  # a known base that is not on this machine
        return False


def _memory(recipe: Recipe, machine: Machine, precision: Precision) -> dict[str, Techniques]:
    """Return the planner's changes to each training stage."""
    base = base_of(recipe)
    return {stage.name: choose(stage, base, machine, precision).changes for stage in training_stages(recipe)}


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return values | {
        key: _merged(values[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }


def _lines(values: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    """Return the lines of the sections, each key with its comment."""
    lines: list[str] = []
    for key, value in values.items():
        if not isinstance(value, dict):
            lines.append(_line(f"{key}: {_yaml(value)}", comments[key]))
            continue
        lines += ["", _line(f"{key}:", comments[key])]
        for inner, each in value.items():
            comment = comments.get(f"{key}.{inner}") or comments[inner]
            if isinstance(each, list) and isinstance(each[0], dict):
                lines.append(_line(f"  {inner}:", comment))
                lines += [f"    - {_yaml(item)}" for item in each]
            else:
                lines.append(_line(f"  {inner}: {_yaml(each)}", comment))
    return lines


def _line(text: str, comment: str) -> str:
    return f"{text:<{_COMMENT_COLUMN}}  # {comment}"


def _yaml(value: Any) -> str:
    """Format a value on one line, with readable numbers."""
    if isinstance(value, float):
        return f"{value:.0e}".replace("e-0", "e-") if value < 1e-2 else str(value)
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return written.removesuffix("\n").removesuffix("\n...")
