"""The silence of a fork server: how long it is waited for what it should have told by now."""

import asyncio
from collections.abc import Callable, Collection

from jobq.execution.children.connection import ChildConnection

SILENCE_S = 10.0
"""Seconds after which a fork server that has not answered is replaced."""


class SilenceWatch:
    """Waits for a fork server to tell of each child that it is there, or has exited."""

    def __init__(
        self,
        awaited: Callable[[], Collection[ChildConnection]],
        loaded_at: Callable[[], float | None],
        on_silent: Callable[[], object],
    ) -> None:
        """``awaited`` returns the children of which it should tell.

        ``loaded_at`` returns when it had imported the worker files, by the loop's clock; None if it
        has not. ``on_silent`` is called when it does not answer any more.
        """
        self._awaited = awaited
        self._loaded_at = loaded_at
        self._on_silent = on_silent
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, child: ChildConnection) -> None:
        """Expect news of a child soon."""
        loop = asyncio.get_running_loop()
        child.awaited_since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(SILENCE_S, self._check)

    def cancel(self) -> None:
        """Expect nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        awaited = self._awaited()
        if not awaited:
            return
        loop, loaded_at = asyncio.get_running_loop(), self._loaded_at()
        left = SILENCE_S
        if loaded_at is not None:
            left += max(loaded_at, min(child.awaited_since for child in awaited)) - loop.time()
        if left <= 0:
            self._on_silent()
            return
        self._timer = loop.call_later(left, self._check)
