"""Options that shape the responses of `jmedllm eval`."""

from typing import Annotated

import typer

from jmedllm.cli.options import INFERENCE

MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        help="Maximum length of a response, in tokens.",
        show_default="256, or 8192 if the model thinks first",
        rich_help_panel=INFERENCE,
    ),
]
DecodingOption = Annotated[
    str,
    typer.Option(
        "--decoding",
        help="How tokens are chosen: greedy, recommended (by the model's makers), or values such as "
        "temperature=0.6,top_p=0.95 (also top_k, min_p, repetition_penalty).",
        rich_help_panel=INFERENCE,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--samples",
        help="Number of responses to each item, with --decoding.",
        show_default="1",
        rich_help_panel=INFERENCE,
    ),
]
Repeat = Annotated[
    int,
    typer.Option(
        help="Ask a server each item this often with greedy decoding, to measure its own variance.",
        rich_help_panel=INFERENCE,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", help="Seed of the random numbers of --decoding.", show_default="0", rich_help_panel=INFERENCE
    ),
]
