"""Times in which the database is unavailable: said once, and once when they are over."""

import time
from collections.abc import Callable
from typing import TypeVar

from jobq.errors import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseRefusesError,
    DatabaseUnavailableError,
)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between two tries, the longest of which is what everybody may be late by afterwards."""

_T = TypeVar("_T")


class Outage:
    """What one process knows of the times in which it can't use the database."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self._pause = FIRST_PAUSE
        self._was_let_in = False
        self.error: DatabaseUnavailableError | None = None
        """Why the database can't be used just now; None: nothing is known against it."""

    def met(self, error: DatabaseUnavailableError) -> None:
        """The database could not be used."""
        if self.error is None:
            self._tell(f"{error} (trying again until it works)")
        self.error = error

    def over(self) -> None:
        """The database could be used."""
        self._pause = FIRST_PAUSE
        self._was_let_in = True
        if self.error is not None:
            away = isinstance(self.error, DatabaseAwayError)
            self.error = None
            self._tell(f"the database can be {'reached' if away else 'written to'} again")

    def next_pause(self) -> float:
        """Seconds until the next try: ever more, and not the same for all who wait."""
        from random import uniform  # only here: every command imports this module

        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause * uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    def until_answered(self, look: Callable[[], _T], deadline: float | None = None) -> _T:
        """What a look gives once a server answers; tried until then, or a time by `monotonic`.

        Only for what may be done twice.

        Raises:
            DatabaseAwayError: there was no answer by the deadline.
            DatabaseRefusesError: the server has not let us in even once.
        """
        while True:
            try:
                found = look()
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

    async def answered(self, look: Callable[[], object]) -> None:
        """Return once a server answers. Each look is a thread's: it may take its time to fail."""
        import asyncio  # the supervisor has it; what only waits does without

        while True:
            await asyncio.sleep(self.next_pause())
            try:
                await asyncio.to_thread(look)
            except DatabaseAwayError as error:
                self.met(error)
            except DatabaseError:  # whoever asks next meets it, and says so
                return
            else:
                return
