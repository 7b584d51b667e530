"""``jobq stats``: figures."""

from collections.abc import Callable, Sequence

import typer

from jobq.cli.app import Cli
from jobq.cli.options import AsJson
from jobq.cli.output import format_bytes, print_columns, print_fields, print_json
from jobq.cli.queue import print_queues
from jobq.clock import utcnow
from jobq.metrics import Stats, TypeFigures, collect, stats_document
from jobq.timespec import format_duration

app = typer.Typer(add_completion=False)


@app.command()
def stats(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show counts, throughput, how long jobs wait and run, and disk used."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        figures = collect(queue, utcnow())
        log_dir = queue.logs.root
    if as_json:
        print_json(stats_document(figures))
        return
    done = figures.throughput
    print_fields(
        [
            ("jobs", ", ".join(f"{n:,} {s}" for s, n in figures.counts.items() if n) or "none"),
            ("completed", f"{done.last_hour:,} in 1 hour, {done.last_day:,} in 24 hours"),
            ("logs", f"{format_bytes(figures.log_bytes)} in {log_dir}"),
            ("supervisors", str(len(figures.supervisors) or "none: jobq work")),
        ]
    )
    if len(figures.queues) > 1:
        print()
        print_queues(figures.queues, color=cli.color)
    if figures.types:
        print()
        _print_types(figures.types, color=cli.color)
    if figures.supervisors:
        print()
        _print_supervisors(figures, color=cli.color)


def _print_types(types: Sequence[TypeFigures], *, color: bool) -> None:
    def spans(pick: Callable[[TypeFigures], float]) -> list[str]:
        return [format_duration(max(0.0, pick(each))) for each in types]

    print_columns(
        {
            "type": [each.type for each in types],
            "in 24 hours": [f"{each.completed:,}" for each in types],
            "wait p50": spans(lambda each: each.wait.p50),
            "wait p95": spans(lambda each: each.wait.p95),
            "run p50": spans(lambda each: each.run.p50),
            "run p95": spans(lambda each: each.run.p95),
        },
        color=color,
        flexible=("type",),
        optional=("wait p95", "run p95"),
    )


def _print_supervisors(figures: Stats, *, color: bool) -> None:
    there = [supervisor for supervisor, _ in figures.supervisors]
    print_columns(
        {
            "supervisor": [each.id for each in there],
            "pid": [str(each.pid) for each in there],
            "slots": [str(each.slots) for each in there],
            "queues": ["all" if e.queues is None else ", ".join(e.queues) for e in there],
            "heartbeat": [f"{format_duration(age)} ago" for _, age in figures.supervisors],
        },
        color=color,
        flexible=("supervisor", "queues"),
        optional=("queues", "slots"),
    )
