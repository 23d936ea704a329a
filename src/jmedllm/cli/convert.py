"""The command `jmedllm convert`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jmedllm.cli.ending import print_ending


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.gguf|DIRECTORY",
            help="GGUF file, a wheel or zip archive that contains one, or the directory of a model with quantized "
            "weights (FP8, MXFP4, GPTQ, AWQ, compressed-tensors, bitsandbytes).",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory to write the model to.")],
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Number format of the weights: float32 (exact copy), bfloat16 (half the size)."),
    ] = "float32",
) -> None:
    """Convert a GGUF or quantized model to a plain model directory."""
    from jmedllm.models.conversion.convert import FORMATS
    from jmedllm.models.conversion.convert import convert as convert_into
    from jmedllm.models.conversion.dequantize import dequantize

    fingerprint = dequantize(file, output, FORMATS[dtype]) if file.is_dir() else convert_into(file, output, dtype)
    typer.echo(f"model {fingerprint} in {output}")
    print_ending("eval", "--model", output, "--benchmark", "NAME", "--output", "DIR", wrote=(output,))
