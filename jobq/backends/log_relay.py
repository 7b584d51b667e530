"""Output of jobs on its way to other hosts: the part of the contract of backends about it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from jobq.backends.messages import LogChunk


class LogRelay(ABC):
    """Output of jobs on its way to other hosts."""

    ships: ClassVar[bool]
    """True if the backend serves hosts that do not share files; if not, nothing is kept here."""

    @abstractmethod
    def ship(self, chunks: Sequence[LogChunk], *, max_bytes: int, ttl: timedelta) -> None:
        """Keep output for other hosts: the last ``max_bytes`` of each job, for ``ttl``.

        Unlike everything else it may be lost: it is no part of a group and changes no counter.
        Output of a job that does not exist is dropped; output is deleted with its job.
        """

    @abstractmethod
    def shipped(self, job_id: int, after: str | None = None) -> tuple[list[LogChunk], str | None]:
        """Return the kept output of a job in order of arrival, and where to go on ``after``."""
