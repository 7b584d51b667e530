"""The pool: starts runs as commands or in children, and reports what becomes of them.

Which attempt runs when is decided in `slots`, what its exit means in `finish`.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jobq.config.environment import SUPERVISOR_VAR, job_environment
from jobq.config.settings import Settings
from jobq.execution.children.pool import ChildPool
from jobq.execution.children.silence import SILENCE_S
from jobq.execution.commands import Commands
from jobq.execution.events import RunEvents
from jobq.execution.hold import reason_to_wait
from jobq.execution.orphans import OrphanReaper
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit
from jobq.models import Outcome

if TYPE_CHECKING:
    from jobq.execution.terminal import Inherited

_STDERR = 2


class Pool:
    """The processes of one supervisor: commands, children, and the fork server."""

    def __init__(
        self,
        settings: Settings,
        owner: str,
        events: RunEvents,
        on_types: Callable[[list[str], list[str], list[str]], None],
        *,
        on_short: Callable[[str], None] = lambda _: None,
        on_message: Callable[[str], None] = lambda _: None,
        inherited: "Inherited | None" = None,
    ) -> None:
        """``on_types`` gets the job types that children can run, why others can't be run, and their files.

        ``on_short`` gets the reason why nothing can be started now, `is_ready` being false.
        """
        self._events = events
        self._on_message = on_message
        environment = {**job_environment(settings), SUPERVISOR_VAR: owner}
        self._commands = Commands(environment, events, inherited)
        self._orphans = OrphanReaper()
        self._new_children = partial(
            ChildPool,
            settings,
            environment,
            events,
            on_types,
            on_short=on_short,
            on_silent=self._replace_children,
        )
        self._children = self._new_children()
        self._retired: list[ChildPool] = []  # replaced: they only finish jobs

    def open(self) -> None:
        """Start the process that children are forked from, which is also this process's guard."""
        _keep_files_to_itself()
        self._children.open()

    def close(self) -> None:
        """End idle children and their parent."""
        for children in self._all_children():
            children.close()

    @property
    def is_ready(self) -> bool:
        """True unless the host has no room for the process that guards what is started."""
        return self._children.is_ready

    def _all_children(self) -> list[ChildPool]:
        self._retired = [children for children in self._retired if not children.is_done]
        return [self._children, *self._retired]

    def _replace_children(self) -> None:
        self._on_message(
            f"the process that starts workers has not answered for {SILENCE_S:g} s: "
            "another one takes its place"
        )
        self._retired.append(self._children)
        self._children = self._new_children()
        self._children.open()
        self._retired[-1].retire()

    def reload(self) -> int:
        """Have children forked with the worker files as they are now; return how many go on.

        Those finish their jobs with the code that they have.
        """
        self._retired.append(self._children)
        self._children = self._new_children()
        self._children.open()
        return self._retired[-1].retire(answering=True)

    def start(self, run: Run) -> None:
        """Start an attempt in a slot of its own; its process may be known only later.

        A command that can't be started has an exit like any other. So has an attempt whose log
        directory can't be used. What the host is short of is no fault of the job: then it is taken
        back.
        """
        try:
            if run.claim.attempt > 1:
                run.open_again()
            elif run.is_command:
                run.open()
        except OSError as error:
            self._events.on_begin(run)
            if reason := reason_to_wait(error, run.logs):
                self._events.on_shortage([run], reason)
                return
            text = f"the log directory can't be used: {error.filename}: {error.strerror}"
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
        for children in self._all_children():
            children.take_back()

    def withdraw(self, run: Run) -> bool:
        """Take back a run that waits for its child to be there; return whether it does."""
        return self._children.withdraw(run)

    def reap_orphans(self) -> None:
        """Collect dead processes that others have left to this one. Call it once in a while."""
        if self._orphans.is_needed:
            self._orphans.reap(self._commands.pids)

    def reap(self) -> None:
        """Collect processes that have exited. Call it at SIGCHLD."""
        self._commands.reap()
        for children in self._all_children():
            children.reap()


def _keep_files_to_itself() -> None:
    """Keep commands from inheriting what this process inherited besides the standard streams."""
    for path in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):  # the listing's own is closed by now
            if int(path.name) > _STDERR:
                os.set_inheritable(int(path.name), False)
