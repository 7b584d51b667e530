"""``jobq work``: run jobs."""

import resource
import sys
from collections.abc import Collection
from typing import Annotated

from jobq.backends.outage import Outage
from jobq.cli.context import INTERRUPTED, Cli, complain
from jobq.cli.event_loop import run_to_end
from jobq.cli.parsing.arguments import parse_span
from jobq.cli.parsing.declarations import Context, Group, option
from jobq.cli.parsing.options import Slots
from jobq.cli.rendering.output import note
from jobq.cli.rendering.work_screen import Screen, printer
from jobq.execution.background import release_start_lock, stop_with_program
from jobq.execution.options import WorkOptions
from jobq.execution.supervisor import Supervisor
from jobq.job_types.registry import require_types
from jobq.models import Claim
from jobq.queue import JobQueue

_OWN_FILES = 40
_FILES_PER_SLOT = 8  # the log directory of a job, its events, and what its start needs for a moment


class WorkSelection(Group):
    """The options that say which jobs to run, and when to exit."""

    queue: Annotated[
        list[str] | None,
        option(
            "--queue",
            "-Q",
            metavar="QUEUE",
            help="Run only jobs of this queue; repeatable.",
            completion="queues",
        ),
    ] = None
    type_: Annotated[
        list[str] | None,
        option(
            "--type",
            "-t",
            metavar="TYPE",
            help="Run only jobs of this type; repeatable.",
            completion="types",
        ),
    ] = None
    drain: Annotated[bool, option("--drain", help="Exit once no jobs are left to run.")] = False
    wait_retries: Annotated[
        bool, option("--wait-retries", help="With --drain: also wait for retries.")
    ] = False
    idle_timeout: Annotated[
        str | None,
        option("--idle-timeout", metavar="SPAN", help="Exit after this long without a job."),
    ] = None
    max_jobs: Annotated[
        int | None, option("--max-jobs", least=1, metavar="N", help="Exit after N jobs.")
    ] = None


NoReload = Annotated[
    bool,
    option("--no-reload", help="Keep the worker files as they are now, even if they change."),
]


def command(
    ctx: Context,
    pick: WorkSelection,
    jobs: Slots = None,
    no_reload: NoReload = False,
) -> int:
    """Run jobs until told to stop.

    The first Ctrl-C (or SIGTERM) waits for running jobs; the second stops them and returns them to
    the queue.

    Examples:
        jobq work -j 4
        jobq work --queue downloads --drain
    """
    cli: Cli = ctx.obj
    outage = Outage(complain)  # the server may start after us
    with outage.until_answered(lambda: JobQueue.from_settings(cli.settings())) as opened:
        for name in pick.queue or ():
            opened.queue(name)
        if pick.type_:
            require_types(opened.registry, pick.type_)
        opened.logs.make_root()  # without it, every job would fail
        opened.apply_configured_queues()
        options = WorkOptions(
            slots=_slots(jobs or opened.settings.concurrency),
            queues=pick.queue,
            types=pick.type_,
            drain=pick.drain,
            wait_retries=pick.wait_retries,
            idle_timeout=(
                None
                if pick.idle_timeout is None
                else parse_span("--idle-timeout", pick.idle_timeout)
            ),
            max_jobs=pick.max_jobs,
            reload=not no_reload,
        )
        with Screen(opened, color=cli.color) if sys.stdout.isatty() else printer() as screen:
            supervisor = Supervisor(opened, options, screen.show)
            screen.show_start(supervisor.id, options.slots)

            def started(owner: str) -> Collection[Claim]:
                del owner
                release_start_lock()
                stop_with_program(supervisor.request_stop)
                return ()  # nothing is claimed beforehand

            run_to_end(lambda: supervisor.run(started))
        print(screen.summary())
        return INTERRUPTED if supervisor.interrupted else 0


def _slots(wanted: int) -> int:
    """Return the number of slots: as many as wanted, if the limit of open files allows them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    possible = max(1, (most - _OWN_FILES) // _FILES_PER_SLOT)
    if most != resource.RLIM_INFINITY and wanted > possible:
        note(f"Running at most {possible} jobs at a time: the limit of open files is {most}.")
        return possible
    return wanted
