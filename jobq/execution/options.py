"""What a supervisor is asked for, and what it tells whoever looks on."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from jobq.models import AttemptResult, Progress
from jobq.redaction import ShownJob


class Stop(IntEnum):
    """How far the supervisor has been asked to stop; each request goes one further."""

    NO = 0
    DRAIN = 1  # start nothing more, let what runs end
    RELEASE = 2  # end what runs, and give it back
    KILL = 3  # without grace


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    slots: int
    queues: Collection[str] | None = None  # None: all
    types: Collection[str] | None = None  # None: all that are registered
    ids: Collection[int] | None = None  # only these jobs
    drain: bool = False  # leave once nothing is left to do
    wait_retries: bool = False  # and nothing waits for its next try
    max_jobs: int | None = None  # leave after having started so many
    cancel_at_stop: bool = False  # rather than wait for what runs, and give it back


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person at the terminal may like to see, without secrets."""

    kind: str  # started, progress, finished, message
    job: ShownJob | None = None
    ending: AttemptResult | None = None
    progress: Progress | None = None
    text: str = ""
    at: datetime | None = None  # by the clock that its times are of
