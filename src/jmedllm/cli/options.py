"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jmedllm.plugins import plugin_names

if TYPE_CHECKING:
    from jmedllm.evaluation.evaluate import EvalConfig
    from jmedllm.named_server import ClientOptions

ITEMS, PROMPT, INFERENCE, SERVER = "Benchmarks and items", "Prompt", "Inference", "Server"
"""Groups of options in --help."""


def from_plugins(kind: str) -> str:
    """Name the members of a registry that other packages add, to end a list of choices in --help."""
    names = plugin_names(kind)
    return f"; from other packages: {', '.join(names)}" if names else ""


SCORER_NAMES = (
    "answer (reads the response), likelihood (ranks the choices), legacy (the published protocol), "
    "official (the ministry's rules), reference (compares free text), kappa (agreement beyond chance), "
    f"correction (wrong sentences of a text), entities (lists of expressions){from_plugins('scorers')}"
)
"""Scorers as --help explains them."""

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Recipe, see docs/recipes.md.")]
Control = Annotated[
    str | None,
    typer.Option(help="Apply the changes that the recipe lists under controls: NAME.", show_default="none"),
]
Data = Annotated[Path, typer.Option(help="Data directory with the benchmarks.", envvar="JMEDLLM_DATA")]
StoredData = Annotated[
    Path | None,
    typer.Option(
        help="Data directory with the benchmarks.", envvar="JMEDLLM_DATA", show_default="the one that was used"
    ),
]
Precision = Annotated[
    Literal["auto", "bfloat16", "float32"],
    typer.Option(
        help="Number format of the computation: auto (bfloat16 where fast), bfloat16 (half the memory), "
        "float32 (exact and slow).",
        rich_help_panel=INFERENCE,
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(
        help="Where to compute: auto (GPU if present), cpu (all its cores), cuda (NVIDIA or AMD GPU), "
        "mps (Apple's GPU).",
        rich_help_panel=INFERENCE,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Judge model for scorers that grade with one: model directory, or URL#NAME of a model on a server.",
        show_default="none",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads.", show_default="one for each core", rich_help_panel=INFERENCE),
]
IgnoreAdapter = Annotated[
    bool,
    typer.Option(
        "--ignore-adapter",
        help="Use the weights alone although an adapter is in the same folder.",
        rich_help_panel=INFERENCE,
    ),
]
Benchmarks = Annotated[
    str,
    typer.Option(
        help="Benchmarks or files of your own questions, separated by commas; NAME:ja for one language. "
        f"`jmedllm data list` lists them{from_plugins('benchmarks')}."
    ),
]
Languages = Annotated[
    str,
    typer.Option(
        help="Languages to evaluate, separated by commas: ja (Japanese), en (English).", rich_help_panel=ITEMS
    ),
]
Selection = Annotated[
    str | None,
    typer.Option(
        help="Which items: all (every single one), graded (no pictures, graded), legacy (as previously published).",
        show_default="legacy for benchmarks, graded for your own files",
        rich_help_panel=ITEMS,
    ),
]
PromptPack = Annotated[
    str,
    typer.Option(
        help="Prompt pack: instruction (instruction and input), preamble (medical instruction first), "
        "plain (question text only), a folder of ja.j2 and en.j2, or a published file.",
        rich_help_panel=PROMPT,
    ),
]
AnswerAs = Annotated[
    str,
    typer.Option(
        help="What to ask for: text (the choice's text), letter (the choice's label).", rich_help_panel=PROMPT
    ),
]
Shots = Annotated[
    str | None,
    typer.Option(
        help=".jsonl file of solved examples to show before each question.",
        show_default="none",
        rich_help_panel=PROMPT,
    ),
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        help="Columns of your own files, such as question=stem,choices=A:E,answer=key.",
        show_default="columns named like our fields",
        rich_help_panel=ITEMS,
    ),
]
SkipInvalid = Annotated[
    bool,
    typer.Option(
        "--skip-invalid",
        help="Leave out wrong rows, and count items that do not fit the model as unanswered, instead of stopping.",
        rich_help_panel=ITEMS,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Only the first N items of each benchmark.", show_default="all", rich_help_panel=ITEMS),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


KeyEnv = Annotated[
    str,
    typer.Option(metavar="NAME", help="Environment variable with the key of the server.", rich_help_panel=SERVER),
]
JudgeKeyEnv = Annotated[
    str,
    typer.Option(metavar="NAME", help="Environment variable with the key of a --judge.", rich_help_panel=SERVER),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="JMEDLLM_PROXY",
        help="HTTP proxy for the server. HTTP_PROXY and the like are ignored.",
        show_default="none",
        rich_help_panel=SERVER,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.001,
        help="Time limit of a request to the server, to the last byte of its reply.",
        show_default="as the work needs",
        rich_help_panel=SERVER,
    ),
]
MaxReply = Annotated[
    int,
    typer.Option(metavar="MB", min=1, help="Largest reply of the server.", rich_help_panel=SERVER),
]


def client_options(key_env: str, proxy: str | None, timeout: float | None, max_reply: int) -> "ClientOptions":
    """Build the options of a server that the user named."""
    from jmedllm.named_server import ClientOptions, parse_proxy

    return ClientOptions(key_env, None if proxy is None else parse_proxy(proxy), timeout, max_reply)


def question_map(text: str | None) -> dict[str, str]:
    """Parse --map."""
    from jmedllm.evaluation.benchmarks.columns import parse_map
    from jmedllm.evaluation.benchmarks.custom import MAP_FIELDS

    return parse_map(text, MAP_FIELDS)


def eval_config(benchmark: str, language: str, columns: str | None, **options: object) -> "EvalConfig":
    """Build the settings of an evaluation.

    Args:
        benchmark: benchmarks, separated by commas.
        language: languages, separated by commas.
        columns: the mapping of --map.
        options: other settings, named like their options.

    Raises:
        InputError: a value is not allowed; the message names the option.
    """
    from jmedllm.evaluation.evaluate import EvalConfig
    from jmedllm.settings import from_options

    return from_options(
        EvalConfig, benchmarks=split(benchmark), languages=split(language), map=question_map(columns), **options
    )


def split(text: str) -> list[str]:
    """Split a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


# What a bundle is made for
TargetPython = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Python of the other machine.", show_default="this one's")
]
TargetPlatform = Annotated[
    str | None,
    typer.Option(
        metavar="PLATFORM", help="Platform of the other machine.", show_default="manylinux_2_28 of this processor"
    ),
]
WheelFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Folder with all wheels, instead of a package index.",
        show_default="none",
    ),
]
