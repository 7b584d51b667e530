"""Floors that keep the promises: the least cost of recording every attempt, without jobq.

Each job is claimed and ended durably, in groups, and has a directory with output and events. Left
out are turns with other writers, limits of queues, renewal of leases, time limits, cancelling,
leftover processes, progress and hooks.
"""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.floors import INSERT, bare_database

Exchange = Callable[[Sequence[int], int], list[int]]
"""A function that records ended jobs, claims up to a number of others, and returns their ids; all of it
is durable once it returns."""

GROUP = 100
"""Python jobs in a group: no fewer than a supervisor has in one when jobs are short."""

_COMMANDS = 20
"""Commands in a group, which then take about 10 ms: also no fewer than a supervisor has."""

_TABLES = ("job_queue", "attempts", "job_counts")


@contextmanager
def on_sqlite(like: Path, path: Path, jobs: int) -> Iterator[Exchange]:
    """Create a database with the tables, indexes and triggers of another, and ``jobs`` pending jobs."""
    bare = bare_database(like, path, *_TABLES, triggers=True)
    bare.execute("BEGIN")
    bare.executemany(INSERT, [()] * jobs)
    bare.execute("COMMIT")
    yield lambda ended, limit: _exchange(bare, ended, limit)
    bare.close()


def _exchange(bare: sqlite3.Connection, ended: Sequence[int], limit: int) -> list[int]:
    now = time.time()
    bare.execute("BEGIN IMMEDIATE")
    bare.executemany(
        "UPDATE job_queue SET status = 'completed', finished_at = ? "
        "WHERE id = ? AND attempts = 1 AND status = 'running'",
        [(now, job) for job in ended],
    )
    bare.executemany(
        "UPDATE attempts SET ended_at = ?, outcome = 'completed' WHERE job_id = ? AND attempt = 1",
        [(now, job) for job in ended],
    )
    claimed = [
        job
        for (job,) in bare.execute(
            "SELECT id FROM job_queue WHERE queue = 'default' AND status = 'pending' "
            "ORDER BY priority DESC, id LIMIT ?",
            (limit,),
        )
    ]
    bare.executemany(
        "UPDATE job_queue SET status = 'running', attempts = 1, started_at = ? WHERE id = ?",
        [(now, job) for job in claimed],
    )
    bare.executemany(
        "INSERT INTO attempts (job_id, attempt, supervisor, started_at, lease_until) "
        "VALUES (?, 1, 'floor', ?, ?)",
        [(job, now, now + 60) for job in claimed],
    )
    bare.execute("COMMIT")
    return claimed


_SCRIPT = """
for place = 3, #ARGV do
    redis.call('HSET', 'j:' .. ARGV[place], 's', 'completed', 'f', ARGV[1])
    redis.call('HSET', 'a:' .. ARGV[place], '1e', ARGV[1])
end
local claimed = redis.call('ZRANGE', 'pending', 0, tonumber(ARGV[2]) - 1)
for _, job in ipairs(claimed) do
    redis.call('ZREM', 'pending', job)
    redis.call('HSET', 'j:' .. job, 's', 'running', 'b', ARGV[1])
    redis.call('HSET', 'a:' .. job, '1', ARGV[1])
end
return claimed
"""


@contextmanager
def on_redis(url: str, jobs: int) -> Iterator[Exchange]:
    """Run pending jobs on a server: a stream, and two hashes for each. One script per group."""
    from redis import Redis

    with Redis.from_url(url) as client:
        fill: Any = client.pipeline(transaction=False)
        for job in range(1, jobs + 1):
            fill.hset(f"j:{job}", mapping={"s": "pending", "d": '{"type":"noop"}'})
            fill.zadd("pending", {str(job): job})
        fill.execute()
        script: Any = client.register_script(_SCRIPT)

        def exchange(ended: Sequence[int], limit: int) -> list[int]:
            return [int(job) for job in script(args=[time.time(), limit, *ended])]

        yield exchange


def python_jobs(exchange: Exchange, folder: Path, jobs: int, slots: int) -> float:
    """Return jobs per second that forked Python processes take from a pipe, and answer by another."""
    folder.mkdir()
    tasks, answers = os.pipe(), os.pipe()
    pids = [_child(tasks[0], answers[1], folder) for _ in range(slots)]
    start = time.perf_counter()
    under_way, left = 0, jobs
    ended: list[int] = []
    while left:
        if len(ended) >= GROUP or len(ended) == under_way:
            # Two groups are under way: children have something to do while one is recorded.
            claimed = exchange(ended, 2 * GROUP - under_way + len(ended))
            under_way += len(claimed) - len(ended)
            left -= len(ended)
            ended = []
            os.write(tasks[1], b"".join(job.to_bytes(4, "big") for job in claimed))
        if under_way:
            told = os.read(answers[0], 4096)
            ended += [int.from_bytes(told[at : at + 4], "big") for at in range(0, len(told), 4)]
    taken = time.perf_counter() - start
    for descriptor in (*tasks, *answers):
        os.close(descriptor)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return jobs / taken


def _child(tasks: int, answers: int, folder: Path) -> int:
    if pid := os.fork():
        return pid
    while number := os.read(tasks, 4):
        own = folder / str(int.from_bytes(number, "big"))
        os.mkdir(own, 0o700)
        *output, events = _files(own)
        for at, file in enumerate(output, 1):
            os.dup2(file, at)
            os.close(file)
        _note(events, "started")
        _note(events, "finished")
        os.close(events)
        os.write(answers, number)
    os._exit(0)


def commands(exchange: Exchange, folder: Path, jobs: int, slots: int) -> float:
    """Return commands per second if each has a directory, three files and a process."""
    folder.mkdir()
    start = time.perf_counter()
    running: dict[int, tuple[int, int]] = {}  # by pid: the job, and its events
    hand: deque[int] = deque()
    ended: list[int] = []
    left = unclaimed = jobs
    while left:
        if not hand and (unclaimed or not running):
            hand += exchange(ended, _COMMANDS)
            unclaimed -= len(hand)
            left -= len(ended)
            ended = []
        while hand and len(running) < slots:
            job = hand.popleft()
            pid, events = _spawn(folder / str(job))
            running[pid] = job, events
        if running:
            pid, _, _ = os.wait4(-1, 0)
            job, events = running.pop(pid)
            _note(events, "finished")
            os.close(events)
            ended.append(job)
    return jobs / (time.perf_counter() - start)


def _spawn(own: Path) -> tuple[int, int]:
    os.mkdir(own, 0o700)
    *output, events = _files(own)
    _note(events, "started")
    actions = [(os.POSIX_SPAWN_DUP2, file, at) for at, file in enumerate(output, 1)]
    pid = os.posix_spawn("/bin/true", ["true"], os.environ, file_actions=actions, setpgroup=0)
    for file in output:
        os.close(file)
    return pid, events


def _files(own: Path) -> list[int]:
    names = ("stdout.log", "stderr.log", "events.jsonl")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return [os.open(f"{own}/{name}", flags, 0o600) for name in names]


def _note(events: int, name: str) -> None:
    line = f'{{"time": {time.time()}, "event": "{name}", "attempt": 1}}\n'
    os.write(events, line.encode())
