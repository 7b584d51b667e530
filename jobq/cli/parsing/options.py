"""Options and arguments that several verbs take, declared once."""

from collections.abc import Sequence
from typing import Annotated

from jobq.cli.parsing.arguments import parse_ids, parse_pairs
from jobq.cli.parsing.declarations import Argument, Group, option
from jobq.clock import utcnow
from jobq.errors import UsageError
from jobq.jobs.spec import parse_statuses
from jobq.models import JobFilter, TextSearch
from jobq.queue import JobQueue
from jobq.units import parse_since

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
    Argument(metavar="ID", help="A job id, or last.", completion="job_ids"),
]
AsJson = Annotated[bool, option("--json", help="Print one JSON document.")]
AsJsonl = Annotated[bool, option("--jsonl", help="Print one JSON object per line.")]
Yes = Annotated[bool, option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, option("--dry-run", help="Only show what would be done.")]
Slots = Annotated[
    int | None,
    option("--jobs", "-j", least=1, metavar="N", help="Run at most N jobs at a time."),
]


class Selection(Group):
    """The options that select jobs by what they have in common."""

    status: Annotated[
        list[str] | None,
        option(
            "--status",
            "-s",
            metavar="STATUS",
            help="Select jobs in this status; separate several with commas.",
            completion="statuses",
        ),
    ] = None
    in_queue: Annotated[
        str | None,
        option(
            "--queue",
            "-Q",
            metavar="QUEUE",
            help="Select jobs in this queue.",
            completion="queues",
        ),
    ] = None
    of_type: Annotated[
        str | None,
        option(
            "--type",
            "-t",
            metavar="TYPE",
            help="Select jobs of this type.",
            completion="types",
        ),
    ] = None
    tags: Annotated[
        list[str] | None,
        option("--tag", metavar="KEY=VALUE", help="Select jobs with this tag; repeatable."),
    ] = None
    signature: Annotated[
        str | None,
        option(
            "--signature", metavar="SIG", help="Select jobs that failed like this: jobq triage."
        ),
    ] = None
    name: Annotated[
        str | None,
        option(
            "--name",
            metavar="PATTERN",
            help="Select jobs with this text in their name; with * or ?, by their whole name.",
        ),
    ] = None
    text: Annotated[
        list[str] | None,
        option(
            "--text",
            metavar="TEXT",
            help="Select jobs with this text in command, arguments, name, tags or error; repeatable.",
        ),
    ] = None
    since: Annotated[
        str | None,
        option("--since", metavar="TIME", help="Select jobs added since, e.g. 1h or 'today 7:00'."),
    ] = None
    until: Annotated[
        str | None,
        option("--until", metavar="TIME", help="Select jobs added before, e.g. 30d."),
    ] = None
    limit: Annotated[
        int | None,
        option("--limit", "-n", least=0, metavar="N", help="Take at most N jobs (0: no limit)."),
    ] = None

    def job_filter(self, queue: JobQueue, ids: Sequence[str] | None = None) -> JobFilter:
        """Return the filter for the jobs that the options and ids stand for.

        Raises:
            UsageError: an option's value is wrong.
            NotFound: the queue does not exist.
        """
        now = utcnow()
        if self.in_queue is not None:
            queue.queue(self.in_queue)
        statuses = [name for word in self.status or () for name in word.split(",")]
        return JobFilter(
            ids=None if not ids else tuple(parse_ids(ids, queue)),
            statuses=parse_statuses(statuses or None),
            queue=self.in_queue,
            type=self.of_type,
            tags=parse_pairs(self.tags, "tag"),
            signature=None if self.signature is None else queue.signature(self.signature),
            since=None if self.since is None else parse_since(self.since, now),
            until=None if self.until is None else parse_since(self.until, now),
            text=self._text_search(),
        )

    def _text_search(self) -> TextSearch | None:
        """Return the texts to search for; None if there are none.

        Raises:
            UsageError: one is empty, as of a variable that was not set: all jobs would have it.
        """
        if self.name is None and self.text is None:
            return None
        for given, value in (
            ("--name", self.name),
            *(("--text", each) for each in self.text or ()),
        ):
            if value == "":
                raise UsageError(f"{given} '': give text, or leave it out")
        names = () if self.name is None else (self.name,)
        is_pattern = any(sign in (self.name or "") for sign in "*?")
        return TextSearch(
            words=tuple(self.text or ()),
            name=() if is_pattern else names,
            name_patterns=names if is_pattern else (),
        )
