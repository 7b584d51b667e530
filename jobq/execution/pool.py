"""The pool: starts runs as commands or in children, and reports what becomes of them.

Which attempt runs when is decided in `slots`, what its exit means in `finish`.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobq.config.environment import SUPERVISOR_VAR, job_environment
from jobq.config.settings import Settings
from jobq.execution.children.pool import ChildPool
from jobq.execution.commands import Commands
from jobq.execution.events import RunEvents
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit
from jobq.models import Outcome

_STDERR = 2


class Pool:
    """The processes of one supervisor: commands, children, and the fork server."""

    def __init__(
        self,
        settings: Settings,
        owner: str,
        events: RunEvents,
        on_types: Callable[[list[str], list[str]], None],
    ) -> None:
        """``on_types`` gets the job types that children can run, and why others can't be."""
        self._events = events
        environment = {**job_environment(settings), SUPERVISOR_VAR: owner}
        self._commands = Commands(environment, events)
        self._children = ChildPool(settings, environment, events, on_types)

    def open(self) -> None:
        """Start the process that children are forked from, which is also this process's guard."""
        _keep_files_to_itself()
        self._children.open()

    def close(self) -> None:
        """End idle children and their parent."""
        self._children.close()

    def start(self, run: Run) -> None:
        """Start an attempt in a slot of its own; its process may be known only later.

        A command that can't be started has an exit like any other. So has an attempt whose log
        directory can't be used.
        """
        try:
            if run.claim.attempt > 1:
                run.open_again()
            elif run.is_command:
                run.open()
        except OSError as error:
            text = f"the log directory can't be used: {error.filename}: {error.strerror}"
            self._events.on_begin(run)
            self._events.on_exit(run, Exit(outcome=Outcome.FAILED, error=text))
            return
        if run.is_command:
            self._commands.start(run)
        else:
            self._children.start(run)

    def follow(self, run: Run) -> bool:
        """Give an attempt to a busy child, to go on with; return False if none takes it."""
        if run.is_command or run.claim.attempt > 1:  # this process has to open its files
            return False
        return self._children.follow(run)

    def send(self) -> None:
        """Send to children what they were given."""
        self._children.send()

    def take_back(self) -> None:
        """Take back from children everything that is not begun."""
        self._children.take_back()

    def reap(self) -> None:
        """Collect processes that have exited. Call it at SIGCHLD."""
        self._commands.reap()
        self._children.reap()


def _keep_files_to_itself() -> None:
    """Keep commands from inheriting what this process inherited besides the standard streams."""
    for path in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):  # the listing's own is closed by now
            if int(path.name) > _STDERR:
                os.set_inheritable(int(path.name), False)
