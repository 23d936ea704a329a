"""The command `jmedllm init`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import Data, question_map, split
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.planning.machine import Machine
    from jmedllm.precision import Precision

T = TypeVar("T")


NewRecipe = Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="File to write.")]
BaseModel = Annotated[
    str | None,
    typer.Option(help="Model to adapt: directory, or id in the local Hugging Face cache.", show_default="asked for"),
]
Texts = Annotated[
    str | None,
    typer.Option(help="Files and folders of medical text to train on, separated by commas.", show_default="none"),
]
TrainingQuestions = Annotated[
    str | None,
    typer.Option(
        help="Benchmarks or files of your own questions to tune on, separated by commas.", show_default="none"
    ),
]
Instructions = Annotated[
    str | None,
    typer.Option(help="Files of instructions to tune on, separated by commas.", show_default="none"),
]
BenchmarkNames = Annotated[
    str | None,
    typer.Option(
        help="Benchmarks or files of your own questions to evaluate on, separated by commas.",
        show_default="none",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--map",
        help="Columns of the files with your own questions, such as question=stem,choices=A:E,answer=key.",
        show_default="columns named like our fields",
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        help="GPU that the recipe will run on, such as rtx4090 or 24GiB.",
        show_default="this machine",
    ),
]
Ram = Annotated[
    str | None,
    typer.Option(help="Host memory of the machine with that GPU, such as 64GiB.", show_default="this machine's"),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: use defaults for what is not given.")]


def init(
    recipe: NewRecipe = Path("recipe.yaml"),
    base: BaseModel = None,
    texts: Texts = None,
    questions: TrainingQuestions = None,
    instructions: Instructions = None,
    benchmark: BenchmarkNames = None,
    columns: Columns = None,
    gpu: Gpu = None,
    ram: Ram = None,
    data: Data = Path("data"),
    yes: Yes = False,
) -> None:
    """Write a commented recipe for your model, data and benchmarks."""
    from jmedllm.starter import Wishes, require_new, write_recipe

    require_new(recipe)
    mapped = question_map(columns)
    asks = not yes and sys.stdin.isatty()
    own = _OwnFiles(asks and columns is None, mapped)
    wishes = Wishes(
        base=_answer(asks, base, "Model to adapt (directory or Hugging Face id)", _require_base),
        texts=_answer(asks, texts, "Medical texts to train on (files, folders, or empty)", _require_texts),
        questions=_answer(
            asks, questions, "Questions to tune on (benchmarks, files, or empty)",
            lambda text: own.read(text, lambda columns: _questions(text, data, columns)),
        ),
        instructions=_answer(asks, instructions, "Instructions to tune on (files, or empty)", _require_instructions),
        benchmarks=_answer(
            asks, benchmark, "Benchmarks to evaluate on (names, files, or empty)",
            lambda text: own.read(text, lambda columns: _benchmarks(text, data, columns)),
        ),
        data=data,
    )  # fmt: skip
    machine, precision = _answer(
        asks, gpu, "GPU (name, memory such as 24GiB, empty for this machine)", lambda text: _read_machine(text, ram)
    )
    write_recipe(recipe, replace(wishes, columns=own.columns), machine, precision)
    print_ending("run", recipe, wrote=(recipe,))


@dataclass
class _OwnFiles:
    """Reads files of custom questions, and asks for their columns if they have other names.

    Attributes:
        asks: whether to ask.
        columns: the mapping of columns, given or answered.
    """

    asks: bool
    columns: Mapping[str, str] = field(default_factory=dict)

    def read(self, text: str, read: Callable[[Mapping[str, str]], T]) -> T:
        """Read with the mapping; if that fails for a file that exists, ask for the mapping once."""
        from jmedllm.evaluation.benchmarks.columns import UnmappedColumnsError

        try:
            return read(self.columns)
        except InputError as error:
            if not self.asks or self.columns or not any(Path(name).is_file() for name in split(text)):
                raise
            typer.secho(f"error: {error}", err=True, fg="red")
            suggested = error.mapping if isinstance(error, UnmappedColumnsError) else ""
            default = "Enter for the mapping above" if suggested else "or empty"
            columns = _answer(
                True,
                None,
                f"Columns of the file (OURS=THEIRS, {default})",
                lambda text: question_map(text or suggested),
            )
            if not columns:
                raise
            found = read(columns)
            self.columns = columns
            return found


def _answer(asks: bool, given: str | None, question: str, read: Callable[[str], T]) -> T:
    """Return the value of an option, or ask the user until the answer is valid."""
    if given is not None or not asks:
        return read(given or "")
    while True:
        try:
            return read(typer.prompt(question, default="", show_default=False, err=True))
        except InputError as error:
            typer.secho(f"error: {error}", err=True, fg="red")


def _require_base(text: str) -> str:
    from jmedllm.planning.shape import config_of

    if not text:
        raise InputError("give --base, the model to adapt: a directory or a Hugging Face id")
    config_of(text)
    return text


def _require_texts(text: str) -> tuple[str, ...]:
    from jmedllm.corpus.readers.reader import require_text

    names = split(text)
    for name in names:
        require_text([Path(name)])
    return tuple(names)


def _require_instructions(text: str) -> tuple[str, ...]:
    from jmedllm.training.instructions import read_instruction_file

    names = split(text)
    for name in names:
        if not read_instruction_file(Path(name)).items:
            raise InputError(f"{name}: contains no instruction; give files that do")
    return tuple(names)


def _questions(text: str, data: Path, columns: Mapping[str, str]) -> tuple[str, ...]:
    from jmedllm.starter import training_languages

    for name in split(text):
        training_languages(name, data, columns)
    return tuple(split(text))


def _benchmarks(text: str, data: Path, columns: Mapping[str, str]) -> tuple[str, ...]:
    from jmedllm.evaluation.evaluate import EvalConfig, tasks
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.settings import from_options
    from jmedllm.starter import map_of, scorers_of

    names = split(text)
    if names:
        settings = from_options(EvalConfig, benchmarks=names, map=map_of(names, columns), scorers=scorers_of(names))
        tasks(settings, PromptConfig(), data)
    return tuple(names)


def _read_machine(text: str, ram: str | None) -> "tuple[Machine, Precision]":
    """Return a machine with its precision: with a GPU given by name or size, or this machine."""
    import os

    import torch

    from jmedllm.planning.machine import Machine, host_memory, read_gpu, read_size, this_machine
    from jmedllm.precision import Precision, choose_precision

    if not text:
        if ram is not None:
            raise InputError("--ram describes another machine; give its --gpu, too")
        precision = choose_precision()
        return this_machine(precision.device), precision
    memory, cores = (read_size(ram, "--ram"), None) if ram else (host_memory(), os.cpu_count())
    machine = Machine(read_gpu(text), 1, 1, memory, cores=cores)
    return machine, Precision(torch.device("cuda"), torch.bfloat16, "planned for a GPU")
