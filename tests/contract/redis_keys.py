"""A check of the keys of a Redis store against its jobs."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import redis

from jobq.backends.base import Backend
from jobq.backends.redis.backend import RedisBackend

GROUP = "jobq"
FINISHED = ("completed", "failed", "cancelled")
OF_ONE_STATUS = {"o": "running", "cr": "running", "e": "running", "de": "failed"}
"""Fields that only jobs of one status have. `e` may be left as `-`: in no stream."""

LEFT_WITH = {"hb": "sv", "ua": "un"}
"""Hashes that repeat the content of other keys."""

Fact = tuple[str, ...]


def check_keys(backend: Backend) -> None:
    """Fail if an index, a stream or a field contradicts a job."""
    assert isinstance(backend, RedisBackend)
    with redis.Redis.from_url(backend.url.server, decode_responses=True) as client:
        prefix = backend.url.prefix
        keys = [key.removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=1000)]
        jobs = {
            key.removeprefix("j:"): client.hgetall(prefix + key)
            for key in keys
            if key.startswith("j:")
        }
        told = Counter(_told(client, prefix, sorted(keys), jobs))
        meant = Counter(fact for job_id, job in jobs.items() for fact in _meant(job_id, job))
        extra, missing = sorted((told - meant).elements()), sorted((meant - told).elements())
        assert told == meant, f"false: {extra}; missing: {missing}"


def _meant(job_id: str, job: dict[str, str]) -> Iterator[Fact]:
    """Return the keys that a job must be in."""
    status = job["s"]
    priority, queue, _, kind = job["h"].split("|", 3)
    if "u" in job and status not in FINISHED:
        yield "uk", job["u"], job_id
    if status == "pending":
        yield f"p:{priority}|{queue}|{kind}", job_id
        if "e" not in job:
            yield "waits", job_id
        return
    yield f"i:{status}", job_id
    if status == "running":
        yield "ls", job_id
        yield f"o:{job['o']}", job_id
        yield "held", job_id, job["o"]
    elif status in ("scheduled", "retrying"):
        yield "due", job_id, job["ra"]
    elif status in FINISHED:
        yield "fin", job_id, job["fa"]
        if status == "failed":
            yield "dead", job_id, job["de"]
            if "si" in job:
                yield f"sg:{job['si']}", job_id, job["fa"]
                yield "sz", job["si"]


def _told(
    client: Any, prefix: str, keys: list[str], jobs: dict[str, dict[str, str]]
) -> Iterator[Fact]:
    """Return the keys that a job is in."""
    for key in keys:
        full, kind, _ = prefix + key, *key.partition(":")[::2]
        if kind in ("due", "fin", "sg"):
            yield from ((key, member, f"{at:.0f}") for member, at in _scores(client, full))
        elif kind == "sz":
            yield from ((kind, name) for name in Counter(_sizes(client, full)).elements())
        elif kind in ("p", "i", "ls"):
            yield from ((key, member) for member, _ in _scores(client, full))
        elif kind == "o":
            yield from ((key, member) for member in client.smembers(full))
        elif kind == "uk":
            yield from ((kind, *pair) for pair in client.hgetall(full).items())
        elif kind == "dead":
            yield from ((kind, fields["j"], entry) for entry, fields in client.xrange(full))
        elif kind in ("w", "again"):
            yield from _handed_out(client, full)
        elif kind in LEFT_WITH:
            left = set(client.hkeys(full)) - set(_members(client, prefix + LEFT_WITH[kind]))
            yield from ((kind, name) for name in left)
        elif kind == "sj":
            left = set(client.hkeys(full)) - set(_members(client, full.replace("sj:", "st:")))
            yield from ((key, at) for at in left)
        elif kind in ("a", "dp", "kj", "lg") and key.partition(":")[2] not in jobs:
            yield key, "of a job that is gone"
    for job_id, job in jobs.items():
        yield from _out_of_place(job_id, job)


def _out_of_place(job_id: str, job: dict[str, str]) -> Iterator[Fact]:
    for field, status in OF_ONE_STATUS.items():
        if job.get(field, "-") != "-" and job["s"] != status:
            yield f"field {field}", job_id


def _members(client: Any, key: str) -> Any:
    return client.hkeys(key) if client.type(key) == "hash" else client.zrange(key, 0, -1)


def _sizes(client: Any, key: str) -> dict[str, int]:
    return {name: int(size) for name, size in client.hgetall(key).items()}


def _scores(client: Any, key: str) -> Any:
    return client.zrange(key, 0, -1, withscores=True)


def _handed_out(client: Any, key: str) -> Iterator[Fact]:
    """Return the jobs whose entries a stream has, and their owners."""
    jobs = {entry: fields["j"] or entry[:-2] for entry, fields in client.xrange(key)}
    for each in client.xpending_range(key, GROUP, "-", "+", len(jobs) + 99):
        yield "held", jobs.pop(each["message_id"], "deleted"), each["consumer"]
    yield from (("waits", job_id) for job_id in jobs.values())
