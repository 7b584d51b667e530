"""Options for running a supervisor."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobq.execution.terminal import Inherited


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """The options of a supervisor: what it runs, and when it exits."""

    slots: int
    queues: Collection[str] | None = None  # None: all
    types: Collection[str] | None = None  # None: all that are registered
    ids: Collection[int] | None = None  # only these jobs
    drain: bool = False  # exit once nothing is left to do
    wait_retries: bool = False  # and nothing waits for its next attempt
    idle_timeout: float | None = None  # exit after so many seconds without a job
    max_jobs: int | None = None  # exit after having started this many
    reload: bool = True  # load worker files again when they have changed
    cancel_at_stop: bool = False  # end running jobs at the first request to stop, and cancel them
    inherited: "Inherited | None" = None  # what its commands get of stdin and terminal
