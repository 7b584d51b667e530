"""Help texts: plain, within the width of the terminal, and the same in a pipe."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

_MAX_WIDTH = 80
_MAX_NAMES_WIDTH = 30

Row = tuple[str, str]


def help_text(command: Any, ctx: Any, examples: Sequence[str] = ()) -> str:
    """Return the help of a Typer command: usage, text, arguments, options, verbs, examples."""
    width = min(_MAX_WIDTH, shutil.get_terminal_size().columns)
    usage = " ".join((ctx.command_path, *command.collect_usage_pieces(ctx)))
    blocks = [_wrapped(f"Usage: {usage}", width, " "), *_paragraphs(command.help or "", width)]
    params = command.get_params(ctx)
    for title, rows in (
        ("Arguments", [_argument(each) for each in params if each.param_type_name == "argument"]),
        ("Commands", list(_commands(command, ctx))),
        ("Options", [_option(each) for each in params if each.param_type_name == "option"]),
        ("Examples", [(example, "") for example in examples]),
    ):
        if rows:
            blocks.append("\n".join((f" {title}:", *_lines(rows, width))))
    return "\n\n".join(blocks) + "\n"


def _paragraphs(text: str, width: int) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            yield _wrapped(" ".join(paragraph.split()), width, " ")


def _argument(param: Any) -> Row:
    return param.metavar or param.name, param.help


def _option(param: Any) -> Row:
    names = ", ".join(sorted(param.opts, key=len))
    if not names.startswith("--") and "," not in names:
        return names, param.help
    indent = "" if len(param.opts) > 1 else "    "
    takes = "" if param.is_flag or not param.metavar else f" {param.metavar}"
    default = param.default if isinstance(param.default, str) and param.default else None
    shown = "" if default is None or "default" in param.help else f" [default: {default}]"
    return f"{indent}{names}{takes}", f"{param.help}{shown}"


def _commands(command: Any, ctx: Any) -> Iterator[Row]:
    for name in getattr(command, "commands", ()) or _names(command, ctx):
        below = command.get_command(ctx, name)
        text = (below.short_help or below.help or "").partition("\n\n")[0].replace("``", "`")
        yield name, " ".join((text[:1].upper() + text[1:]).split())


def _names(command: Any, ctx: Any) -> Sequence[str]:
    found: Sequence[str] = command.list_commands(ctx) if hasattr(command, "list_commands") else ()
    return found


def _lines(rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield the rows in two columns; a long name has its text on the lines below it."""
    names = min(_MAX_NAMES_WIDTH, max(len(name) for name, _ in rows))
    for name, text in rows:
        if not text:
            yield f"   {name}"
            continue
        indent = " " * (names + 5)
        wrapped = _wrapped(text, width, indent)
        if len(name) > names:
            yield f"   {name}"
            yield wrapped
        else:
            yield f"   {name:{names}}  {wrapped[len(indent) :]}"


def _wrapped(text: str, width: int, indent: str) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
