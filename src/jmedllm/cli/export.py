"""The commands of `jmedllm export`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import (
    AnswerAs,
    Benchmarks,
    Data,
    Languages,
    Limit,
    Map,
    PromptPack,
    Selection,
    Shots,
    SkipInvalid,
    eval_config,
)
from jmedllm.cli.printing import print_item_notes

export_app = typer.Typer(help="Export the same items to other evaluation harnesses.", no_args_is_help=True)


@export_app.callback()
def _export() -> None:
    # With a callback, a single harness keeps its name on the command line.
    pass


@export_app.command("lm-eval")
def export_lm_eval(
    benchmark: Benchmarks,
    output: Annotated[Path, typer.Option(help="Directory to write the tasks to.")],
    data: Data = Path("data"),
    language: Languages = "ja,en",
    selection: Selection = None,
    prompt: PromptPack = "instruction",
    answer_as: AnswerAs = "text",
    shots: Shots = None,
    limit: Limit = None,
    columns: Map = None,
    skip_invalid: SkipInvalid = False,
) -> None:
    """Write benchmarks as tasks of lm-eval."""
    from jmedllm.evaluation.evaluate import tasks
    from jmedllm.evaluation.export import export_lm_eval as export
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.settings import from_options

    settings = eval_config(
        benchmark, language, columns, scorers=["likelihood"], selection=selection, limit=limit,
        skip_invalid=skip_invalid,
    )  # fmt: skip
    prompt_config = from_options(PromptConfig, pack=prompt, answer_as=answer_as, shots=shots)
    found = tasks(settings, prompt_config, data)
    print_item_notes(found)
    written = export(found, output)
    for task in written:
        left_out = f", {task.left_out} left out: not exactly one right choice" if task.left_out else ""
        typer.echo(f"{task.name}: {task.n} items{left_out}")
    names = ",".join(task.name for task in written)
    print_ending(
        "--model", "hf", "--model_args", "pretrained=MODEL", "--include_path", output, "--tasks", names,
        wrote=(output,), program="lm_eval",
    )  # fmt: skip
