"""Idempotency: what is added with a key is added once, however often it is asked for.

The key is kept with the jobs, in the transaction that adds them: see `JobQueue.add_once`.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import Request

from jobq.errors import KeyReusedError
from jobq.jobs.insert import insert
from jobq.jobs.spec import JobSpec, digest_of
from jobq.queue import JobQueue, backend_of, prepare_jobs
from jobq.web.caller import Caller
from jobq.web.problems import Problem

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 200


class Added(NamedTuple):
    """A job that was added, or was there."""

    id: int | None  # None: it has been deleted since
    created: bool


class AddedJobs(NamedTuple):
    """The jobs of one request; ``replayed``: an earlier one with the same key added them."""

    jobs: list[Added]
    replayed: bool


def key_of(request: Request, caller: Caller) -> str | None:
    """Return the key under which jobs of a request are kept; None if it has none.

    Raises:
        Problem: the header is empty, too long, or there twice: 400.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    key = given[0].strip()
    if len(given) > 1 or not 0 < len(key) <= MAX_KEY_CHARS or not key.isprintable():
        detail = f"give one {HEADER} of up to {MAX_KEY_CHARS} printable characters"
        raise Problem(400, "malformed", detail)
    return f"http:{caller.sub}:{key}"


def add_one(queue: JobQueue, spec: JobSpec, key: str | None) -> AddedJobs:
    """Add a job, once for a key.

    Raises:
        KeyReusedError: another job was added with the key.
        UsageError: an option is wrong.
        NotFound: the queue or a parent does not exist.
    """
    if key is None:
        (inserted,) = queue.insert([spec])
        return AddedJobs([Added(inserted.id, inserted.created)], replayed=False)
    was_known = bool(backend_of(queue).transfer.known_keys([key]))
    inserted = queue.add_once(spec, key)
    # Without a unique key, only another process with this key can have been first.
    replayed = not inserted.created and (was_known or spec.unique is None)
    return AddedJobs([Added(inserted.id, inserted.created)], replayed)


def add_together(queue: JobQueue, specs: Sequence[JobSpec], key: str | None) -> AddedJobs:
    """Add all of these jobs or none, once for a key.

    Raises:
        KeyReusedError: other jobs were added with the key.
        UsageError: an option of one is wrong.
        NotFound: a queue or a parent does not exist.
    """
    backend = backend_of(queue)
    now = queue.now()
    prepared = prepare_jobs(queue, specs, now)
    keys = [] if key is None else [f"{key}:{place}" for place in range(len(specs))]
    digest = hashlib.sha256("".join(map(digest_of, specs)).encode()).hexdigest()
    for job, own in zip(prepared.jobs, keys, strict=False):
        job.key, job.digest = own, digest
    with backend.group():
        known = backend.transfer.known_keys(keys) if keys else {}
        if known:
            if any(each.digest != digest for each in known.values()):
                raise KeyReusedError("the key belongs to other jobs: give another key")
            found = [known.get(own) for own in keys]
            jobs = [Added(None if each is None else each.job_id, created=False) for each in found]
            return AddedJobs(jobs, replayed=True)
        inserted = insert(prepared, backend, queue.logs, now)
    return AddedJobs([Added(each.id, each.created) for each in inserted], replayed=False)
