"""Outages of the database: reported when they begin and when they end, and waited for."""

import time
from collections.abc import Callable
from typing import TypeVar

from jobq.errors import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseRefusesError,
    DatabaseUnavailableError,
)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
"""Pauses between two calls; after an outage, a process may be late by the longest."""

_T = TypeVar("_T")


class Outage:
    """The state of the database as one process sees it: available, or away since some error."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self._pause = FIRST_PAUSE_S
        self._was_let_in = False
        self.error: DatabaseUnavailableError | None = None
        """The reason why the database can't be used now; None: it can, as far as is known."""

    def met(self, error: DatabaseUnavailableError) -> None:
        """Record that the database could not be used."""
        if self.error is None:
            self._tell(f"{error} (trying again until it works)")
        self.error = error

    def over(self) -> None:
        """Record that the database could be used."""
        self._pause = FIRST_PAUSE_S
        self._was_let_in = True
        if self.error is not None:
            away = isinstance(self.error, DatabaseAwayError)
            self.error = None
            self._tell(f"the database can be {'reached' if away else 'written to'} again")

    def next_pause(self) -> float:
        """Return the seconds until the next call: growing, and with jitter."""
        from random import uniform  # only here: every command imports this module

        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE_S)
        return pause * uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    def until_answered(self, call: Callable[[], _T], deadline: float | None = None) -> _T:
        """Return the result of a call, repeated until the server answers or `monotonic` time is up.

        Only for calls that may be executed twice.

        Raises:
            DatabaseAwayError: there was no answer by the deadline.
            DatabaseRefusesError: the server has refused every call so far.
        """
        while True:
            try:
                found = call()
            except DatabaseAwayError as error:
                if isinstance(error, DatabaseRefusesError) and not self._was_let_in:
                    raise
                self.met(error)
                pause = self.next_pause()
                if deadline is not None and time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
            else:
                self.over()
                return found

    async def answered(self, call: Callable[[], object]) -> None:
        """Return once the server answers. Each call runs in a thread, as it may be slow to fail."""
        import asyncio  # only here: commands that wait do without

        from jobq.system.resources import in_thread

        while True:
            await asyncio.sleep(self.next_pause())
            try:
                await in_thread(call)
            except DatabaseAwayError as error:
                self.met(error)
            except DatabaseError:  # the next verb meets it, and reports it
                return
            else:
                return
