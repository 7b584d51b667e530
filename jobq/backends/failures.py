"""The part of the backend contract about failures: failed jobs, grouped by their signatures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime

from jobq.backends.messages import FailureFigures
from jobq.models import Job, Outcome

SAMPLE_SIZE = 3
"""Jobs of a group that are named."""

HOURS = 24
"""Hours for which a group's failures are counted one by one."""


class FailureStore(ABC):
    """Failed jobs by signature. Those of older versions have none until they are signed."""

    @abstractmethod
    def groups(
        self,
        now: datetime,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        prefix: str = "",
    ) -> list[FailureFigures]:
        """Return the signatures of failed jobs, those with most jobs first, then the latest.

        With ``since``, only those with a failure since then; the figures are of the whole group.
        With ``prefix``, only those that begin so.
        """

    @abstractmethod
    def unsigned(self, *, after: int = 0, limit: int) -> list[tuple[Job, Outcome | None]]:
        """Return up to ``limit`` failed jobs without a signature, in ascending order of id.

        Each with the outcome of its last attempt. ``after``: greater ids only.
        """

    @abstractmethod
    def sign(self, signatures: Mapping[int, str]) -> int:
        """Store signatures, and return how many: of failed jobs that have none."""
