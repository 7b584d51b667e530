"""Connections to a Redis server: several processes and threads, lost answers, and groups."""

import os
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobq.backends.redis.connection import RedisConnection
from jobq.diagnostics.verify import verify
from jobq.errors import (
    DatabaseLockedError,
    DatabaseUnreachableError,
    NotFound,
)
from jobq.models import JobFilter, JobStatus
from jobq.units import Rate
from tests.contract.driver import NOON, Jobs, new_job
from tests.contract.redis_keys import check_keys
from tests.contract.test_schedules import put
from tests.contract.test_transfer import furnish
from tests.support.redis_server import cluster
from tests.support.tcp_proxy import TcpProxy
from tests.unit.backends.redis.servers import TAG, Open


def test_two_names_are_two_jobqs(open_on: Open, redis_url: str) -> None:
    one, other = (Jobs(lambda n=n: open_on(f"{redis_url}?name={n}")) for n in ("one", "other"))  # type: ignore[misc]
    job_id = one.add()
    assert other.backend.find(JobFilter(), limit=None) == []
    assert other.add() == job_id


@pytest.mark.slow
def test_a_cluster_is_used_whichever_node_is_named(open_on: Open) -> None:
    with cluster() as nodes:
        for number, node in enumerate(nodes):
            url = f"{node.url}?name=jobq{number}"
            jobs = Jobs(lambda url=url: open_on(url))  # type: ignore[misc]
            furnish(jobs)
            with jobs.backend.group():
                assert jobs.end(jobs.start(jobs.add()))
            assert verify(jobs.backend).violations == []
            listener = jobs.backend.supervisors.listen(f"owner{number}")
            jobs.add()
            assert select.select([listener], [], [], 10)[0]
            listener.close()


def test_processes_that_were_forked_have_connections_and_answers_of_their_own(jobs: Jobs) -> None:
    before = jobs.add()
    child = os.fork()
    if child == 0:
        for _ in range(20):
            jobs.add()
        os._exit(0)
    mine = [jobs.add() for _ in range(20)]
    assert os.waitpid(child, 0)[1] == 0
    assert len(set(mine)) == 20
    assert len(jobs.backend.find(JobFilter(after_id=before), limit=None)) == 40
    child = os.fork()
    if child == 0:
        jobs.add()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert jobs.add() == before + 42  # not what the other one was told to its call of that number


def test_threads_share_a_backend(jobs: Jobs) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: jobs.add(), range(100)))
    assert sorted(ids) == list(range(1, 101))


def cancelled(jobs: Jobs) -> int:
    job_id = jobs.add()
    jobs.backend.cancel([job_id], None, jobs.now)
    return job_id


def in_a_group(jobs: Jobs) -> list[Any]:
    with jobs.backend.group():
        return [jobs.add(), jobs.claimed(1)]


VERBS: dict[str, tuple[Callable[[Jobs], Any], Callable[[Jobs, Any], Any]]] = {
    "insert": (lambda jobs: None, lambda jobs, _: jobs.add()),
    "claim": (lambda jobs: jobs.add(), lambda jobs, _: jobs.claimed(1)),
    "end": (lambda jobs: jobs.start(jobs.add()), lambda jobs, claim: jobs.end(claim)),
    "cancel": (
        lambda jobs: jobs.add(),
        lambda jobs, job_id: jobs.backend.cancel([job_id], None, jobs.now),
    ),
    "requeue": (cancelled, lambda jobs, job_id: jobs.backend.requeue([job_id], jobs.now)),
    "delete": (cancelled, lambda jobs, job_id: jobs.backend.delete([job_id])),
    "fire": (
        lambda jobs: put(jobs.backend),
        lambda jobs, each: jobs.backend.schedules.fire(each, each, new_job(), [NOON], NOON),
    ),
    "group": (lambda jobs: None, lambda jobs, _: in_a_group(jobs)),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_whose_answer_is_lost_is_done_once_and_answers_all_the_same(
    verb: str, open_on: Open, redis_url: str, client: Any
) -> None:
    prepare, call = VERBS[verb]
    url = redis_url.replace("/0", "/0?name={}")
    plain = Jobs(lambda: open_on(url.format("plain")))
    expected = call(plain, prepare(plain))
    port = redis_url.rpartition(":")[2].partition("/")[0]
    with TcpProxy(int(port)) as proxy:
        far = url.format("far").replace(f":{port}", f":{proxy.port}")
        jobs = Jobs(lambda: open_on(far))
        prepared = prepare(jobs)
        changes = int(client.hget("{far}:meta", "ver") or 0)
        proxy.lose_answer_to(b'"slot":')  # what is only rehearsed, or read, has none
        assert call(jobs, prepared) == expected
        assert int(client.hget("{far}:meta", "ver")) == changes + 1
    assert all(0 < client.pttl(key) <= 120_000 for key in client.keys("{far}:r:*"))


def test_a_request_that_comes_after_the_next_one_is_not_done(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Callable[[], Any]] = []
    send = RedisConnection._send

    def recorded(*given: Any, **how: Any) -> Any:
        sent.append(lambda: send(*given, **how))
        return sent[-1]()

    monkeypatch.setattr(RedisConnection, "_send", recorded)
    ids = [jobs.add(), jobs.add()]
    held_up = sent[0]
    assert held_up() == [b"late"]
    assert [job.id for job in jobs.backend.find(JobFilter(), limit=None)] == ids


def test_who_hears_nothing_is_told_that_it_may_be_done(open_on: Open, redis_url: str) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    with TcpProxy(int(port)) as proxy:
        far = redis_url.replace(f":{port}", f":{proxy.port}")
        jobs = Jobs(lambda: open_on(f"{far}?socket_timeout=0.3"))
        jobs.add()
        proxy.swallow_replies()
        with pytest.raises(DatabaseUnreachableError, match="may have been executed"):
            jobs.add()
        with pytest.raises(DatabaseUnreachableError, match=r"reached from this host$"):
            jobs.backend.counts()
        proxy.heal()
        assert len(jobs.backend.find(JobFilter(), limit=None)) == 2


def test_who_writes_waits_for_the_group_of_another_and_who_reads_does_not(
    jobs: Jobs, open_on: Open, redis_url: str
) -> None:
    other = Jobs(lambda: open_on(redis_url))
    with ThreadPoolExecutor(1) as pool:
        with jobs.backend.group():
            mine = jobs.add()
            waits = pool.submit(other.add)
            assert other.backend.counts() == {}
            assert not waits.done()
        assert waits.result(20) == mine + 1


def test_who_waits_in_vain_for_the_group_of_another_is_told(
    jobs: Jobs, client: Any, open_on: Open, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.backends.redis.connection.GROUP_WAIT_S", 0.0)
    other = Jobs(lambda: open_on(redis_url))
    with jobs.backend.group():
        jobs.add()
        assert 0 < client.pttl(f"{TAG}lock") <= 5000
        with pytest.raises(DatabaseLockedError, match="keeps it locked"):
            other.add()
        with pytest.raises(DatabaseLockedError), other.backend.group():
            other.add()
        jobs.add()
    assert not client.exists(f"{TAG}lock")
    assert other.add() == 3
    with pytest.raises(NotFound), jobs.backend.group():
        jobs.add(queue="nowhere")
    assert not client.exists(f"{TAG}lock")


def test_a_group_that_died_is_in_the_way_for_a_while_only(jobs: Jobs, client: Any) -> None:
    client.set(f"{TAG}lock", "somebody who died", px=50)
    assert jobs.add() == 1


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_group_that_took_too_long_changes_nothing(jobs: Jobs, client: Any, goes_on: bool) -> None:
    def too_long() -> None:
        with jobs.backend.group():
            jobs.add()
            client.delete(f"{TAG}lock")
            if goes_on:
                jobs.add()

    with pytest.raises(DatabaseLockedError, match="nothing was changed"):
        too_long()
    assert jobs.backend.find(JobFilter(), limit=None) == []


def contents(client: Any) -> dict[str, Any]:
    """Return all keys and values, except locks and answers."""
    read = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    keys = [key for key in client.keys("*") if not key.startswith((f"{TAG}r:", f"{TAG}lock"))]
    return {key: read[client.type(key)](key) for key in keys}


def test_what_a_group_does_leaves_no_trace_before_its_end(jobs: Jobs, client: Any) -> None:
    furnish(jobs)
    jobs.limit("gone", rate=Rate(1, 1.0))
    jobs.backend.delete([jobs.put(JobStatus.COMPLETED, queue="gone")])
    jobs.later(3600)
    before = contents(client)
    with jobs.backend.group():
        jobs.backend.schedules.remove("often")
        jobs.backend.delete_queue("gone")
        assert jobs.backend.delete(range(2, 30))
        furnish(jobs)
        jobs.unclaim(*jobs.claim(9))
        jobs.backend.delete(range(2, 60))
        jobs.backend.maintain()
        assert contents(client) == before
    assert contents(client) != before
    assert verify(jobs.backend).violations == []
    check_keys(jobs.backend)
