"""``jobq queue``: create, limit and pause queues."""

from typing import Annotated, Any

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, Group, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import group_app, verb
from jobq.cli.rendering.output import count_of, note, print_fields, print_json
from jobq.cli.rendering.queue_table import or_else, print_queues
from jobq.errors import UsageError
from jobq.models import DEFAULT_QUEUE, JobStatus, Queue
from jobq.queue import JobQueue
from jobq.serializers import queue_document
from jobq.units import format_duration

app = group_app(
    "Limit and pause queues.",
    [
        "jobq queue create downloads --max-concurrent 2 --rate 10/min",
        "jobq queue pause downloads",
    ],
)

Name = Annotated[
    str,
    Argument(metavar="QUEUE", help="The name of the queue.", completion="queues"),
]


class Limits(Group):
    """The options that set the limits of a queue, as they were typed."""

    max_concurrent: Annotated[
        str | None,
        option("--max-concurrent", metavar="N|none", help="Run at most N of its jobs at a time."),
    ] = None
    priority: Annotated[
        str | None,
        option("--priority", "-p", metavar="0-9", help="Serve 9 first; or low, normal, high, …"),
    ] = None
    rate: Annotated[
        str | None,
        option("--rate", metavar="N/SPAN|none", help="Limit the starts, e.g. 10/min or 5/30s."),
    ] = None
    timeout: Annotated[
        str | None,
        option(
            "--timeout", metavar="SPAN|none|default", help="Limit each attempt by default, e.g. 5m."
        ),
    ] = None
    retries: Annotated[
        str | None,
        option("--retries", metavar="N|default", help="Retry at most N times by default."),
    ] = None
    description: Annotated[
        str | None, option("--description", metavar="TEXT", help="Describe what the queue is for.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, as `JobQueue.set_queue` takes them."""
        values = {
            "max_concurrent": _number("--max-concurrent", self.max_concurrent, "none"),
            "priority": self.priority,
            "rate": None if self.rate == "none" else self.rate,
            "timeout": None if self.timeout == "default" else self.timeout,
            "max_retries": _number("--retries", self.retries, "default"),
            "description": self.description,
        }
        typed = (
            self.max_concurrent,
            self.priority,
            self.rate,
            self.timeout,
            self.retries,
            self.description,
        )
        return {
            key: value
            for (key, value), text in zip(values.items(), typed, strict=True)
            if text is not None
        }


@verb(app, "list")
def list_queues(ctx: Context, as_json: AsJson = False) -> None:
    """List the queues, those that are served first on top."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        queues, counts = queue.queues(), queue.counts_by_queue()
    if as_json:
        print_json([queue_document(q, counts.get(q.name, {})) for q in queues])
        return
    print_queues([(q, counts.get(q.name, {})) for q in queues], color=cli.color)


@verb(app)
def show(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Show the limits of a queue and how many jobs it has."""
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
            ("state", "paused: no jobs are started" if found.paused else "open"),
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


@verb(app)
def create(
    ctx: Context,
    name: Name,
    limits: Limits,
) -> None:
    """Create a queue.

    Examples:
        jobq queue create downloads --max-concurrent 2 --rate 10/min
        jobq queue create urgent --priority high --timeout 1h
    """
    cli: Cli = ctx.obj
    given = limits.given()
    with cli.queue() as queue:
        queue.create_queue(name, **given)
    print(f"Created queue {name}: jobq add --queue {name} …")


@verb(app, "set")
def set_limits(
    ctx: Context,
    name: Name,
    limits: Limits,
) -> None:
    """Change the limits of a queue, for all starts from now on.

    Limits that you do not give stay as they are.

    Examples:
        jobq queue set downloads --max-concurrent 4
        jobq queue set downloads --rate none
    """
    cli: Cli = ctx.obj
    given = limits.given()
    if not given:
        raise UsageError("nothing to change: give --max-concurrent, --priority, --rate, …")
    with cli.queue() as queue:
        queue.set_queue(name, **given)
        _warn_if_configured(queue, name)
    print(f"Changed queue {name}")


SomeName = Annotated[
    str | None,
    Argument(metavar="[QUEUE]", help="The name of the queue.", completion="queues"),
]
All = Annotated[bool, option("--all", help="All queues.")]


@verb(app)
def pause(ctx: Context, name: SomeName = None, every: All = False) -> None:
    """Start no jobs of a queue until it is resumed; running jobs go on."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        for each in _named(queue, name, every=every):
            queue.pause(each)
            running = queue.counts_by_queue().get(each, {}).get(JobStatus.RUNNING, 0)
            print(f"Paused queue {each}{f': {count_of(running)} still running' if running else ''}")


@verb(app)
def resume(ctx: Context, name: SomeName = None, every: All = False) -> None:
    """Start jobs of a paused queue again."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        for each in _named(queue, name, every=every):
            queue.resume(each)
            print(f"Resumed queue {each}")


def _named(queue: JobQueue, name: str | None, *, every: bool) -> list[str]:
    if every == (name is not None):
        raise UsageError("give the name of a queue, or --all")
    return [each.name for each in queue.queues()] if name is None else [name]


@verb(app)
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
        note(f"{queue.settings.path} sets this queue up, and `jobq work` applies it when it starts")


def _number(option: str, text: str | None, absent: str) -> int | None:
    if text is None or text == absent:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise UsageError(f"{option} {text!r:.80}: give a whole number, or {absent}")
    return int(text)
