"""`jmedllm deploy serve`: an HTTP server and a chat page on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from jmedllm.serving.model import ServedModel


def deploy_serve(
    model: Annotated[
        Path, typer.Argument(metavar="FILE.gguf|MODEL|RUN", help="GGUF file, model directory or run to serve.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 for a free one.")] = 8080,
    slots: Annotated[int, typer.Option(min=1, max=256, help="Answers that are written at the same time.")] = 2,
    context: Annotated[
        int | None,
        typer.Option(min=64, help="Tokens of a prompt and its answer.", show_default="the model's own, at most 8192"),
    ] = None,
    backend: Annotated[
        Literal["llama_cpp", "vllm", "transformers"] | None,
        typer.Option(
            help="What runs the model: llama_cpp (GGUF files), vllm (model directories, on GPUs), transformers (model "
            "directories, anywhere).",
            show_default="the first that suits the model and this machine",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads on the CPU.", show_default="number of cores")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key; created if it is missing.", show_default="~/.config/jmedllm/key"),
    ] = None,
    queue: Annotated[int, typer.Option(min=0, max=100_000, help="Requests that may wait for a slot.")] = 64,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Time limit of an answer and its time in the queue, in seconds.")
    ] = 600,
    log_prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Append the texts of prompts and answers to this file, which only you can read.",
            show_default="not logged",
        ),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Load a file whose checksum is not known here.")] = False,
) -> None:
    """Serve a model on this machine, OpenAI-compatible, behind a key."""
    import asyncio

    from jmedllm.errors import InputError, not_installed
    from jmedllm.files import append_jsonl

    try:
        from jmedllm.serving.limits import Limits
        from jmedllm.serving.model import ServeOptions
        from jmedllm.serving.run import BackendEnded, serve
    except ModuleNotFoundError as error:
        raise not_installed("deploy serve", str(error.name)) from error
    if not model.exists():
        raise InputError(f"{model}: no such file; write one with: jmedllm deploy gguf RUN --output {model}")
    if log_prompts is not None:
        append_jsonl(log_prompts, [])
        if log_prompts.is_file() and log_prompts.stat().st_mode & 0o077:
            raise InputError(f"{log_prompts}: other users can read this file; run: chmod 600 {log_prompts}")
    options = ServeOptions(backend=backend, slots=slots, context=context, threads=threads, trust=trust)
    limits = Limits(queue=queue, answer_s=time_limit)
    serving = serve(
        model, options, port=port, key_file=key_file, limits=limits, prompt_log=log_prompts, announce=announce
    )
    try:
        asyncio.run(serving)
    except BackendEnded as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise typer.Exit(1) from error  # a service manager starts it again, which it does not after invalid input
    typer.echo("stopped", err=True)


def announce(model: "ServedModel", address: str, key: str) -> None:
    """Print where a server listens."""
    typer.echo(f"model: {model.name}, {model.backend}, {model.slots} slots of {model.context:,} tokens", err=True)
    if model.format.template is None:
        typer.echo("note: the model has no chat template; the texts of messages are joined with line feeds", err=True)
    typer.echo(f"programs: {address}/v1 with the key as a bearer token", err=True)
    typer.echo(f"browser: {address}/?key={key}")
    typer.echo("stop with Ctrl-C", err=True)
