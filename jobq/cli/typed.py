"""Verbs that are declared without Typer, made Typer's."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from jobq.cli import completion
from jobq.cli.declare import Argument, Context, Option

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
    """A Typer app of one command, which takes another one after ``--``."""
    app = typer.Typer(add_completion=False)
    app.command(cls=ArgvCommand)(as_typer(command))
    return app


def as_typer(command: Callable[P, R]) -> Callable[P, R]:
    """The function with Typer's options in the place of ours; others stay as they are."""

    @wraps(command)
    def called(*args: P.args, **options: P.kwargs) -> R:
        return command(*args, **options)

    hints = {
        name: _typer_hint(hint)
        for name, hint in get_type_hints(command, include_extras=True).items()
    }
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
    kind, *extras = get_args(hint)
    return Annotated[kind, *(_typer_extra(extra) for extra in extras)]


def _typer_extra(extra: Any) -> Any:
    if not isinstance(extra, Option | Argument):
        return extra
    complete = None if extra.completion is None else getattr(completion, extra.completion)
    if isinstance(extra, Argument):
        return typer.Argument(
            metavar=extra.metavar, help=extra.help, show_default=False, autocompletion=complete
        )
    return typer.Option(
        *extra.names, metavar=extra.metavar, help=extra.help, autocompletion=complete
    )
