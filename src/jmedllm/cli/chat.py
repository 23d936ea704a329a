"""The command `jmedllm chat`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from jmedllm.cli.options import KeyEnv, MaxReply, Proxy, Timeout, client_options
from jmedllm.errors import InputError
from jmedllm.files import open_private

if TYPE_CHECKING:
    from jmedllm.named_server import ClientOptions
    from jmedllm.serving.client import ChatClient

_DEFAULT_SERVER = "http://127.0.0.1:8080"


def chat(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE|RUN|MODEL]",
            help="GGUF file, run or model directory; its server starts and stops with the chat.",
            show_default="none",
        ),
    ] = None,
    server: Annotated[str, typer.Option(metavar="URL", help="Running server to chat with instead.")] = _DEFAULT_SERVER,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the server's key. For servers on this machine, the key that deploy serve created.",
            show_default="the key in --key-env",
        ),
    ] = None,
    key_env: KeyEnv = "JMEDLLM_API_KEY",
    proxy: Proxy = None,
    timeout: Timeout = None,
    max_reply: MaxReply = 16,
    system: Annotated[str, typer.Option(help="System prompt.", show_default="none")] = "",
    temperature: Annotated[
        float | None,
        typer.Option(help="Temperature of the sampling; 0 for the most likely token.", show_default="the server's"),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Share of the probability to sample from.", show_default="the server's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.", show_default="the server's")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Largest number of tokens of an answer.", show_default="the server's")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=64, help="Tokens of a prompt and its answer.", show_default="the model's"),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Load a file whose checksum is not known here.")] = False,
    history: Annotated[
        Path | None,
        typer.Option(help="File for the lines you type, readable by you only.", show_default="not kept"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each question of a pipe.")] = False,
) -> None:
    """Chat with a model in the terminal. From a pipe, each line is a question of its own."""
    from jmedllm.serving.terminal import NOT_A_DEVICE, Conversation, Terminal, answer_lines, converse

    given = {"temperature": temperature, "top_p": top_p, "seed": seed, "max_tokens": max_tokens}
    sampling = {name: value for name, value in given.items() if value is not None}
    if as_json and sys.stdin.isatty():
        raise InputError("--json: reads questions from a pipe; give them as: jmedllm chat --json < questions.txt")
    options = client_options(key_env, proxy, timeout, max_reply)
    with _client(model, server, key_file, options, context, trust) as client:
        conversation = Conversation(client, client.model(), system, sampling)
        if not sys.stdin.isatty():
            typer.echo(NOT_A_DEVICE, err=True)
            answer_lines(conversation, _lines(sys.stdin.buffer), _write, as_json=as_json)
            return
        has_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        signal.signal(signal.SIGINT, signal.default_int_handler)  # each Ctrl-C counts: the second may follow at once
        with _line_editing(history):
            converse(conversation, Terminal(input, _write, is_dim=has_colour))


@contextmanager
def _client(
    model: Path | None, server: str, key_file: Path | None, options: "ClientOptions", context: int | None, trust: bool
) -> "Iterator[ChatClient]":
    from jmedllm.named_server import announce, parse_server
    from jmedllm.serving.client import ChatClient, key_for
    from jmedllm.serving.own_server import own_server

    if model is None:
        if context is not None or trust:
            raise InputError("--context and --trust belong to a FILE, RUN or MODEL; give one")
        url = parse_server(server).removesuffix("/v1")
        key = key_for(url, key_file, options)
        announce(url, "questions", options, key)
        yield ChatClient(url, key, options)
        return
    if server != _DEFAULT_SERVER or key_file is not None:
        raise InputError("chat: give either a FILE, RUN or MODEL, or a --server with its --key-file")
    if not model.exists():
        raise InputError(f"{model}: no such file; write one with: jmedllm deploy gguf RUN --output {model}")
    typer.echo(f"loading {model} ...", err=True)
    with own_server(model, context=context, trust=trust) as client:
        yield client


@contextmanager
def _line_editing(history: Path | None) -> Iterator[None]:
    """Let the user edit lines, and keep them in a file if one is given."""
    try:
        import readline
    except ImportError:  # Python without readline; lines can still be read
        if history is not None:
            raise InputError("--history: this Python has no readline; leave it out") from None
        yield
        return
    if history is not None:
        try:
            os.close(open_private(history, os.O_RDWR | os.O_CREAT))
            readline.read_history_file(history)
        except OSError as error:
            raise InputError(f"--history {history}: {error.strerror}; give another file") from error
    try:
        yield
    finally:
        if history is not None:
            readline.write_history_file(history)


def _lines(stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} of the input is not UTF-8; convert it with iconv") from error


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
