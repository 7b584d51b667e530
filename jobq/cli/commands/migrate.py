"""``jobq migrate``: move all jobs to another store, such as a Redis server, or back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from jobq.cli.context import project_file
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson, DryRun
from jobq.cli.rendering.output import count_of, note, print_json
from jobq.cli.rendering.progress_bar import Bar, bar_of
from jobq.config.loader import FILE_NAME
from jobq.config.redis_url import mistyped_address, parse_url
from jobq.config.settings import SQLITE, Settings
from jobq.errors import UsageError
from jobq.transfer.migrate import Migration, OnProgress, Tally


def command(
    ctx: Context,
    to: Annotated[
        str,
        option(
            "--to",
            metavar="WHERE",
            help="Move to redis://HOST:PORT/DB, to sqlite (the database of jobq.toml), or to a file.",
        ),
    ],
    restart: Annotated[bool, option("--restart", help="Start an interrupted move over.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Move all jobs, their history, queues and schedules to another store, while nothing runs.

    The copy is read back and compared. Run an interrupted move again to continue it. The store that
    the jobs came from stays as it was: change jobq.toml to work with the other.

    Examples:
        jobq migrate --to redis://localhost:6379/0 --dry-run
        jobq migrate --to sqlite
    """
    cli = ctx.obj
    here = cli.settings()
    there = _destination(here, to)
    names = _name(here), _name(there)
    with Migration(here, there, names) as migration, bar_of(color=cli.color) as bar:
        if dry_run:
            moved, half_filled = migration.preview()
            if half_filled:
                note(f"{names[1]} is half filled: an interrupted move would continue.")
        else:
            moved = migration.run(_progress_on(bar, migration.total()), restart=restart)
    if as_json:
        print_json(_document(moved, names, dry_run=dry_run))
    elif dry_run:
        print(f"Would move {_amount(moved)} to {names[1]}")
    else:
        print(f"Moved {_amount(moved)} to {names[1]}: read back and identical")
        _show_next_steps(here, there, names)


def _destination(here: Settings, to: str) -> Settings:
    """Return the settings of a queue whose jobs are where ``--to`` says."""
    if to == "redis":
        raise UsageError("--to redis: give its address: redis://HOST:6379/0")
    if "://" in to:
        try:
            parse_url(to)
        except UsageError as error:
            raise UsageError(f"--to {to.partition('://')[0]}://…: {error}") from None
        there = replace(here, backend=to)
    elif to == SQLITE:
        there = replace(here, backend=SQLITE)
    else:
        there = replace(here, backend=SQLITE, database=_file(to))
    if _name(there) == _name(here):
        raise UsageError(
            f"--to {_name(there)}: the jobs are already there; if you have changed {FILE_NAME}, name the "
            "store that they come from: `JOBQ_BACKEND=sqlite jobq migrate …`"
        )
    return there


def _file(to: str) -> Path:
    """Return the database file that ``--to`` names.

    Raises:
        UsageError: it looks like a mistyped address, which may contain a password.
    """
    if shown := mistyped_address(to):
        raise UsageError(f"--to {shown}: expected a file, or redis://HOST:PORT/DB")
    try:
        return Path.cwd() / Path(to).expanduser()
    except RuntimeError:
        raise UsageError(f"--to {to}: expected a path in an existing home directory") from None


def _name(settings: Settings) -> str:
    """Return the name of a store for people."""
    if settings.backend == SQLITE:
        return project_file(settings.database.resolve())
    return settings.backend_shown


def _amount(moved: Tally) -> str:
    parts = [
        count_of(moved.jobs),
        count_of(moved.attempts, "attempt"),
        count_of(moved.queues, "queue"),
    ]
    return f"{', '.join(parts)} and {count_of(moved.schedules, 'schedule')}"


def _show_next_steps(here: Settings, there: Settings, names: tuple[str, str]) -> None:
    note(f"{names[0]} is unchanged. Logs stay in {project_file(here.log_dir)}.")
    where = project_file(here.path) if here.path else f"a {FILE_NAME} (`jobq init` writes one)"
    note(f"To work with {names[1]}, set in {where}:")
    for line in _settings_of(here, there):
        note(f"    {line}")


def _settings_of(here: Settings, there: Settings) -> list[str]:
    """Return the lines of jobq.toml to change."""
    lines = [f'backend = "{there.backend_shown}"']
    if there.backend != SQLITE and parse_url(there.backend).secret:
        lines[0] += "    # with its password"
    if there.database != here.database:
        lines.append(f'database = "{there.database}"')
    return lines


def _document(moved: Tally, names: tuple[str, str], *, dry_run: bool) -> dict[str, Any]:
    return {
        "jobs": moved.jobs,
        "attempts": moved.attempts,
        "queues": moved.queues,
        "schedules": moved.schedules,
        "checksum": moved.checksum,
        "from": names[0],
        "to": names[1],
        "dry_run": dry_run,
    }


def _progress_on(bar: Bar | None, total: int) -> OnProgress:
    """Return a function that shows progress: a bar for each step."""
    steps: dict[str, Callable[[int], None]] = {}

    def on_progress(what: str, done: int) -> None:
        if bar is not None:
            if what not in steps:
                steps[what] = bar.step(what, total)
            steps[what](done)

    return on_progress
