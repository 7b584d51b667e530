"""Options and arguments that several verbs take, declared once."""

from typing import Annotated

from jobq.cli.parsing.declarations import Argument, option

Ids = Annotated[
    list[str] | None,
    Argument(
        metavar="[IDS]...",
        help="Job ids: 42, 3-9, 3,5,8, last, or - to read them from stdin.",
        completion="job_ids",
    ),
]
Id = Annotated[
    str,
    Argument(metavar="ID", help="A job id, or `last`.", completion="job_ids"),
]
Status = Annotated[
    list[str] | None,
    option(
        "--status",
        "-s",
        metavar="STATUS",
        help="Jobs in this status; several with commas.",
        completion="statuses",
    ),
]
InQueue = Annotated[
    str | None,
    option(
        "--queue",
        "-Q",
        metavar="QUEUE",
        help="Jobs in this queue.",
        completion="queues",
    ),
]
OfType = Annotated[
    str | None,
    option(
        "--type",
        "-t",
        metavar="TYPE",
        help="Jobs of this type.",
        completion="types",
    ),
]
Tags = Annotated[
    list[str] | None,
    option("--tag", metavar="KEY=VALUE", help="Jobs with this tag; may be repeated."),
]
Since = Annotated[
    str | None,
    option("--since", metavar="TIME", help="Added since: a time, or 1h for an hour ago."),
]
Until = Annotated[str | None, option("--until", metavar="TIME", help="Added before.")]
Limit = Annotated[
    int | None,
    option("--limit", "-n", least=0, metavar="N", help="At most so many jobs; 0: all."),
]
AsJson = Annotated[bool, option("--json", help="Print one JSON document.")]
AsJsonl = Annotated[bool, option("--jsonl", help="Print one JSON object a line.")]
Reason = Annotated[str | None, option("--reason", metavar="TEXT", help="Why; it is kept.")]
Yes = Annotated[bool, option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, option("--dry-run", help="Only say what would be done.")]
