"""Options and arguments that several verbs take, declared once."""

from typing import Annotated

import typer

from jobq.cli import completion

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[IDS]...",
        help="Job ids: 42, 3-9, 3,5,8, last, or - to read them from stdin.",
        autocompletion=completion.job_ids,
    ),
]
Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="A job id, or `last`.", autocompletion=completion.job_ids),
]
Status = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        "-s",
        metavar="STATUS",
        help="Jobs in this status; several with commas.",
        autocompletion=completion.statuses,
    ),
]
InQueue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        "-Q",
        metavar="QUEUE",
        help="Jobs in this queue.",
        autocompletion=completion.queues,
    ),
]
OfType = Annotated[
    str | None,
    typer.Option(
        "--type",
        "-t",
        metavar="TYPE",
        help="Jobs of this type.",
        autocompletion=completion.types,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY=VALUE", help="Jobs with this tag; may be repeated."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Added since: a time, or 1h for an hour ago."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Added before.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=0, metavar="N", help="At most so many jobs; 0: all."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AsJsonl = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
