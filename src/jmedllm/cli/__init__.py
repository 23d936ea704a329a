"""The command line. Commands import heavy libraries only when they run, so that --help is fast."""

import os
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from io import TextIOWrapper
from typing import NoReturn

import typer
from typer.exceptions import Abort, TyperException

from jmedllm import offline
from jmedllm.cli.audit import audit
from jmedllm.cli.bundle import bundle
from jmedllm.cli.canary import canary_app
from jmedllm.cli.chat import chat
from jmedllm.cli.compare import compare
from jmedllm.cli.convert import convert
from jmedllm.cli.corpus import corpus_app
from jmedllm.cli.data import data_app
from jmedllm.cli.deploy import deploy_app
from jmedllm.cli.doctor import doctor
from jmedllm.cli.eval import evaluate
from jmedllm.cli.export import export_app
from jmedllm.cli.help import Command, Group, WrappingCommand
from jmedllm.cli.init import init
from jmedllm.cli.launch import launch
from jmedllm.cli.merge import merge
from jmedllm.cli.plan import plan
from jmedllm.cli.pretrain import pretrain
from jmedllm.cli.report import report
from jmedllm.cli.run import run
from jmedllm.cli.score import score
from jmedllm.cli.tokens import tokens
from jmedllm.cli.tune import tune
from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.files import create_private_files
from jmedllm.output import protect_streams, redact, visible
from jmedllm.processes import is_reporting
from jmedllm.signals import Terminated, blocked_signals, exit_code, handle_signals, last_line, signals_first

app = typer.Typer(
    cls=Group,
    help="Adapt an open LLM to medicine, in Japanese and English, and measure honestly whether it worked.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would double the time that --help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    pass


COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Evaluate": {"eval": evaluate, "score": score, "report": report, "compare": compare, "export": export_app},
    "Adapt": {
        "init": init,
        "plan": plan,
        "run": run,
        "pretrain": pretrain,
        "tune": tune,
        "merge": merge,
        "launch": launch,
    },
    "Use": {"deploy": deploy_app, "chat": chat},
    "This machine": {"doctor": doctor, "bundle": bundle, "audit": audit},
    "Data and models": {
        "data": data_app,
        "corpus": corpus_app,
        "canary": canary_app,
        "tokens": tokens,
        "convert": convert,
    },
}
"""Commands by name, in the groups of `jmedllm --help`."""

for section, commands in COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            for each in command.registered_commands:
                each.cls = Command
            app.add_typer(command, name=name, cls=Group, rich_help_panel=section)
        else:
            app.command(name, cls=WrappingCommand if command is launch else Command, rich_help_panel=section)(command)

_OUT_OF_MEMORY = (
    "out of memory; lower --batch-size (eval), micro_batch_size or block_size (training); what is done so far is kept"
)

_SERVING_ONLY = (
    "this command needs {}, which an installation that only serves a model, such as that of a bundle, does not have; "
    "run it where jmedllm was installed with pip"
)

_LOOP = "Symlink loop"
"""Start of the message of `Path.resolve` before Python 3.13."""

_INTERRUPTED = exit_code(signal.SIGINT)
"""Exit code that typer returns after Ctrl-C, and ours for Ctrl-C and Ctrl-D at a prompt."""


_REFUSED = "{}; it was refused, because this command works offline (docs/offline.md)"


def main() -> None:
    """Run the command line; invalid input is reported in one line, with exit code 2.

    So is what left, or would have left, this machine: also if a library ignored that it was refused.
    """
    create_private_files()
    handle_signals()
    offline.install()
    try:
        _run()
    except Exception:
        if offline.blocked():  # which the error follows from
            _end(2)
        raise
    finally:
        offline.uninstall()


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for file names that are not UTF-8
    protect_streams()
    try:
        with signals_first():
            code = app(prog_name="jmedllm", standalone_mode=False)
    except Terminated as ended:
        _fail(last_line(ended.number), exit_code(ended.number))
    except InputError as error:
        _end(2) if _is_refusal(error) else _fail(str(error), 2)
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # without a command, print the help
            typer.echo(message)
            _end(2)
        _fail(message, 2)
    except Abort as error:
        if error.__cause__ is not None:  # an EOFError that is not from a prompt
            raise error.__cause__ from None
        sys.stderr.write("\n")  # ends the line of the prompt
        _fail(last_line(signal.SIGINT, "run the same command again"), _INTERRUPTED)
    except ModuleNotFoundError as error:
        if find_spec("torch") is not None:
            raise
        _fail(_SERVING_ONLY.format(error.name), 2)
    except OSError as error:
        if error.filename is None:
            raise
        # For example a name that is too long, which fails wherever a path is first used.
        _fail(f"{os.fsdecode(error.filename)}: {error.strerror}; give another path", 2)
    except (MemoryError, RuntimeError) as error:
        if str(error).startswith(_LOOP):
            _fail(f"{error}; give another path", 2)
        if is_out_of_memory(error):
            _fail(_OUT_OF_MEMORY, 2)
        if not is_reporting():  # the connection to a process that has failed and printed its error
            sys.exit(2)
        raise
    else:
        if code == _INTERRUPTED:
            _fail(last_line(signal.SIGINT), _INTERRUPTED)
        _end(code)


def _fail(message: str, code: int) -> NoReturn:
    _end(code, message)


def _end(code: int, *messages: str) -> NoReturn:
    """End with messages, and with a line that names what was refused, if anything was."""
    refused = offline.blocked()
    more = f" and {len(refused) - 1:,} more" if len(refused) > 1 else ""
    lines = [*messages, *([_REFUSED.format(refused[0] + more)] if refused else [])]
    with blocked_signals():  # a launcher may end this process before it has printed what it alone reports
        if lines and is_reporting():
            for line in lines:
                typer.secho(f"error: {visible(redact(line))}", err=True, fg="red")
    sys.exit(2 if refused else code)


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether an error comes from a refused connection, which has a line of its own."""
    while error is not None and not isinstance(error, offline.BlockedError):
        error = error.__cause__ or error.__context__
    return error is not None
