"""Paths of other job servers: where the same is here."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from jobq.web.problems import PREFIX

_PLACES: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern + "/?", re.ASCII), place)
    for pattern, place in (
        (r"(?:/queues/[^/]+)?/tasks/next", "POST {api}/claims"),
        (r"(?:/queues/[^/]+)?/tasks/[^/]+/complete", "POST {api}/claims/CLAIM/complete"),
        (r"(?:/queues/[^/]+)?/tasks/[^/]+/fail", "POST {api}/claims/CLAIM/fail"),
        (r"/queues/[^/]+/tasks", "{api}/jobs?queue=QUEUE"),
        (r"/failed-tasks", "{api}/dead"),
        (r"/agent/process-async", "POST {api}/jobs"),
        (r"/agent/task-status/[^/]+", "{api}/jobs/ID"),
        (r"/rq/stats", "{api}/stats"),
        (r"/(?:rq/)?jobs/recent", "{api}/jobs?limit=10"),
        (r"/rq/jobs/[^/]+", "{api}/jobs/ID"),
    )
]


def moved_to(path: str, query: bytes) -> str | None:
    """Return where ``/api/<rest>`` is; None for other paths."""
    if not path.startswith("/api/") or path == PREFIX or path.startswith(f"{PREFIX}/"):
        return None
    rest = quote(path.removeprefix("/api").rstrip("/"))
    return f"{PREFIX}{rest}" + (f"?{query.decode('latin-1')}" if query else "")


def place_of(path: str) -> str | None:
    """Return the call that does here what a path does elsewhere; None if it is not known."""
    rest = path.removeprefix(PREFIX).removeprefix("/api")
    for pattern, place in _PLACES:
        if pattern.fullmatch(rest):
            return place.format(api=PREFIX)
    return path.rstrip("/") if path.startswith(f"{PREFIX}/") and path.endswith("/") else None
