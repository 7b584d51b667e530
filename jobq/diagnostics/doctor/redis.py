"""What is wrong with the Redis server that the jobs are on, and with how this machine uses it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from jobq.backends.redis.acl import OLDEST
from jobq.backends.redis.backend import RedisBackend
from jobq.clock import utcnow
from jobq.config.settings import Settings
from jobq.diagnostics.doctor.finding import Examination, Finding, ok, problem, some, warning
from jobq.diagnostics.doctor.invariants import check_invariants
from jobq.queue import JobQueue, backend_of, recovery_of

APART = timedelta(minutes=1)
"""How far clocks may be apart before it is worth a word."""

NEARLY_FULL = 0.8
SILENT_LEASES = 3

Facts = Mapping[str, Any]


def check_server(where: str, facts: Facts) -> Iterator[Finding]:
    """Whether it is new enough, and takes writes."""
    version = str(facts.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        yield problem("server", where, f"is Redis {version}", f"use {wanted} or newer")
    elif facts.get("role") == "slave":
        yield problem("server", where, "is a replica", "name the primary in `backend`")
    else:
        yield ok("server", where, f"answers, Redis {version}")


def check_persistence(where: str, facts: Facts) -> Iterator[Finding]:
    """Whether jobs are there again when it is started again."""
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failed:
        remedy = "see its log; free some disk space there, for one thing"
        yield problem("persistence", where, f"can't save its data: {some(failed)}", remedy)
    elif not facts.get("aof_enabled"):
        what = "keeps no log of changes: when it stops, it loses what came after its last snapshot"
        yield warning("persistence", where, what, "set `appendonly yes`: see docs/redis.md")
    else:
        yield ok("persistence", where, "keeps a log of changes (appendonly)")


def check_memory(where: str, facts: Facts) -> Iterator[Finding]:
    """Whether it throws jobs away when its memory is full, and how near that is."""
    policy, used, most = (
        facts.get(name, 0) for name in ("maxmemory_policy", "used_memory", "maxmemory")
    )
    if policy != "noeviction":
        what = f"may throw jobs away to save memory: maxmemory-policy is {policy}"
        level = problem if most else warning
        yield level("eviction", where, what, "set `maxmemory-policy noeviction`")
    else:
        yield ok("eviction", where, "throws nothing away")
    text = f"{used / 1e6:,.0f} MB are used" + (f" of {most / 1e6:,.0f}" if most else "")
    if most and used > most * NEARLY_FULL:
        yield warning("memory", where, text, "prune jobs, or raise its maxmemory")
    else:
        yield ok("memory", where, text)


def check_clocks(where: str, facts: Facts) -> Iterator[Finding]:
    """How far the clock of this machine is from the server's, which counts."""
    apart = utcnow() - _time_of(facts)
    seconds = abs(apart.total_seconds())
    if abs(apart) > APART:
        way = "ahead of" if apart > timedelta() else "behind"
        what = f"the clock here is {seconds:,.0f} s {way} the server's, which counts"
        yield warning("clock", where, what, "set the clock of one of them right (`date`)")
    else:
        yield ok("clock", where, f"the clock here is {seconds:.1f} s from the server's")


def _time_of(facts: Facts) -> datetime:
    told: datetime = facts.get("time", datetime.min.replace(tzinfo=UTC))
    return told


def check_supervisors(
    examined: Examination, queue: JobQueue, where: str, facts: Facts
) -> Iterator[Finding]:
    """Supervisors that are silent, and running jobs whose lease has run out."""
    now, settings = _time_of(facts), examined.settings
    late = timedelta(seconds=SILENT_LEASES * settings.lease)
    there = backend_of(queue).supervisors.all()
    silent = [info.id for info in there if now - info.heartbeat_at > late]
    lost = [
        str(job.id)
        for job, attempt in backend_of(queue).open_attempts()
        if attempt.lease_until < now
    ]
    if silent:
        remedy = "the next supervisor gives their jobs back, or `jobq doctor --fix`"
        fix = partial(_rescue_dead, settings)
        yield warning("supervisors", where, f"not heard of any more: {some(silent)}", remedy, fix)
    else:
        yield ok("supervisors", where, f"{len(there)} at work")
    if lost:
        remedy = "`jobq work` gives them back; a pull worker renews its lease with `heartbeat`"
        what = f"jobs {some(lost)} run for nobody: their leases have run out"
        yield warning("running", where, what, remedy)
    else:
        yield ok("running", where, "every running job has an owner")


def _rescue_dead(settings: Settings) -> str:
    with JobQueue.from_settings(settings) as queue:
        return f"gave back {recovery_of(queue).rescue_dead()} jobs"


SERVER_CHECKS: tuple[Callable[[str, Facts], Iterator[Finding]], ...] = (
    check_server,
    check_persistence,
    check_memory,
    check_clocks,
)


def check_backend(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Everything about the server, as far as it answers."""
    where = examined.settings.backend_shown
    backend = backend_of(queue)
    assert isinstance(backend, RedisBackend)
    facts = backend.facts()
    for check in SERVER_CHECKS:
        yield from check(where, facts)
    yield from check_supervisors(examined, queue, where, facts)
    yield from check_invariants(examined, queue)
