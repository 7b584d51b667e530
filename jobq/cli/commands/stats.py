"""``jobq stats``: counts, throughput, waiting and running times."""

from collections.abc import Callable, Mapping, Sequence

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import print_fields, print_json
from jobq.cli.rendering.queue_table import print_queues
from jobq.cli.rendering.table import print_columns
from jobq.describe import describe
from jobq.diagnostics.stats import (
    Figures,
    Percentiles,
    Stats,
    SupervisorFigures,
    collect,
    stats_document,
)
from jobq.units import format_duration, format_size


def command(ctx: Context, as_json: AsJson = False) -> None:
    """Show counts, throughput, waiting and running times, and disk use.

    Examples:
        jobq stats
        jobq stats --json
    """
    cli: Cli = ctx.obj
    with cli.queue() as queue:
        found = collect(queue, queue.now())
        log_dir = queue.logs.root
    if as_json:
        print_json(stats_document(found))
        return
    print_fields(
        [
            ("jobs", ", ".join(f"{n:,} {s}" for s, n in found.counts.items() if n) or "none"),
            ("completed", _completed(found)),
            ("in all", ", ".join(f"{n:,} {name}" for name, n in found.totals.items())),
            ("oldest waiting", _oldest(found)),
            ("logs", f"{format_size(found.log_bytes)} in {log_dir}"),
            ("supervisors", str(len(found.supervisors) or "none: jobq work")),
        ]
    )
    if len(found.queues) > 1:
        print()
        print_queues(found.queues, color=cli.color)
    for title, groups in (("type", found.types), ("queue", found.by_queue)):
        if len(groups) > (title == "queue"):
            print()
            _print_figures(title, groups, color=cli.color)
    if found.supervisors:
        print()
        _print_supervisors(found.supervisors, color=cli.color)


def _completed(found: Stats) -> str:
    done = found.throughput
    rate = "" if found.success_rate is None else f"; {_share(found.success_rate)} success"
    return f"{done.last_hour:,} in 1 hour, {done.last_day:,} in 24 hours{rate}"


def _oldest(found: Stats) -> str:
    oldest = found.oldest_waiting
    if oldest is None:
        return ""
    what = oldest.name or describe(oldest)
    return f"job {oldest.id} for {format_duration(found.longest_wait)}: {what}"


def _share(share: float) -> str:
    """Return a percentage that is 100% only if nothing failed."""
    return "100%" if share == 1 else f"{min(99.9, 100 * share):.1f}%"


def _print_figures(title: str, groups: Mapping[str, Figures], *, color: bool) -> None:
    def spans(pick: Callable[[Figures], Percentiles | None], rank: str) -> list[str]:
        return [
            "" if (found := pick(each)) is None else format_duration(max(0.0, getattr(found, rank)))
            for each in groups.values()
        ]

    print_columns(
        {
            title: list(groups),
            "in 24 hours": [f"{each.completed:,}" for each in groups.values()],
            "success": [_share(each.success_rate) for each in groups.values()],
            "wait p50": spans(lambda each: each.wait, "p50"),
            "wait p95": spans(lambda each: each.wait, "p95"),
            "run p50": spans(lambda each: each.run, "p50"),
            "run p95": spans(lambda each: each.run, "p95"),
        },
        color=color,
        flexible=(title,),
        optional=("wait p95", "run p95"),
    )


def _queues_of(supervisor: SupervisorFigures) -> str:
    queues = supervisor.info.queues
    return "all" if queues is None else ", ".join(queues) or "none"


def _print_supervisors(there: Sequence[SupervisorFigures], *, color: bool) -> None:
    print_columns(
        {
            "supervisor": [each.info.id for each in there],
            "pid": [str(each.info.pid) for each in there],
            "busy": [f"{each.running}/{each.info.slots}" for each in there],
            "queues": [_queues_of(each) for each in there],
            "heartbeat": [f"{format_duration(each.heartbeat_age)} ago" for each in there],
        },
        color=color,
        flexible=("supervisor", "queues"),
        optional=("queues",),
    )
