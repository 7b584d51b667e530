"""``jobq down``: end the supervisors of this host."""

import time
from collections.abc import Callable, Collection
from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.rendering.output import count_of, note
from jobq.errors import OlderSupervisorError
from jobq.execution import background
from jobq.models import JobStatus, SupervisorInfo
from jobq.queue import JobQueue
from jobq.supervisor_process import POLL_INTERVAL_S

_NOTE_AFTER_S = 0.5


def command(
    ctx: Context,
    now: Annotated[
        bool, option("--now", help="Stop running jobs, and return them to the queue.")
    ] = False,
) -> None:
    """End the supervisors of this host: they start no more jobs, and finish those that run.

    Waits until they have ended; Ctrl-C only ends the waiting. Jobs that have not started stay in
    the queue.

    Examples:
        jobq down
        jobq down --now
    """
    cli: Cli = ctx.obj
    try:
        _end_all(cli, now=now)
    except OlderSupervisorError as error:
        _end_older(error.owners, now=now)


def _end_all(cli: Cli, *, now: bool) -> None:
    with cli.queue() as queue:
        there = background.taking_jobs(queue)
        here = background.working_here(queue)
        if not here:
            note("No supervisor is running here.")
        else:
            background.ask_to_stop([each for each in here if each.takes_jobs])
            _wait(lambda: any(each.takes_jobs for each in background.still_there(queue, here)))
            if now:
                background.ask_to_stop(background.still_there(queue, here))
            _wait_for_end(queue, here)
            _wait(lambda: any(background.is_process_of_work(each.pid) for each in here))
            print(f"Ended {count_of(len(here), 'supervisor')}")
        if others := len({each.id for each in there} - {each.id for each in here}):
            note(f"{count_of(others, 'supervisor')} of other hosts: jobq down there ends them.")


def _end_older(owners: Collection[str], *, now: bool) -> None:
    """End supervisors by their processes alone: the database is migrated once they have ended."""
    pids = [int(owner.split(":")[1]) for owner in owners]
    there = [pid for pid in pids if background.is_process_of_work(pid)]

    def goes_on() -> bool:
        return any(background.is_process_of_work(pid) for pid in there)

    background.terminate(there)
    if now:
        asked_at = time.monotonic()
        _wait(lambda: goes_on() and time.monotonic() < asked_at + _NOTE_AFTER_S)
        background.terminate(pid for pid in there if background.is_process_of_work(pid))
    elif there:
        note("Waiting for supervisors of an older jobq: jobq down --now gives running jobs back")
    _wait(goes_on)
    print(f"Ended {count_of(len(there), 'supervisor')} of an older jobq")


def _wait_for_end(queue: JobQueue, here: list[SupervisorInfo]) -> None:
    noted_at = time.monotonic() + _NOTE_AFTER_S
    noted = False

    def goes_on() -> bool:
        nonlocal noted
        left = background.still_there(queue, here)
        if left and not noted and time.monotonic() > noted_at:
            noted = True
            running = queue.counts()[JobStatus.RUNNING]
            what = f"{count_of(running, 'running job')}: jobq down --now gives them back"
            note(f"Waiting for {what if running else 'it to end'}")
        return bool(left)

    _wait(goes_on)


def _wait(goes_on: Callable[[], bool]) -> None:
    while goes_on():
        time.sleep(POLL_INTERVAL_S)
