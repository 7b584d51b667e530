"""``jobq config``: show and check the settings."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from jobq.cli.context import Cli, complain, project_file
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import group_app, verb
from jobq.cli.rendering.output import count_of, is_terminal, note, print_json
from jobq.config.loader import find_file, working_directory
from jobq.inert import inert
from jobq.serializers import settings_document

app = group_app(
    "Show or check the settings in effect.",
    ["jobq config show", "jobq config check"],
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def default(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        show(Context(ctx.obj))


@verb(app)
def show(ctx: Context, as_json: AsJson = False) -> None:
    """Print every setting in effect, as TOML."""
    cli: Cli = ctx.obj
    document = settings_document(cli.settings())
    if as_json:
        print_json(document)
        return
    for line in toml_lines(document):
        print(inert(line))


@verb(app)
def path(ctx: Context) -> None:
    """Print the path of the file that the settings come from."""
    cli: Cli = ctx.obj
    found = find_file(cli.config, os.environ, working_directory())
    if found is None:
        note(
            "No jobq.toml here, above, or in your own configuration: the defaults apply (`jobq init`)"
        )
    else:
        print(inert(str(found)) if is_terminal() else found)


@verb(app)
def check(ctx: Context) -> int:
    """Read the settings and the worker files; report errors and exit with 2 if there are any.

    Worker files are not run: `jobq types` does that.
    """
    cli: Cli = ctx.obj
    settings = cli.settings()
    from jobq.job_types.worker_files import faults, worker_files

    errors = faults(settings.worker_paths)
    for folder in settings.worker_paths:
        if not folder.is_dir():
            note(f"no workers are loaded from {project_file(folder)}: the folder does not exist")
    for error in errors:
        complain(str(error))
    if errors:
        return 2
    where = "The defaults" if settings.path is None else project_file(settings.path)
    are = "are" if settings.path is None else "is"
    files = sum(len(worker_files(folder)) for folder in settings.worker_paths)
    print(inert(f"{where} {are} fine: {count_of(files, 'worker file')}"))
    return 0


def toml_lines(table: Mapping[str, Any], name: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines of a nested mapping as TOML; leave out values that are None."""
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    values = {k: v for k, v in table.items() if v is not None and k not in tables}
    if name and (values or not tables):
        yield ""
        yield f"[{'.'.join(map(_key, name))}]"
    for key, value in values.items():
        # The texts, numbers, flags and lists of JSON are TOML too.
        yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in tables.items():
        yield from toml_lines(value, (*name, key))


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)
