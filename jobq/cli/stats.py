"""``jobq stats``: figures."""

import typer

from jobq.cli.app import Cli
from jobq.cli.options import AsJson
from jobq.cli.output import count_of, format_bytes, print_columns, print_fields, print_json
from jobq.clock import utcnow
from jobq.metrics import Percentiles, Stats, collect, stats_document
from jobq.timespec import format_duration

app = typer.Typer(add_completion=False)


@app.command()
def stats(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show counts, throughput, how long jobs wait and run, supervisors, and disk used by logs."""
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        figures = collect(queue, utcnow())
        log_dir = queue.logs.root
    if as_json:
        print_json(stats_document(figures))
        return
    print_fields(
        [
            ("jobs", ", ".join(f"{n:,} {s}" for s, n in figures.counts.items() if n) or "none"),
            ("completed", f"{figures.throughput.last_hour:,} in the last hour, "
                          f"{figures.throughput.last_day:,} in the last 24 hours"),
            ("logs", f"{format_bytes(figures.log_bytes)} in {log_dir}"),
            ("workers", count_of(len(figures.supervisors), "supervisor")),
        ]
    )  # fmt: skip
    _print_queues(figures, color=cli.color)
    _print_types(figures, color=cli.color)
    _print_supervisors(figures, color=cli.color)


def _print_queues(figures: Stats, *, color: bool) -> None:
    statuses = [status for status, number in figures.counts.items() if number]
    if len(figures.queues) < 2 or not statuses:
        return
    print()
    header = ["queue", *statuses]
    rows = [[q.name, *(str(n.get(s, 0)) for s in statuses)] for q, n in figures.queues]
    print_columns(header, rows, color=color, flexible=0)


def _print_types(figures: Stats, *, color: bool) -> None:
    if not figures.types:
        return
    print()
    print_columns(
        ["type", "completed in 24 h", "wait p50", "p95", "run p50", "p95"],
        [
            [each.type, f"{each.completed:,}", *_spans(each.wait), *_spans(each.run)]
            for each in figures.types
        ],
        color=color,
        flexible=[0, 1],
    )


def _spans(percentiles: Percentiles) -> list[str]:
    return [format_duration(max(0.0, s)) for s in (percentiles.p50, percentiles.p95)]


def _print_supervisors(figures: Stats, *, color: bool) -> None:
    if not figures.supervisors:
        return
    print()
    print_columns(
        ["supervisor", "pid", "slots", "queues", "heartbeat"],
        [
            [
                each.id,
                str(each.pid),
                str(each.slots),
                "all" if each.queues is None else ", ".join(each.queues),
                f"{format_duration(age)} ago",
            ]
            for each, age in figures.supervisors
        ],
        color=color,
        flexible=[0, 3],
    )
