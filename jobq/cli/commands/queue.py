"""``jobq queue``: named lanes with limits of their own."""

from typing import Annotated, Any

import typer

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import as_typer
from jobq.cli.rendering.output import count_of, note, print_fields, print_json
from jobq.cli.rendering.queue_table import or_else, print_queues
from jobq.errors import UsageError
from jobq.models import DEFAULT_QUEUE, JobStatus, Queue
from jobq.queue import JobQueue
from jobq.serializers import queue_document
from jobq.units import format_duration

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Limit and pause queues: named lanes that jobs wait in.",
)

Name = Annotated[
    str,
    Argument(metavar="QUEUE", help="The queue's name.", completion="queues"),
]
MaxConcurrent = Annotated[
    str | None,
    option("--max-concurrent", metavar="N|none", help="Jobs that run at once, at most."),
]
Priority = Annotated[
    str | None,
    option("--priority", "-p", metavar="0-9", help="9 is served first; or low, high, …"),
]
RateLimit = Annotated[
    str | None,
    option("--rate", metavar="N/SPAN|none", help="Starts in any such span: 10/min, 5/30s."),
]
Timeout = Annotated[
    str | None,
    option("--timeout", metavar="SPAN|none|default", help="The longest a try may take."),
]
Retries = Annotated[
    str | None,
    option("--retries", metavar="N|default", help="Tries after the first one."),
]
Description = Annotated[str | None, option("--description", metavar="TEXT", help="What it is for.")]


@app.command("list")
@as_typer
def list_queues(ctx: Context, as_json: AsJson = False) -> None:
    """List the queues, those served first first."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        queues, counts = queue.queues(), queue.counts_by_queue()
    if as_json:
        print_json([queue_document(q, counts.get(q.name, {})) for q in queues])
        return
    print_queues([(q, counts.get(q.name, {})) for q in queues], color=cli.color)


@app.command()
@as_typer
def show(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Show a queue's limits, and how many jobs are in it."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        found = queue.queue(name)
        counts = queue.counts_by_queue().get(name, {})
    if as_json:
        print_json(queue_document(found, counts))
        return
    print_fields(
        [
            ("queue", found.name),
            ("description", found.description or ""),
            ("state", "paused: nothing is started" if found.paused else "open"),
            ("priority", str(found.priority)),
            ("at once", or_else("no limit", found.max_concurrent)),
            ("rate", or_else("no limit", found.rate)),
            ("timeout", _timeout(found.timeout)),
            ("retries", or_else("default", found.max_retries)),
            ("jobs", ", ".join(f"{n:,} {status}" for status, n in counts.items()) or "none"),
        ]
    )


def _timeout(seconds: float | None) -> str:
    if seconds is None:
        return "default"
    return format_duration(seconds) if seconds else "none"


@app.command()
@as_typer
def create(
    ctx: Context,
    name: Name,
    max_concurrent: MaxConcurrent = None,
    priority: Priority = None,
    rate: RateLimit = None,
    timeout: Timeout = None,
    retries: Retries = None,
    description: Description = None,
) -> None:
    """Create a queue."""
    cli: Cli = ctx.obj
    limits = _limits(max_concurrent, priority, rate, timeout, retries, description)
    with cli.queue() as queue:
        queue.create_queue(name, **limits)
    print(f"Created queue {name}: jobq add --queue {name} …")


@app.command("set")
@as_typer
def set_limits(
    ctx: Context,
    name: Name,
    max_concurrent: MaxConcurrent = None,
    priority: Priority = None,
    rate: RateLimit = None,
    timeout: Timeout = None,
    retries: Retries = None,
    description: Description = None,
) -> None:
    """Change the limits of a queue; what is not named stays. They hold from now on."""
    cli: Cli = ctx.obj
    limits = _limits(max_concurrent, priority, rate, timeout, retries, description)
    if not limits:
        raise UsageError("nothing to change: give --max-concurrent, --priority, --rate, …")
    with cli.queue() as queue:
        queue.set_queue(name, **limits)
        _warn_if_configured(queue, name)
    print(f"Changed queue {name}")


@app.command()
@as_typer
def pause(ctx: Context, name: Name) -> None:
    """Start nothing from a queue until it is resumed; what runs goes on."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        queue.pause(name)
        running = queue.counts_by_queue().get(name, {}).get(JobStatus.RUNNING, 0)
    print(f"Paused queue {name}{f': {count_of(running)} still running' if running else ''}")


@app.command()
@as_typer
def resume(ctx: Context, name: Name) -> None:
    """Let a paused queue go on."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        queue.resume(name)
    print(f"Resumed queue {name}")


@app.command()
@as_typer
def delete(ctx: Context, name: Name) -> None:
    """Delete a queue that has no jobs."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        queue.delete_queue(name)
        _warn_if_configured(queue, name)
    print(f"Deleted queue {name}")


def _warn_if_configured(queue: JobQueue, name: str) -> None:
    configured = queue.settings.queues.get(name)
    if configured is not None and (name != DEFAULT_QUEUE or configured != Queue(name=name)):
        note(f"{queue.settings.path} describes this queue, and `jobq work` goes by it")


def _limits(
    max_concurrent: str | None,
    priority: str | None,
    rate: str | None,
    timeout: str | None,
    retries: str | None,
    description: str | None,
) -> dict[str, Any]:
    """The options that were given, as `JobQueue.set_queue` takes them."""
    given = {
        "max_concurrent": _number("--max-concurrent", max_concurrent, "none"),
        "priority": priority,
        "rate": None if rate == "none" else rate,
        "timeout": None if timeout == "default" else timeout,
        "max_retries": _number("--retries", retries, "default"),
        "description": description,
    }
    typed = (max_concurrent, priority, rate, timeout, retries, description)
    return {
        key: value
        for (key, value), text in zip(given.items(), typed, strict=True)
        if text is not None
    }


def _number(option: str, text: str | None, absent: str) -> int | None:
    if text is None or text == absent:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{option} {text!r}: give a whole number, or {absent}")
    return int(text)
