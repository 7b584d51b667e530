"""``jobq triage``: show failed jobs in groups of one kind, and retry, cancel or delete a group."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from jobq.cli.commands import cancel, retry
from jobq.cli.commands.bulk import Report, approved
from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.options import AsJson, DryRun, Yes
from jobq.cli.rendering.output import count_of, note, print_fields, print_json
from jobq.cli.rendering.table import print_columns
from jobq.errors import UsageError
from jobq.jobs.failure_group import FailureGroup, group_document
from jobq.models import UNFINISHED, JobStatus
from jobq.queue import JobQueue
from jobq.triage import DEFAULT_LIMIT
from jobq.units import format_duration, parse_since

ACTIONS = ("show", "retry", "cancel", "delete")

_FAILED = frozenset({JobStatus.FAILED})
_HOURS_PER_BAR = 4
_BARS = "▁▂▃▄▅▆▇█"
_DELETED = {"deleted": ("Deleted {}", "Would delete {}")}

Words = Annotated[
    list[str] | None,
    Argument(
        metavar="[ACTION SIGNATURE]",
        help="show, retry, cancel or delete, and how a signature begins: retry 3fa9.",
    ),
]
Since = Annotated[
    str | None,
    option("--since", metavar="TIME", help="Show groups with a failure since, e.g. 24h."),
]
Limit = Annotated[
    int | None,
    option("--limit", "-n", least=0, metavar="N", help="Show at most N groups (0: no limit)."),
]
Apart = Annotated[bool, option("--apart", help="With show: list the distinct errors of the group.")]
Expect = Annotated[
    int | None,
    option("--expect", least=0, metavar="N", help="Change nothing if there are more than N jobs."),
]


def command(
    ctx: Context,
    words: Words = None,
    since: Since = None,
    limit: Limit = None,
    apart: Apart = False,
    expect: Expect = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Show failed jobs in groups of one kind, the largest group first.

    With an action and a signature: show, retry or delete all failed jobs of that group, or cancel
    those that wait for another attempt after such a failure.

    Examples:
        jobq triage --since 24h
        jobq triage retry 3fa9 --dry-run
    """
    cli: Cli = ctx.obj
    action, signature = _parsed(words or [])
    _refuse_idle_options(
        action, since=since, limit=limit, apart=apart, expect=expect, yes=yes, dry_run=dry_run
    )
    with cli.queue() as queue:
        if action == "list":
            _list(cli, queue, since, limit, as_json=as_json)
        elif action == "show":
            _show(cli, queue, signature, apart=apart, as_json=as_json)
        else:
            ids = _chosen(queue, action, signature, expect, ask=not (yes or dry_run))
            if ids is None:
                return 1
            report = _changed(queue, action, ids, dry_run=dry_run)
            return report.show(as_json=as_json, dry_run=dry_run)
    return 0


def _parsed(words: Sequence[str]) -> tuple[str, str]:
    if not words:
        return "list", ""
    if len(words) != 2 or words[0] not in ACTIONS:
        raise UsageError(
            f"triage {' '.join(words)!r:.80}: give one of {', '.join(ACTIONS)}, and a signature"
        )
    return words[0], words[1]


_OPTIONS = {
    "list": {"since", "limit"},
    "show": {"apart"},
    "retry": {"expect", "yes", "dry_run"},
    "cancel": {"expect", "yes", "dry_run"},
    "delete": {"expect", "yes", "dry_run"},
}


def _refuse_idle_options(action: str, **given: object) -> None:
    for name, value in given.items():
        if value not in (None, False) and name not in _OPTIONS[action]:
            verb = "triage" if action == "list" else f"triage {action}"
            raise UsageError(f"--{name.replace('_', '-')} does not apply to `jobq {verb}`")


# -- groups ----------------------------------------------------------------------------------


def _list(
    cli: Cli, queue: JobQueue, since: str | None, limit: int | None, *, as_json: bool
) -> None:
    now = queue.now()
    most = DEFAULT_LIMIT if limit is None else limit or None
    after = None if since is None else parse_since(since, now)
    groups = queue.failures(since=after, limit=None if most is None else most + 1)
    shown = groups[:most]
    if as_json:
        print_json({"groups": [group_document(group) for group in shown]})
        return
    if not shown:
        note("No failed jobs." if since is None else f"No jobs failed since {since}.")
        return
    print_columns(
        {
            "signature": [group.signature for group in shown],
            "jobs": [f"{group.size:,}" for group in shown],
            "last": [_ago(group.last_at, now) for group in shown],
            "first": [_ago(group.first_at, now) for group in shown],
            "trend": [trend_of(group) for group in shown],
            "type": [group.type for group in shown],
            "error": [group.error for group in shown],
        },
        color=cli.color,
        flexible=("type", "error"),
        optional=("trend", "first"),
    )
    if len(groups) > len(shown) and limit is None:
        note(f"Only the {DEFAULT_LIMIT} largest groups are shown: --limit 0 shows all.")


def trend_of(group: FailureGroup) -> str:
    """Return bars for the last 24 hours, four hours each; ``new`` for the first such failures."""
    sums = [
        sum(group.by_hour[start : start + _HOURS_PER_BAR])
        for start in range(0, len(group.by_hour), _HOURS_PER_BAR)
    ]
    if sum(map(bool, sums)) == 1 and sum(sums) == group.size:
        return "new"
    highest = max(*sums, 1)
    return "".join(_BARS[-(-each * (len(_BARS) - 1) // highest)] for each in sums)


def _ago(moment: datetime, now: datetime) -> str:
    return f"{format_duration(max(0.0, (now - moment).total_seconds()))} ago"


def _show(cli: Cli, queue: JobQueue, signature: str, *, apart: bool, as_json: bool) -> None:
    group = queue.failure_group(signature)
    errors = queue.group_errors(group.signature) if apart else None
    if as_json:
        document = group_document(group)
        if errors is not None:
            document["errors"] = [{"error": e, "count": n} for e, n in errors.most_common()]
        print_json(document)
        return
    now = queue.now()
    print_fields(
        [
            ("signature", group.signature),
            ("type", group.type),
            ("error", group.error),
            ("jobs", f"{group.size:,}, such as {', '.join(map(str, group.sample))}"),
            ("last", _ago(group.last_at, now)),
            ("first", _ago(group.first_at, now)),
            ("trend", trend_of(group)),
        ]
    )
    if errors is not None:
        print()
        found = errors.most_common(DEFAULT_LIMIT)
        columns = {"jobs": [f"{n:,}" for _, n in found], "error": [e for e, _ in found]}
        print_columns(columns, color=cli.color, flexible=("error",))
        if len(errors) > len(found):
            note(f"Only the {DEFAULT_LIMIT} most frequent of {len(errors):,} are shown.")


# -- changes ---------------------------------------------------------------------------------


def _chosen(
    queue: JobQueue, action: str, signature: str, expect: int | None, *, ask: bool
) -> list[int] | None:
    """Return the jobs to change; None if the person at the terminal declines.

    Raises:
        WrongState: there are more than expected, or than were asked about.
    """
    whole = queue.signature(signature)
    statuses = UNFINISHED if action == "cancel" else _FAILED
    ids = queue.group_ids(whole, statuses=statuses, expected=expect)
    if not ids:
        note("No job matches.")
    elif ask:
        such = ", ".join(map(str, ids[-3:]))
        if not approved(f"{action.title()} {count_of(len(ids))} of {whole}, such as {such}?"):
            return None
        return queue.group_ids(whole, statuses=statuses, expected=len(ids))
    return ids


def _changed(queue: JobQueue, action: str, ids: list[int], *, dry_run: bool) -> Report:
    if action == "retry":
        return retry.report(queue, retry.foresee(queue, ids) if dry_run else queue.retry_many(ids))
    if action == "cancel":
        effects = cancel.foresee(queue, ids, cascade=False) if dry_run else queue.cancel_many(ids)
        return cancel.report(queue, effects)
    return Report(done={"deleted": ids if dry_run else queue.delete(ids)}, sentences=_DELETED)
