"""Last lines of every command: written files, the next command to run, and how to use a model."""

import os
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jmedllm.errors import OPTIONAL, InputError
from jmedllm.output import visible
from jmedllm.processes import is_main_process

if TYPE_CHECKING:
    from jmedllm.report import CollectedResult


def print_ending(*command: str | Path, wrote: tuple[Path, ...] = (), program: str = "jmedllm") -> None:
    """Print where a command wrote and what to run next, on standard error, so that its output can be piped.

    Commands do not call it with --json.

    Args:
        command: words of the next command; the user replaces words in capitals.
        wrote: written files and folders.
        program: program of the next command.
    """
    if not is_main_process():
        return
    if wrote:
        typer.secho(visible(f"wrote: {', '.join(map(str, wrote))}"), err=True, fg="green")
    _print("next:", shlex.join(map(str, (program, *command))))


_SERVING = ("gguf", "xllamacpp", "starlette", "uvicorn", "httpx2")
"""Packages of the commands that `print_use` prints."""


def print_use(run: Path, model: Path, exported: Path | None) -> None:
    """Print how to serve a run's last model and how to chat with it, on standard error.

    Args:
        run: the run directory.
        model: the model directory.
        exported: its GGUF file; None if there is none yet.
    """
    if not is_main_process():
        return
    served, commands = _to_serve(run, model, exported)
    if missing := [OPTIONAL[name] for name in _SERVING if find_spec(name) is None]:
        _print("use:", shlex.join(("pip", "install", *missing)))
    serve = shlex.join(("jmedllm", "deploy", "serve", str(served)))
    _print("use:", " && ".join([*commands, serve]))
    _print("chat:", shlex.join(("jmedllm", "chat", str(served))))


def _to_serve(run: Path, model: Path, exported: Path | None) -> tuple[Path, list[str]]:
    """Return what to serve, and the commands that make it. A model that llama.cpp cannot represent serves itself."""
    from jmedllm.deploy.gguf.architectures import architecture_of, text_config
    from jmedllm.models.loading import read_config

    if exported is not None:
        return exported, []
    try:
        architecture_of(text_config(read_config(model)))
    except InputError:
        return model, []
    file = run / f"{run.resolve().name}.gguf"
    return file, [shlex.join(("jmedllm", "deploy", "gguf", str(run), "--output", str(file)))]


def _print(label: str, command: str) -> None:
    typer.secho(visible(f"{label:<6} {command}"), err=True, fg="green")


def data_options(data: Path) -> tuple[str, ...]:
    """Return the option for the data directory in the next command, if it is not the default."""
    return () if data == Path(os.environ.get("JMEDLLM_DATA", "data")) else ("--data", str(data))


def options(**given: object) -> tuple[str, ...]:
    """Return the given options for the next command, without those that are None."""
    return tuple(word for name, value in given.items() if value is not None for word in (f"--{name}", str(value)))


def after_scores(collected: "Sequence[CollectedResult]", *folders: Path) -> tuple[str | Path, ...]:
    """Return the command that follows a report: compare, or with nothing to compare the evaluation of another model
    on the same questions."""
    from jmedllm.report.compare import compare

    if compare(collected):
        return "compare", *folders
    from jmedllm.evaluation.benchmarks import BENCHMARKS
    from jmedllm.evaluation.benchmarks.columns import as_option

    result = collected[0].result
    name, source = result.settings["benchmark"], result.source
    benchmark = source.get("file") or (f"{name}:{result.settings['language']}" if name in BENCHMARKS else "NAME")
    columns = result.settings.get("map")
    skips = ("--skip-invalid",) if result.settings.get("skip_invalid") else ()
    read = (*options(map=as_option(columns) if columns else None), *skips)
    is_fetched = name in BENCHMARKS and BENCHMARKS[name].sources[result.settings["language"]] is not None
    data = data_options(Path(source["data"])) if is_fetched and Path(source.get("data", "")).is_dir() else ()
    return "eval", "--model", "MODEL", "--benchmark", benchmark, *read, *data, "--output", "DIR"
