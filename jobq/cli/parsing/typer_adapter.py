"""An adapter from declarations to Typer: options, groups of them, and examples in the help."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from jobq.cli.command_table import SYNONYMS_BELOW
from jobq.cli.parsing.completers import FINDERS, Line, offered
from jobq.cli.parsing.declarations import (
    REQUIRED,
    Argument,
    Command,
    CommandLine,
    Context,
    Option,
    Parameter,
    arguments_of,
    parameters_of,
)
from jobq.cli.parsing.help_text import help_text
from jobq.errors import UsageError
from jobq.limits import MAX_COUNT

C = TypeVar("C", bound=Callable[..., Any])

_ARGV = "jobq.argv"
"""The key in ``ctx.meta`` of the words after ``--``."""


class VerbCommand(TyperCommand):
    """A command whose help ends with the examples of its docstring."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return ["[OPTIONS]", *(each.metavar or "" for each in arguments)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        refuse_repeated(self, ctx, args)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(help_text(self, ctx, help_of(self.callback)[1]))


class ArgvCommand(VerbCommand):
    """A command that takes another one after ``--``, which it keeps word for word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_ARGV] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


class VerbGroup(TyperGroup):
    """A verb with verbs of its own, whose help ends with examples."""

    examples: Sequence[str] = ()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = self._known_as(args[0])
        if name not in self.commands and not ctx.resilient_parsing:
            from jobq.cli.parsing.suggestions import unknown_sub_verb  # only for errors

            raise UsageError(unknown_sub_verb(ctx.command_path, args[0], list(self.commands)))
        return super().resolve_command(ctx, [name, *args[1:]])

    def _known_as(self, word: str) -> str:
        """Return the name of the verb that a word is another one for."""
        return next((name for name in SYNONYMS_BELOW.get(word, ()) if name in self.commands), word)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(help_text(self, ctx, self.examples))


def refuse_repeated(command: Any, ctx: Any, args: Sequence[str]) -> None:
    """Refuse an option that takes one value and is given twice: Typer would take the last one."""
    if ctx.resilient_parsing:
        return
    _, _, order = command.make_parser(ctx).parse_args(args=list(args))
    for param in order:
        takes_one = param.param_type_name == "option" and not (param.multiple or param.is_flag)
        if takes_one and order.count(param) > 1:
            ctx.fail(f"Option '{param.opts[0]}' is given twice")


def help_of(command: Any) -> tuple[str, list[str]]:
    """Return the help text of a verb, and the examples that its docstring ends with."""
    text, _, examples = (inspect.getdoc(command) or "").partition("\nExamples:\n")
    return text.rstrip(), [line.strip() for line in examples.splitlines() if line.strip()]


def app_of(command: Command) -> typer.Typer:
    """Return a Typer app of one command."""
    app = typer.Typer(add_completion=False)
    verb(app)(command)
    return app


def group_app(text: str, examples: Sequence[str], *, no_args_is_help: bool = True) -> typer.Typer:
    """Return a Typer app for a verb with verbs of its own, with its help text and examples."""
    return typer.Typer(
        add_completion=False,
        help=text,
        cls=type("VerbGroup", (VerbGroup,), {"examples": examples}),
        no_args_is_help=no_args_is_help,
    )


def verb(app: typer.Typer, name: str | None = None) -> Callable[[C], C]:
    """Return a decorator that adds a function to an app, under its own name or another."""

    def added(command: C) -> C:
        takes_command = any(isinstance(p.declared, CommandLine) for p in parameters_of(command))
        cls = ArgvCommand if takes_command else VerbCommand
        app.command(name, cls=cls, help=help_of(command)[0])(as_typer(command))
        return command

    return added


def as_typer(command: Command) -> Callable[..., Any]:
    """Return the function with Typer's options in place of the declarations."""
    parameters = parameters_of(command)

    @wraps(command)
    def called(ctx: typer.Context, **values: Any) -> Any:
        for each in parameters:
            if isinstance(each.declared, CommandLine):
                values[each.name] = ctx.meta.get(_ARGV)
        return command(Context(ctx.obj), **arguments_of(command, values))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    context = inspect.Parameter("ctx", kind, annotation=typer.Context)
    seen = [context, *(_typer_parameter(each) for each in parameters if _is_of_typer(each))]
    called.__annotations__ = {each.name: each.annotation for each in seen}
    vars(called)["__signature__"] = inspect.Signature(seen)
    return called


def _is_of_typer(parameter: Parameter) -> bool:
    return not isinstance(parameter.declared, CommandLine)


def _typer_parameter(parameter: Parameter) -> inspect.Parameter:
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if parameter.default is REQUIRED else parameter.default,
        annotation=Annotated[parameter.kind, _typer_extra(parameter.declared)],
    )


def _typer_extra(extra: Option | Argument | CommandLine) -> Any:
    assert not isinstance(extra, CommandLine)
    complete = None if extra.completion is None else _completer(extra.completion)
    if isinstance(extra, Argument):
        return typer.Argument(
            metavar=extra.metavar, help=extra.help, show_default=False, autocompletion=complete
        )
    return typer.Option(
        *extra.names,
        metavar=extra.metavar,
        help=extra.help,
        min=extra.least,
        max=None if extra.least is None else MAX_COUNT,
        autocompletion=complete,
    )


def _completer(name: str) -> Callable[..., Iterable[tuple[str, str]]]:
    """Return a completion callback as Typer wants it."""

    def complete(ctx: typer.Context, incomplete: str) -> Iterable[tuple[str, str]]:
        config_file = ctx.find_root().params.get("config_file")
        line = Line(ctx.info_name or "", tuple(ctx.params.get("words") or ()), config_file)
        return offered(FINDERS[name], line, incomplete)

    return complete
