"""The command `jmedllm merge`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import Device, Precision


def merge(
    model: Annotated[str, typer.Option(help="Base model: directory, or id in the local Hugging Face cache.")],
    adapter: Annotated[Path, typer.Option(help="Directory of the adapter that was trained on this base.")],
    output: Annotated[Path, typer.Option(help="Directory to write the merged model to.")],
    text: Annotated[
        Path | None,
        typer.Option(
            help="Text file on which the merged model is compared with base plus adapter.",
            show_default="a built-in text",
        ),
    ] = None,
    accept_divergence: Annotated[
        float,
        typer.Option(
            help="Largest KL divergence from base plus adapter, in nats per token; a merge beyond it is refused."
        ),
    ] = 0.01,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Merge an adapter into its base model and measure the difference."""
    from jmedllm.deploy.divergence import TEXTS, read_texts
    from jmedllm.deploy.merge import MergeConfig
    from jmedllm.deploy.merge import merge as merge_into
    from jmedllm.models.folder import resolve
    from jmedllm.precision import choose_precision
    from jmedllm.settings import from_options

    settings = from_options(MergeConfig, accept_divergence=accept_divergence)
    merged = merge_into(
        resolve(model),
        adapter,
        output,
        choose_precision(precision, device),
        texts=TEXTS if text is None else read_texts(text),
        accepted=settings.accept_divergence,
    )
    divergence = merged.divergence
    typer.echo(f"merged model {merged.fingerprint} in {output}")
    typer.echo(f"KL from base plus adapter: {divergence.nats:.2g} nats per token, over {divergence.tokens} tokens")
    print_ending("eval", "--model", output, "--benchmark", "NAME", "--output", "DIR", wrote=(output,))
