"""The time for which a supervisor has had nothing to do."""


class IdleTimer:
    """A timer that runs while there are no jobs."""

    def __init__(self, timeout: float | None) -> None:
        """``timeout``: seconds after which it is over; None: never."""
        self._timeout = timeout
        self._idle_since: float | None = None

    def restart(self) -> None:
        """Begin anew: there is, or was, something to do."""
        self._idle_since = None

    def is_over(self, now: float) -> bool:
        """Return whether there has been nothing to do for long enough."""
        if self._timeout is None:
            return False
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since >= self._timeout
