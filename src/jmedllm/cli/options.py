"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe.")]
Control = Annotated[str | None, typer.Option(help="Lay one of the recipe's controls over it.")]
Data = Annotated[Path, typer.Option(help="Data directory.", envvar="JMEDLLM_DATA")]
Precision = Annotated[
    Literal["auto", "bfloat16", "float32"], typer.Option(help="Number format of the matrix products.")
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")]
IgnoreAdapter = Annotated[
    bool, typer.Option("--ignore-adapter", help="Use the weights alone where an adapter lies beside them.")
]
Benchmarks = Annotated[
    str, typer.Option(help="Names or your own files, with commas between; NAME:ja for one language.")
]
Languages = Annotated[str, typer.Option(help="ja, en or both.")]
Selection = Annotated[
    str | None,
    typer.Option(help="Which items: all, graded [for your own files] or legacy [for benchmarks]."),
]
PromptPack = Annotated[str, typer.Option(help="Prompt pack: name, folder or published file.")]
AnswerAs = Annotated[str, typer.Option(help="Ask for the choice's text or its letter.")]
Shots = Annotated[str | None, typer.Option(help=".jsonl file of solved examples.")]
Map = Annotated[
    str | None,
    typer.Option("--map", help="Columns of your own files, such as question=stem,choices=A:E,answer=key."),
]
SkipInvalid = Annotated[
    bool,
    typer.Option(
        "--skip-invalid",
        help="Leave wrong rows out and count items that cannot be asked as no answer [they are errors].",
    ),
]
Limit = Annotated[int | None, typer.Option(help="Only the first N items of each paper.")]


def question_map(text: str | None) -> dict[str, str]:
    """The mapping behind --map."""
    from jmedllm.evaluation.benchmarks.columns import parse_map
    from jmedllm.evaluation.benchmarks.custom import MAP_FIELDS

    return parse_map(text, MAP_FIELDS)


def split(text: str) -> list[str]:
    """What stands between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
