"""Verbs that are declared without Typer, made Typer's."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin

import typer
from typer.core import TyperCommand

from jobq.cli.parsing.completers import FINDERS, Line, offered
from jobq.cli.parsing.declarations import Argument, Context, Option

P = ParamSpec("P")
R = TypeVar("R")


class ArgvCommand(TyperCommand):
    """A command that takes another one after ``--``: kept apart, word for word, in ``ctx.meta``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta["argv"] = args[at + 1 :]
            args = args[:at]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


def app_of(command: Callable[..., Any]) -> typer.Typer:
    """A Typer app of one command."""
    app = typer.Typer(add_completion=False)
    app.command(cls=_class_of(command))(as_typer(command))
    return app


def _class_of(command: Callable[..., Any]) -> type[TyperCommand]:
    extras = [extra for hint in _hints(command).values() for extra in get_args(hint)[1:]]
    arguments = [extra for extra in extras if isinstance(extra, Argument)]
    return ArgvCommand if any(each.then_command for each in arguments) else TyperCommand


def _hints(command: Callable[..., Any]) -> dict[str, Any]:
    return inspect.get_annotations(command, eval_str=True)


def as_typer(command: Callable[P, R]) -> Callable[P, R]:
    """The function with Typer's options in the place of ours."""

    @wraps(command)
    def called(*args: P.args, **options: P.kwargs) -> R:
        return command(*args, **options)

    hints = {name: _typer_hint(hint) for name, hint in _hints(command).items()}
    parameters = inspect.signature(command).parameters
    called.__annotations__ = hints
    vars(called)["__signature__"] = inspect.Signature(
        [each.replace(annotation=hints[name]) for name, each in parameters.items()]
    )
    return called


def _typer_hint(hint: Any) -> Any:
    if hint is Context:
        return typer.Context
    if get_origin(hint) is not Annotated:
        return hint
    kind, extra = get_args(hint)
    return Annotated[kind, _typer_extra(extra)]


def _typer_extra(extra: Option | Argument) -> Any:
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
        autocompletion=complete,
    )


def _completer(name: str) -> Callable[..., Iterable[tuple[str, str]]]:
    """A callback as Typer wants it."""

    def complete(ctx: typer.Context, incomplete: str) -> Iterable[tuple[str, str]]:
        config_file = ctx.find_root().params.get("config_file")
        line = Line(ctx.info_name or "", tuple(ctx.params.get("words") or ()), config_file)
        return offered(FINDERS[name], line, incomplete)

    return complete
