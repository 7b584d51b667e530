"""The Typer app: all verbs, each imported when it is used.

Typer builds every command that it knows at start, which takes long.
"""

import os
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from jobq.cli.command_table import GROUPS, VERBS, title_of
from jobq.cli.context import ReaderLeftError, cli_of, complain
from jobq.cli.parsing.completers import harmless
from jobq.cli.parsing.help_text import help_text
from jobq.cli.parsing.typer_adapter import app_of, refuse_repeated
from jobq.config.environment import COMPLETE_VAR
from jobq.errors import UsageError

_NAMES_ONLY = "jobq.names_only"
"""The key in ``ctx.meta`` of the function that makes titles of verbs fit to show."""

_EXAMPLES = ("jobq add -- echo hello", "jobq help add")


class Verbs(TyperGroup):
    """The group of verbs, each imported when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        if (shown := ctx.meta.get(_NAMES_ONLY)) is not None:
            return TyperCommand(cmd_name, short_help=shown(title_of(cmd_name)))
        return command_of(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        refuse_repeated(self, ctx, args)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not ctx.resilient_parsing:
            from jobq.cli.parsing.suggestions import unknown_verb  # only for errors

            raise UsageError(unknown_verb(args))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta[_NAMES_ONLY] = str
        formatter.write(help_text(self, ctx, _EXAMPLES))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # for which Typer would exit with 1
            raise ReaderLeftError from error

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete verbs by their names: importing them all would take long."""
        ctx.meta[_NAMES_ONLY] = harmless
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            del ctx.meta[_NAMES_ONLY]


def command_of(verb: str) -> Any:
    """Return the Typer command of a verb."""
    module = import_module(VERBS[verb])
    command = typer.main.get_command(module.app if verb in GROUPS else app_of(module.command))
    command.name = verb
    return command


app = typer.Typer(
    cls=Verbs,
    help="A durable job runner: add commands and jobs, run them with `jobq work`, see the results.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from jobq.cli.rendering.version import installed

        print("jobq", installed())
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config_file: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Use this jobq.toml.")
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    ctx.obj = cli_of(config_file, no_color=no_color, debug=debug)


def run_with_typer(argv: list[str]) -> int:
    """Run one command line and return its exit code.

    Raises:
        JobqError: the command was refused, or failed.
        ReaderLeftError: the reader of the output is gone.
    """
    if COMPLETE_VAR in os.environ:
        _keep_markup()
    if len(argv) == 2 and argv[0] in ("--install-completion", "--show-completion"):
        # The shell is named: Typer would otherwise ignore that and detect the current one.
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    try:
        code = app(argv, prog_name="jobq", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error)
    return code if isinstance(code, int) else 0


def _keep_markup() -> None:
    """Keep Typer from reading markup in completions: it would import rich, for 100 ms."""
    with suppress(ImportError):
        from typer import _completion_classes as classes

        setattr(classes, "_sanitize_help_text", str)  # noqa: B010 - it is private


def _usage(error: typer.TyperException) -> int:
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if ctx := getattr(error, "ctx", None):
        if type(error).__name__ == "NoArgsIsHelpError":
            print(text)
            return 2
        if type(error).__name__ == "NoSuchOption":
            from jobq.cli.parsing.suggestions import unknown_option  # only for errors

            known = [name for each in ctx.command.params for name in each.opts]
            text = unknown_option(error.option_name, known)  # type: ignore[attr-defined]
        if getattr(error, "option_name", "") in ("-q", "-Q"):
            text = f"{text.rstrip('.')} (-Q is short for --queue, -q for --quiet)"
        text = f"{text.rstrip('.')}: see `{ctx.command_path} --help`"
    complain(text)
    return getattr(error, "exit_code", 2)
