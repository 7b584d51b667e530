"""Checks of the Redis server, and of the jobs and supervisors on it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from jobq.backends.redis.acl import OLDEST_VERSION
from jobq.backends.redis.backend import RedisBackend
from jobq.clock import utcnow
from jobq.config.settings import Settings
from jobq.diagnostics.doctor.finding import (
    Examination,
    Finding,
    if_any,
    ok,
    ownerless,
    problem,
    warning,
)
from jobq.diagnostics.doctor.invariants import check_invariants
from jobq.limits import listed
from jobq.queue import JobQueue, backend_of, recovery_of
from jobq.units import format_size

MAX_CLOCK_SKEW = timedelta(minutes=1)
"""Difference between clocks that is reported."""

NEARLY_FULL_SHARE = 0.8
SILENT_LEASES = 3
"""A supervisor without a heartbeat for this many lease lengths is reported."""

Facts = Mapping[str, Any]


def check_server(where: str, facts: Facts) -> Iterator[Finding]:
    """Check that the server is recent enough and takes writes."""
    version = str(facts.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_VERSION:
        wanted = ".".join(map(str, OLDEST_VERSION))
        what = f"Redis {version} is too old"
        yield problem("server", where, what, f"upgrade the server to Redis {wanted} or newer")
    elif facts.get("role") == "slave":
        what = "is a replica, which takes no writes"
        yield problem("server", where, what, "set `backend` in jobq.toml to its primary")
    else:
        yield ok("server", where, f"Redis {version} answers")


def check_persistence(where: str, facts: Facts) -> Iterator[Finding]:
    """Check that jobs survive a restart of the server."""
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failed:
        remedy = "read the server's log; its disk may be full"
        yield problem("persistence", where, f"can't save its data: {listed(failed)}", remedy)
    elif not facts.get("aof_enabled"):
        what = "append-only file is off: a crash loses all changes since the last snapshot"
        yield warning("persistence", where, what, "set `appendonly yes`: see docs/redis.md")
    else:
        yield ok("persistence", where, "append-only file is on")


def check_memory(where: str, facts: Facts) -> Iterator[Finding]:
    """Check that the server evicts no jobs, and has memory left."""
    policy, used, limit = (
        facts.get(name, 0) for name in ("maxmemory_policy", "used_memory", "maxmemory")
    )
    if policy != "noeviction":
        what = f"may evict jobs when its memory is full: maxmemory-policy is {policy}"
        level = problem if limit else warning
        yield level("eviction", where, what, "set `maxmemory-policy noeviction`")
    else:
        yield ok("eviction", where, "eviction is off")
    text = f"uses {format_size(used)}" + (f" of {format_size(limit)}" if limit else "")
    if limit and used > limit * NEARLY_FULL_SHARE:
        yield warning("memory", where, text, "prune jobs (`jobq prune`), or raise its maxmemory")
    else:
        yield ok("memory", where, text)


def check_clocks(where: str, facts: Facts) -> Iterator[Finding]:
    """Compare this host's clock with the server's."""
    skew = utcnow() - _time_of(facts)
    seconds = abs(skew.total_seconds())
    if abs(skew) > MAX_CLOCK_SKEW:
        way = "ahead of" if skew > timedelta() else "behind"
        what = f"the clock of this host is {seconds:,.0f} s {way} the server's, which jobq uses"
        yield warning("clock", where, what, "correct the clock that is wrong (`date`)")
    else:
        yield ok("clock", where, f"the clock of this host is {seconds:.1f} s from the server's")


def _time_of(facts: Facts) -> datetime:
    server_time: datetime = facts.get("time", datetime.min.replace(tzinfo=UTC))
    return server_time


def check_supervisors(
    examined: Examination, queue: JobQueue, where: str, facts: Facts
) -> Iterator[Finding]:
    """Find supervisors that are silent, and running jobs whose lease has expired."""
    now, settings = _time_of(facts), examined.settings
    late = timedelta(seconds=SILENT_LEASES * settings.lease)
    supervisors = backend_of(queue).supervisors.all()
    yield if_any(
        [info.id for info in supervisors if now - info.heartbeat_at > late],
        warning(
            "supervisors",
            where,
            "supervisors without a recent heartbeat",
            "`jobq doctor --fix` or the next `jobq work` gives their jobs back",
            partial(_rescue_dead, settings),
        ),
        otherwise=f"running: {len(supervisors)}",
    )
    attempts = backend_of(queue).open_attempts()
    lost = [str(job.id) for job, attempt in attempts if attempt.lease_until < now]
    yield ownerless(lost, where)


def _rescue_dead(settings: Settings) -> str:
    with JobQueue.from_settings(settings) as queue:
        return f"jobs given back: {recovery_of(queue).rescue_dead()}"


SERVER_CHECKS: tuple[Callable[[str, Facts], Iterator[Finding]], ...] = (
    check_server,
    check_persistence,
    check_memory,
    check_clocks,
)


def check_backend(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Run all checks of the server."""
    where = examined.settings.backend_shown
    backend = backend_of(queue)
    assert isinstance(backend, RedisBackend)
    facts = backend.facts()
    for check in SERVER_CHECKS:
        yield from check(where, facts)
    yield from check_supervisors(examined, queue, where, facts)
    yield from check_invariants(examined, queue)
