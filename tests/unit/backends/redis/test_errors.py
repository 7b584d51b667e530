"""Errors of a Redis server, as errors of jobq."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from jobq.backends.redis.backend import RedisBackend
from jobq.errors import (
    DatabaseAwayError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseNewerError,
    DatabaseRefusesError,
    DatabaseStoppedError,
    DatabaseUnavailableError,
    DiskFullError,
)
from jobq.models import JobStatus
from tests.contract.driver import LEASE, Jobs, new_job
from tests.support.redis_server import RedisServer, replica_of
from tests.unit.backends.redis.servers import TAG, Open


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
