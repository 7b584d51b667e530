"""The watch over worker files: once they have changed, they are loaded again."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from jobq.execution.events import EventSender
from jobq.execution.slots import Slots
from jobq.job_types.worker_files import FileState, file_states

LOOK_INTERVAL_S = 0.01
"""Shortest time between two looks at the files: jobs may be claimed more often."""

LOOK_SHARE = 0.01
"""Largest share of the time that looks may take, where there are many files."""

SETTLE_S = 0.2
"""Seconds for which the files must stay as they are: an editor, or git, may not be done."""

_MAX_NAMES = 3


class CodeWatch:
    """The worker files, as they were when they were loaded."""

    def __init__(
        self,
        folders: Sequence[Path],
        slots: Slots,
        events: EventSender,
        on_change: Callable[[], None],
    ) -> None:
        """``on_change`` is called when no job of a worker is to start until they are loaded again."""
        self._folders = folders
        self._slots = slots
        self._events = events
        self._on_change = on_change
        self._known: dict[str, FileState] = {}
        self._look_at = 0.0
        self._is_settling = False

    def begin(self) -> None:
        """Note the files. Call this before they are loaded."""
        self._known = file_states(self._folders)

    def note_loaded(self, files: list[str]) -> None:
        """Watch what they have imported, too."""
        if self._folders:
            self._known = file_states((), files) | self._known

    def look(self) -> None:
        """Look for a change, unless that was a moment ago. Call this before jobs are claimed."""
        loop = asyncio.get_running_loop()
        if not self._folders or self._is_settling:
            return
        if (began := loop.time()) < self._look_at:
            return
        states = file_states(self._folders, self._known)
        took = loop.time() - began
        self._look_at = began + max(LOOK_INTERVAL_S, took / LOOK_SHARE)
        if states != self._known:
            self._is_settling = True
            self._slots.put_back()
            self._on_change()
            loop.call_later(SETTLE_S, self._settle, states)

    def _settle(self, seen: dict[str, FileState]) -> None:
        states = file_states(self._folders, seen)
        if states != seen:
            asyncio.get_running_loop().call_later(SETTLE_S, self._settle, states)
            return
        changed = {
            name
            for name in states.keys() | self._known.keys()
            if states.get(name) != self._known.get(name)
        }
        self._known = {name: state for name, state in states.items() if state is not None}
        self._is_settling = False
        if (busy := self._slots.reload()) is not None:
            self._events.message(_message(changed, busy))


def _message(changed: set[str], busy: int) -> str:
    names = sorted(Path(name).name for name in changed)
    shown = ", ".join(names[:_MAX_NAMES]) or "a worker file"
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    old = ""
    if busy:
        old = f"; {busy} running job{'s finish' if busy > 1 else ' finishes'} on the old code"
    return f"{shown}{more} changed: workers are loaded again{old}"
