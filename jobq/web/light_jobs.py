"""Jobs as lists have them, as bytes that are made once for each state of a job.

Removing secrets would take most of the time of a list. Lists are read again and again, and few of
their jobs have changed.
"""

from operator import attrgetter
from typing import Any

from jobq.models import Job
from jobq.redaction import Redactor
from jobq.web.schemas import light_document, to_json

MAX_REMEMBERED_JOBS = 2000
MAX_REMEMBERED_BYTES = 4096
"""Of one job: larger ones are rare, and made each time."""

_changing = attrgetter(
    "id",
    "created_at",  # a server that lost its latest writes gives out ids again
    "status",
    "unmet_parents",
    "attempts",
    "failures",
    "crashes",
    "run_at",
    "started_at",
    "finished_at",
    "cancel_requested",
    "cancelled_by",
    "progress",
    "exit_code",
    "signal",
    "error",
    "signature",
    "reason",
)
"""What tells two states of a job apart: the rest never changes."""


class LightJobs:
    """Light documents, with a memory of the last ones. Safe to share between threads."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._known: dict[tuple[Any, ...], bytes] = {}

    def json_of(self, job: Job) -> bytes:
        """Return the light document of a job as JSON."""
        state = _changing(job)
        known = self._known.get(state)
        if known is None:
            known = to_json(light_document(self._redactor.job(job)))
            if len(known) <= MAX_REMEMBERED_BYTES:
                if len(self._known) >= MAX_REMEMBERED_JOBS:
                    self._known.clear()
                self._known[state] = known
        return known
