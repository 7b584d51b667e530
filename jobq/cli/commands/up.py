"""``jobq up``: run jobs in the background."""

from jobq.cli.commands.service import Service
from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context
from jobq.cli.parsing.options import Slots
from jobq.errors import UsageError
from jobq.execution import background
from jobq.supervisor_process import log_file


def command(ctx: Context, jobs: Slots = None) -> None:
    """Start a supervisor in the background, unless one is running.

    It outlives this terminal, and writes what it does to a file beside the database. Where
    `jobq service` is installed, that is started. `jobq down` ends it.

    Examples:
        jobq up
        jobq up -j 4
    """
    cli: Cli = ctx.obj
    if background.is_inside_a_job():
        raise UsageError("jobq up: this is a job, and what it starts ends with it")
    with cli.queue() as queue:
        if there := background.taking_jobs(queue):
            print(f"A supervisor is running: {there[0].id}")
            return
        service = Service(queue.settings)
        if jobs is None and service.path.exists() and service.is_reachable():
            service.systemctl("start", service.name)
            print(f"Started {service.name}: jobq service status")
            return
        started = background.start(queue, jobs)
        if started is None:
            print(f"A supervisor is running: {background.taking_jobs(queue)[0].id}")
            return
        log = log_file(queue.settings)
        print(f"Started a supervisor, pid {started.pid}, {started.slots} at a time: {log}")
