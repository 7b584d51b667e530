"""``jobq work``: run jobs."""

import asyncio
import resource
import sys
from typing import Annotated

from jobq.backends.outage import Outage
from jobq.cli.context import INTERRUPTED, Cli, complain
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.rendering.output import note
from jobq.cli.rendering.work_screen import Screen, printer
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.job_types.registry import require_types
from jobq.queue import JobQueue

_OWN_FILES = 40
_FILES_OF_A_RUN = 8  # its log directory, its events, and what its start takes for a moment


def command(
    ctx: Context,
    jobs: Annotated[
        int | None,
        option("--jobs", "-j", least=1, metavar="N", help="At most so many at once."),
    ] = None,
    queue: Annotated[
        list[str] | None,
        option(
            "--queue",
            "-Q",
            metavar="QUEUE",
            help="Only this queue; may be repeated.",
            completion="queues",
        ),
    ] = None,
    type_: Annotated[
        list[str] | None,
        option(
            "--type",
            "-t",
            metavar="TYPE",
            help="Only this type; may be repeated.",
            completion="types",
        ),
    ] = None,
    drain: Annotated[bool, option("--drain", help="Leave once nothing is left to do.")] = False,
    wait_retries: Annotated[
        bool, option("--wait-retries", help="With --drain: wait for retries, too.")
    ] = False,
    max_jobs: Annotated[
        int | None, option("--max-jobs", least=1, metavar="N", help="Leave after so many.")
    ] = None,
) -> int:
    """Run jobs until told to stop.

    The first Ctrl-C (or SIGTERM) waits for what runs, the second stops it and gives it back.
    """
    cli: Cli = ctx.obj
    outage = Outage(complain)  # a server may be started after us
    with outage.until_answered(lambda: JobQueue.from_settings(cli.settings())) as opened:
        for name in queue or ():
            opened.queue(name)
        if type_:
            require_types(opened.registry, type_)
        opened.logs.make_root()  # without it, every job would fail
        opened.apply_configured_queues()
        options = WorkOptions(
            slots=_slots(jobs or opened.settings.concurrency),
            queues=queue,
            types=type_,
            drain=drain,
            wait_retries=wait_retries,
            max_jobs=max_jobs,
        )
        with Screen(opened, color=cli.color) if sys.stdout.isatty() else printer() as screen:
            supervisor = Supervisor(opened, options, screen.show)
            screen.show_start(supervisor.id, options.slots)
            asyncio.run(supervisor.run())
        print(screen.summary())
        return INTERRUPTED if supervisor.interrupted else 0


def _slots(wanted: int) -> int:
    """As many as wanted, or as there can be open files for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    possible = max(1, (most - _OWN_FILES) // _FILES_OF_A_RUN)
    if most != resource.RLIM_INFINITY and wanted > possible:
        note(f"At most {possible} jobs at once: the limit of open files is {most}.")
        return possible
    return wanted
