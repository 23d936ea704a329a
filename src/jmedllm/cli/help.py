"""Help pages with options and commands in groups, full summaries, and `--version` in every command.

The groups are typer's help panels, which typer shows only with rich. Rich would double the time of --help.
"""

import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from jmedllm import __version__

_LONGEST = 1_000
"""Maximum length of a summary; it is wrapped, never cut."""

_TYPE = re.compile(r"<list\[(\w+)\]>|<(\w+) range>")
"""Typer's notation of types, which help pages simplify."""

_DEFAULT = re.compile(r"default: \((.+?)\)(?=[;\]])")
"""A default in words, which typer prints in parentheses."""


class Command(TyperCommand):
    """A command with grouped options and `--version`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line, with a required argument as RECIPE.yaml, not {RECIPE.yaml}."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all parameters, with `--version` and `--help` last."""
        return _with_version(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by group."""
        _write_parameters(self.get_params(ctx), ctx, formatter)


class WrappingCommand(Command):
    """A command whose last argument is another command: all words from there on belong to that one."""

    allow_interspersed_args = False
    ignore_unknown_options = True


class Group(TyperGroup):
    """A command group whose commands are listed by panel."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all parameters, with `--version` and `--help` last."""
        return _with_version(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then the commands."""
        _write_parameters(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each group of commands with their summaries."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            section = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(section, []).append((name, command.get_short_help_str(_LONGEST)))
        widest = max(map(len, self.commands))
        _write_sections(
            formatter, {title: [(name.ljust(widest), text) for name, text in rows] for title, rows in sections.items()}
        )


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"jmedllm {__version__}")
        raise typer.Exit


def _version_option() -> Any:
    """Build the option from a function parameter, because typer's option class has no public constructor."""
    declared = typer.Typer(add_completion=False)

    @declared.command()
    def _(
        version: Annotated[
            bool,
            typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
        ] = False,
    ) -> None:
        pass

    option = typer.main.get_command(declared).params[0]
    option.expose_value = False
    return option


_VERSION = _version_option()


def _with_version(parameters: list[Any]) -> list[Any]:
    return [*parameters[:-1], _VERSION, parameters[-1]]


def _write_parameters(parameters: list[Any], ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in parameters:
        is_argument = parameter.param_type_name == "argument"
        section = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
        if record := parameter.get_help_record(ctx):
            name = record[0].partition(" <")[0] if is_argument else _TYPE.sub(_type_name, record[0])
            sections.setdefault(section, []).append((name, _DEFAULT.sub(r"default: \1", record[1])))
    _write_sections(formatter, sections)


def _type_name(found: re.Match[str]) -> str:
    return f"<{(found[1] or found[2]).lower()}>"


def _write_sections(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
