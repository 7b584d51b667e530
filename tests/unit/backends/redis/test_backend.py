"""What the contract does not say of Redis: keys, scripts, lost answers, streams, clocks, errors."""

import os
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from freezegun import freeze_time

from jobq import JobQueue
from jobq.backends.messages import ClaimRequest, Report
from jobq.backends.redis.backend import RedisBackend
from jobq.backends.redis.connection import RedisConnection
from jobq.config.redis_url import parse_url
from jobq.diagnostics.verify import verify
from jobq.errors import (
    DatabaseAwayError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseNewerError,
    DatabaseRefusesError,
    DatabaseStoppedError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
    DiskFullError,
    NotFound,
    UsageError,
    WrongState,
)
from jobq.models import JobFilter, JobStatus, Outcome
from jobq.queue import backend_of, recovery_of
from jobq.recovery import ExpiredLeases
from jobq.transfer.migrate import require_idle
from jobq.units import Rate
from tests.contract.driver import LEASE, NOON, Jobs, after, new_job
from tests.contract.redis_keys import check_keys
from tests.contract.test_moving import furnish
from tests.contract.test_schedules import put
from tests.contract.test_upkeep import supervisor
from tests.support.project import wait_until
from tests.support.redis_server import RedisServer, cluster, replica_of
from tests.support.tcp_proxy import TcpProxy

Open = Callable[..., RedisBackend]
TAG = "{jobq}:"
LINE = f"{TAG}w:5|default|shell"


@pytest.fixture
def open_on(tmp_path: Path) -> Iterator[Open]:
    """Opens backends on servers, and closes them."""
    opened: list[RedisBackend] = []

    def open_one(url: str, clock: str = "caller") -> RedisBackend:
        opened.append(RedisBackend(url, tmp_path, clock=clock))
        return opened[-1]

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture
def jobs(redis_url: str, open_on: Open) -> Jobs:
    return Jobs(lambda: open_on(redis_url))


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened


# -- keys and scripts ----------------------------------------------------------------------------


def commands_of_scripts(client: Any, work: Callable[[], None]) -> list[str]:
    """What the scripts of some work do, as the server tells it."""
    with client.monitor() as monitor:
        work()
        client.echo("that was all")
        seen = []
        while "that was all" not in (told := monitor.next_command())["command"]:
            if told["client_type"] == "lua":
                seen.append(told["command"])
    return seen


def test_every_key_of_every_script_is_in_the_slot_of_its_jobq(
    open_on: Open, redis_url: str, client: Any
) -> None:
    jobs = Jobs(lambda: open_on(f"{redis_url}?name=mine"))
    seen = commands_of_scripts(client, lambda: furnish(jobs))
    assert len(seen) > 500
    assert [each for each in seen if "{mine}:" not in each and not each.startswith("TIME")] == []
    assert {key.partition(":")[0] for key in client.keys("*")} == {"{mine}"}
    check_keys(jobs.backend)


KEPT = {"meta", "n", "r", "again", "dead"}
"""Keys that may be left where there is no job; of streams, that is empty ones."""


def test_nothing_is_left_of_what_was_deleted(jobs: Jobs, client: Any) -> None:
    furnish(jobs)
    jobs.backend.schedules.remove("often")
    parent = jobs.put(JobStatus.FAILED, unique_key="of one that failed")
    jobs.insert(*[new_job(parents=after(parent))] * 501)
    jobs.backend.requeue([parent], jobs.now)
    jobs.settle()
    ids = [job.id for job in jobs.backend.find(JobFilter(), limit=None)]
    jobs.backend.cancel(ids, None, jobs.now)
    jobs.settle()
    assert sorted(jobs.backend.delete(ids)) == ids
    jobs.backend.maintain()
    jobs.backend.supervisors.register(supervisor(jobs, "one"))
    jobs.backend.supervisors.unregister(["one"])
    for queue in ("fast", "off"):
        jobs.backend.delete_queue(queue)
    assert {key.removeprefix(TAG).partition(":")[0] for key in client.keys("*")} <= KEPT
    assert {name.partition("|")[0] for name in client.hkeys(f"{TAG}n")} == {"default"}
    assert client.xlen(f"{TAG}again") == client.xlen(f"{TAG}dead") == 0
    assert jobs.backend.counts() == {}


def test_two_names_are_two_jobqs(open_on: Open, redis_url: str) -> None:
    one, other = (Jobs(lambda n=n: open_on(f"{redis_url}?name={n}")) for n in ("one", "other"))  # type: ignore[misc]
    job_id = one.add()
    assert other.backend.find(JobFilter(), limit=None) == []
    assert other.add() == job_id


def test_scripts_that_the_server_has_forgotten_are_sent_again(jobs: Jobs, client: Any) -> None:
    job_id = jobs.add()
    client.script_flush()
    assert jobs.end(jobs.start(job_id))


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


def test_what_is_looked_through_in_portions_is_looked_through_to_its_end(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.backends.redis.rows.BATCH_SIZE", 2)
    ids = [jobs.put(JobStatus.COMPLETED) for _ in range(3)]
    ids += jobs.insert_ids(*[new_job(type=kind) for kind in ("a", "b", "a")])
    for newest in (False, True):
        found = jobs.backend.find(JobFilter(), limit=None, newest=newest)
        assert [job.id for job in found] == sorted(ids, reverse=newest)
    assert [job.id for job in jobs.backend.find(JobFilter(type="a"), limit=9)] == ids[3::2]
    assert sorted(jobs.backend.get(ids)) == ids
    for job_id in ids[3:]:
        jobs.end(jobs.start(job_id), JobStatus.CANCELLED)
    assert jobs.backend.stats.ended_counts(NOON) == {("shell", "default"): (3, 0)}
    assert len(jobs.backend.stats.ended(NOON, limit=9)) == 3


def test_indexes_that_say_what_is_not_so_are_flaws(
    jobs: Jobs, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.backends.redis.rows.BATCH_SIZE", 2)
    ids = jobs.insert_ids(*[new_job()] * 5)
    assert jobs.backend.flaws(thorough=True) == []
    client.zadd(f"{TAG}i:failed", {str(job_id): job_id for job_id in ids})
    counts = ["5 jobs are counted, and 10 are in the indexes"]
    assert jobs.backend.flaws(thorough=False) == counts
    strays = [f"job {job_id} is not failed" for job_id in ids]
    assert jobs.backend.flaws(thorough=True) == counts + strays
    client.delete(f"{TAG}i:failed")
    client.zadd(f"{TAG}ls", {"1": 1})
    assert jobs.backend.flaws(thorough=False) == ["0 jobs are running, and 1 leases are held"]


# -- answers that are lost -----------------------------------------------------------------------


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
        with pytest.raises(DatabaseUnreachableError, match="may have been done"):
            jobs.add()
        with pytest.raises(DatabaseUnreachableError, match=r"reached from here$"):
            jobs.backend.counts()
        proxy.heal()
        assert len(jobs.backend.find(JobFilter(), limit=None)) == 2


# -- groups --------------------------------------------------------------------------------------


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
    monkeypatch.setattr("jobq.backends.redis.connection.PATIENCE", 0.0)
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
    """All that is there, but for locks and answers."""
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


# -- streams -------------------------------------------------------------------------------------


def test_a_job_is_pending_in_its_stream_for_its_owner_until_it_ends(
    jobs: Jobs, client: Any
) -> None:
    *ids, last = jobs.insert_ids(*[new_job()] * 3)
    claims = jobs.claim(2, owner="me")
    entries = client.xpending_range(LINE, "jobq", "-", "+", 9)
    assert [(e["message_id"], e["consumer"]) for e in entries] == [(f"{n}-0", "me") for n in ids]
    assert all(jobs.end(claim) for claim in claims)
    assert client.xpending(LINE, "jobq")["pending"] == 0
    assert [name for name, _ in client.xrange(LINE)] == [f"{last}-0"]


@pytest.mark.parametrize("how", ["came back", "chosen out of the middle"])
def test_what_does_not_stand_at_the_end_of_a_stream_is_handed_out_by_another(
    jobs: Jobs, client: Any, how: str
) -> None:
    first, second = jobs.insert_ids(new_job(), new_job())
    if how == "came back":
        jobs.end(jobs.claim(1)[0], JobStatus.PENDING)
        (claim,) = jobs.claim(1, owner="me")
        assert claim.job.id == first
    else:
        claim = jobs.start(second, owner="me")
    (entry,) = client.xpending_range(f"{TAG}again", "jobq", "-", "+", 9)
    assert entry["consumer"] == "me"
    check_keys(jobs.backend)
    assert jobs.end(claim)
    assert client.xlen(f"{TAG}again") == 0
    assert jobs.claimed(9) == [second if how == "came back" else first]


def test_a_job_that_waits_no_more_is_in_no_stream(jobs: Jobs, client: Any) -> None:
    jobs.finish(jobs.add(), JobStatus.CANCELLED)
    assert client.xlen(LINE) == 0


def test_what_came_back_to_a_line_that_was_cleared_away_is_in_its_stream_again(
    jobs: Jobs, client: Any
) -> None:
    job_id = jobs.add()
    jobs.end(jobs.claim(1)[0], JobStatus.PENDING)
    (claim,) = jobs.claim(1)
    jobs.backend.maintain()
    assert not client.exists(LINE)
    jobs.end(claim, JobStatus.PENDING)
    assert [entry for entry, _ in client.xrange(LINE)] == [f"{job_id}-0"]
    (claim,) = jobs.claim(1)
    assert client.xpending(LINE, "jobq")["pending"] == 1
    jobs.end(claim, JobStatus.PENDING)
    jobs.backend.cancel([job_id], None, jobs.now)
    jobs.backend.maintain()
    jobs.backend.requeue([job_id], jobs.now)
    check_keys(jobs.backend)
    assert [entry for entry, _ in client.xrange(LINE)] == [f"{job_id}-0"]


def test_failed_jobs_are_in_the_dead_letter_stream_until_they_are_retried_or_deleted(
    jobs: Jobs, client: Any
) -> None:
    retried, deleted = (jobs.put(JobStatus.FAILED) for _ in range(2))
    letters = [entry["j"] for _, entry in client.xrange(f"{TAG}dead")]
    assert letters == [str(retried), str(deleted)]
    jobs.backend.requeue([retried], jobs.now)
    jobs.backend.delete([deleted])
    check_keys(jobs.backend)
    assert client.xlen(f"{TAG}dead") == 0


def test_consumers_go_once_nothing_is_pending_for_them(jobs: Jobs, client: Any) -> None:
    jobs.insert(*[new_job()] * 5)
    for name in ("alive", "left"):
        jobs.backend.supervisors.register(supervisor(jobs, name))
        jobs.unclaim(*jobs.claim(1, owner=name))
        jobs.end(jobs.claim(1, owner=name)[0])
    jobs.backend.supervisors.unregister(["left"])
    kept, gone = jobs.claim(1, owner="kept"), jobs.claim(1, owner="gone")

    def consumers(key: str = LINE) -> set[str]:
        jobs.backend.maintain()
        return {each["name"] for each in client.xinfo_consumers(key, "jobq")}

    assert consumers() == {"alive", "kept", "gone"}
    assert consumers(f"{TAG}again") == {"alive"}
    lost = jobs.ending(gone[0], JobStatus.FAILED, outcome=Outcome.LOST)
    assert jobs.backend.end([lost], jobs.now, lease_before=jobs.now + LEASE * 2) == [True]
    assert consumers() == {"alive", "kept"}
    jobs.end(kept[0])
    jobs.end(jobs.claim(1)[0])
    jobs.backend.maintain()
    assert not client.exists(LINE)
    jobs.add()
    assert len(jobs.claim(1)) == 1
    assert client.xpending(LINE, "jobq")["pending"] == 1
    jobs.backend.maintain()
    check_keys(jobs.backend)


# -- counters ------------------------------------------------------------------------------------


def test_what_was_ever_done_is_counted(jobs: Jobs) -> None:
    done = [
        jobs.put(status) for status in (JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED)
    ]
    jobs.insert(*[new_job(unique_key="k")] * 2)
    job_id = jobs.add()
    for outcome in (Outcome.RELEASED, Outcome.LOST):
        assert jobs.end(jobs.start(job_id), JobStatus.PENDING, outcome=outcome)
    jobs.finish(job_id, JobStatus.CANCELLED)
    jobs.backend.delete(done)
    assert jobs.backend.stats.totals() == {"added": 5, "completed": 2, "failed": 1, "recovered": 1}


# -- clocks --------------------------------------------------------------------------------------


def test_the_clock_of_the_server_counts_and_that_of_a_host_does_no_harm(
    open_on: Open, redis_url: str
) -> None:
    now = datetime.now(UTC)
    jobs = Jobs(lambda: open_on(redis_url, clock="server"))
    (inserted,) = jobs.insert(new_job())
    assert jobs.claim(1)[0].job.created_at == inserted.at
    jobs.now = NOON + timedelta(days=3650)
    job_id = jobs.add(run_at=now + timedelta(hours=1))
    assert jobs.status(job_id) is JobStatus.SCHEDULED  # a time that a user named is what it is
    assert jobs.claimed() == []
    claim = jobs.start(jobs.add())
    (attempt,) = jobs.backend.attempts(claim.job.id)
    soon = timedelta(seconds=20)
    assert now <= claim.job.created_at <= attempt.started_at < now + soon
    assert attempt.lease_until == attempt.started_at + LEASE
    lost = jobs.ending(claim, JobStatus.PENDING, outcome=Outcome.LOST)
    assert jobs.backend.end([lost], jobs.now, lease_before=jobs.now) == [False]
    assert jobs.end(claim, JobStatus.RETRYING)  # a minute from what this host takes for now
    run_at = jobs.get(claim.job.id).run_at
    assert run_at is not None
    assert now + timedelta(seconds=60) <= run_at < now + timedelta(seconds=60) + soon


@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_host_whose_clock_is_wrong_goes_by_that_of_the_server(
    redis_url: str, tmp_path: Path, wrong: timedelta
) -> None:
    (tmp_path / "jobq.toml").write_text(f'backend = "{redis_url}"\n[lease]\nseconds = 0.05\n')
    soon, now = timedelta(seconds=20), datetime.now(UTC)
    with freeze_time(now + wrong, tick=True), JobQueue.open(tmp_path / "jobq.toml") as queue:
        run_at = queue.add("shell", {"argv": ["true"]}, delay="30m").run_at
        assert run_at is not None
        assert now <= run_at - timedelta(minutes=30) < now + soon
        job = queue.add("shell", {"argv": ["true"]})
        assert queue.claim(owner="another host")
        expired = ExpiredLeases(recovery_of(queue), queue.settings.lease)
        wait_until(lambda: expired.rescue(queue.now()))
        assert queue.get(job.id).status is not JobStatus.RUNNING
        backend_of(queue).supervisors.register(
            supervisor(Jobs(lambda: backend_of(queue)), "other:1:one")
        )
        assert now <= backend_of(queue).supervisors.all()[0].heartbeat_at < now + soon
        with pytest.raises(WrongState, match="other:1:one"):
            require_idle(backend_of(queue), "here")


def test_starts_that_no_longer_count_for_a_rate_are_forgotten(jobs: Jobs, client: Any) -> None:
    jobs.limit("lane", rate=Rate(2, 10.0))
    jobs.insert(*[new_job(queue="lane")] * 20)
    for _ in range(5):
        assert len(jobs.claim(9)) == 2
        jobs.later(10)
    assert client.zcard(f"{TAG}rt:lane") == 2


# -- waking up -----------------------------------------------------------------------------------


def test_a_listener_whose_connection_was_lost_listens_again(
    open_on: Open, redis_url: str, jobs: Jobs
) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    with TcpProxy(int(port)) as proxy:
        backend = open_on(redis_url.replace(f":{port}", f":{proxy.port}"))
        listener = backend.supervisors.listen("one")
        proxy.cut()
        assert select.select([listener], [], [], 20)[0]
        listener.drain()
        backend.heartbeat("one", LEASE, jobs.now)
        jobs.add()
        assert select.select([listener], [], [], 20)[0]
        listener.drain()
        assert not select.select([listener], [], [], 0)[0]
        listener.close()
        backend.close()


def test_a_place_in_a_limited_queue_wakes_others_if_who_frees_it_does_not_take_it(
    jobs: Jobs,
) -> None:
    jobs.limit("narrow", max_concurrent=1)
    jobs.insert_ids(*[new_job(queue="narrow")] * 3)
    listener = jobs.backend.supervisors.listen("other")
    (claim,) = jobs.claim()
    for limit, wakes in ((1, False), (0, True)):
        listener.drain()
        request = ClaimRequest(owner="one", limit=limit, lease=LEASE)
        report = Report(endings=[jobs.ending(claim, JobStatus.COMPLETED)])
        claims = jobs.backend.exchange(report, request, jobs.now).claims
        jobs.backend.counts()  # answered after whoever was woken
        assert bool(select.select([listener], [], [], 0)[0]) is wakes
        (claim,) = claims or [claim]
    listener.close()


# -- errors --------------------------------------------------------------------------------------


def test_a_newer_layout_and_the_keys_of_others_are_left_alone(jobs: Jobs, client: Any) -> None:
    jobs.add()
    for kind, meta in (
        (DatabaseNewerError, {"v": "2"}),
        (DatabaseDamagedError, {"of": "another program"}),
        (DatabaseDamagedError, "another program's"),
    ):
        client.delete(f"{TAG}meta")
        if isinstance(meta, str):
            client.set(f"{TAG}meta", meta)
        else:
            client.hset(f"{TAG}meta", mapping=meta)
        before = {key: client.dump(key) for key in client.keys("*")}
        for verb in (jobs.add, jobs.claim, jobs.backend.counts, jobs.backend.maintain):
            with pytest.raises(kind, match="127"):
                verb()
        assert {key: client.dump(key) for key in client.keys("*")} == before


def test_what_a_server_refuses_is_told_in_a_line_that_names_it_and_no_password(
    open_on: Open,
) -> None:
    with RedisServer(password="s3cret") as server:
        server.add_user("reader", "pass1", "+@all", "-evalsha", "-eval", "~*")
        cases: list[tuple[str, type[DatabaseError]]] = [
            (server.url_as(None, "wr0ng"), DatabaseRefusesError),
            (server.url_as(None, None), DatabaseRefusesError),
            (server.url_as("reader", "pass1"), DatabaseRefusesError),
            (server.url.replace("/0", "/16"), DatabaseError),
        ]
        for url, kind in cases:
            said = refusal(open_on(url), kind)
            assert type(said) is kind
            assert "wr0ng" not in str(said)
            assert "pass1" not in str(said)
            assert f":{server.port}" in str(said)
        server.client.config_set("maxmemory", "1")
        assert isinstance(refusal(open_on(server.url), DiskFullError), DiskFullError)
        server.client.config_set("maxmemory", "0")
        Jobs(lambda: open_on(server.url)).add()


def refusal(backend: RedisBackend, kind: type[DatabaseError]) -> DatabaseError:
    with pytest.raises(kind) as caught:
        Jobs(lambda: backend).add()
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_server_whose_memory_is_full_takes_no_jobs_and_lets_those_that_it_has_go_on(
    open_on: Open,
) -> None:
    with RedisServer() as server:
        jobs = Jobs(lambda: open_on(server.url))
        first, second, third = jobs.insert_ids(*[new_job()] * 3)
        server.client.config_set("maxmemory", "1")
        for _ in range(2):
            refusal(open_on(server.url), DiskFullError)
        claim = jobs.start(first)
        assert len(jobs.backend.heartbeat("one", LEASE, jobs.now)) == 1
        assert jobs.end(claim, JobStatus.RETRYING)
        jobs.backend.cancel([second], None, jobs.now)
        assert jobs.backend.delete([second]) == [second]
        assert jobs.claimed(9) == [third]
        with jobs.backend.group():  # as `jobq queue pause`, and every supervisor that begins, do it
            (queue,) = jobs.backend.queues()
            jobs.backend.put_queues([replace(queue, paused=True)])
        assert [queue.paused for queue in jobs.backend.queues()] == [True]
        with pytest.raises(DiskFullError), jobs.backend.group():
            jobs.insert(new_job())


def test_what_passes_is_an_error_of_its_own_kind(open_on: Open) -> None:
    with RedisServer() as server:
        with closing(replica_of(server)) as replica:
            refusal(open_on(replica.url), DatabaseUnavailableError)
        server.freeze()
        refusal(open_on(server.url + "?socket_timeout=0.05"), DatabaseAwayError)
        server.thaw()
        backend = open_on(server.url)
        job_id = Jobs(lambda: backend).add()
        server.kill()
        refusal(backend, DatabaseStoppedError)
        server.start()
        assert Jobs(lambda: backend).add() == 1 == job_id  # it kept nothing on disk


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h:x/0",
        "http://h",
        "unix://",
        "redis://h/0?name=a b",
        "redis://h/zero",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        parse_url(url)


@pytest.mark.parametrize(
    "option",
    [
        "bogus=1",
        "decode_responses=1",
        "protocol=3",
        "wait=x",
        "wait=",
        "db=-1",
        "socket_timeout=-1",
        "socket_timeout=0.0",
        "socket_timeout=nan",
        "socket_timeout=1e9",
        "client_name=a%20b",
        "health_check_interval=1.5",
        "ssl_check_hostname=perhaps",
        "ssl_cert_reqs=some",
        "ssl_keyfile=",
        "ssl_keyfile=/x",
    ],
)
def test_an_option_that_is_not_known_or_has_no_such_value_is_named(option: str) -> None:
    with pytest.raises(UsageError, match=f"^expected .*{option.partition('=')[0]}"):
        parse_url(f"rediss://h/0?{option}")


def test_an_option_of_tls_without_it_is_refused() -> None:
    with pytest.raises(UsageError, match="expected rediss://"):
        parse_url("redis://h/0?ssl_ca_certs=/x")


def test_an_address_is_shown_without_its_password() -> None:
    url = parse_url(
        "rediss://me:s3cret@[::1]:7000/3?name=x&wait=1&ssl_certfile=c&ssl_password=hidden"
    )
    assert url.shown == "rediss://me@[::1]:7000/3?ssl_certfile=c&ssl_password=***&name=x&wait=1"
    assert url.server == "rediss://me:s3cret@[::1]:7000/3?ssl_certfile=c&ssl_password=hidden"
    assert url.prefix == "{x}:"
    assert url.secret
    assert not parse_url("redis://me@H:1?socket_timeout=2&wait=01").secret
