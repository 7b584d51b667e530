"""Supervisors that are started where jobs are added and none is running: [work] autostart."""

import sys

from jobq.cli.rendering.output import note
from jobq.queue import JobQueue


def autostart(queue: JobQueue) -> None:
    """Start a supervisor in the background if the settings want it and none takes jobs."""
    if not queue.settings.autostart:
        return
    from jobq.execution.background import start_if_needed  # only where it is wanted

    if start_if_needed(queue) and sys.stderr.isatty():
        note("A supervisor is starting in the background: jobq down ends it.")
