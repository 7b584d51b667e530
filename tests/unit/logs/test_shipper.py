"""Output for other machines: what is shipped of it, what it costs, and how it is seen there."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobq.backends.messages import LogChunk
from jobq.backends.redis.backend import RedisBackend
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.logs import RedisLogs
from jobq.errors import DatabaseUnreachableError
from jobq.logs import shipper as shipper_module
from jobq.logs.directory import STDOUT, JobLogs
from jobq.logs.remote import RemoteLog
from jobq.logs.shipper import BATCH_BYTES, BATCH_CHUNKS, CHUNK_BYTES, Shipper
from jobq.models import AttemptKey, LogOffsets
from tests.contract.driver import NOON, new_job
from tests.support.log_owners import owner
from tests.support.project import project, wait_until

__all__ = ["project"]


class Relay(RedisLogs):
    """A relay whose server is away on demand, and that remembers what was sent."""

    def __init__(self, db: RedisConnection) -> None:
        super().__init__(db)
        self.away = False
        self.calls = 0
        self.before: Callable[[], None] = lambda: None
        self.commands: list[list[LogChunk]] = []

    def ship(self, chunks: Sequence[LogChunk], *, max_bytes: int, ttl: timedelta) -> None:
        self.calls += 1
        self.before()
        if self.away:
            raise DatabaseUnreachableError("away")
        super().ship(chunks, max_bytes=max_bytes, ttl=ttl)
        self.commands.append(list(chunks))


class Server(RedisBackend):
    """A backend with such a relay."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.logs = self.relay = Relay(self._db)


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Iterator[Server]:
    server = Server(redis_url, tmp_path)
    server.insert([new_job()] * 300, NOON)
    yield server
    server.close()


@pytest.fixture
def shipper(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shipper]:
    monkeypatch.setattr(shipper_module, "SHIP_INTERVAL_S", 0.01)
    monkeypatch.setattr(shipper_module, "RETRY_INTERVALS_S", (0.01, 0.01))
    shipper = Shipper(
        server, JobLogs(tmp_path / "logs"), max_bytes=1 << 20, ttl=timedelta(minutes=1)
    )
    yield shipper
    shipper.close()
    assert "jobq-shipping" not in {thread.name for thread in threading.enumerate()}


def write(folder: Path, job_id: int, data: bytes, name: str = STDOUT) -> None:
    with (
        JobLogs(folder / "logs").create(owner(job_id)) as log,
        open(log.append(name), "ab") as file,
    ):
        file.write(data)


def key(job_id: int) -> AttemptKey:
    return AttemptKey(job_id, 1, datetime(2026, 1, 1, tzinfo=UTC))


def seen(server: Server, job_id: int, name: str = STDOUT) -> bytes:
    log = RemoteLog(server, server.get([job_id])[job_id])
    log.refresh()
    with log.read(name) as file:
        return b"" if file is None else file.read_all()


def test_what_is_written_arrives_and_costs_a_bounded_number_of_bytes(
    server: Server, shipper: Shipper, tmp_path: Path
) -> None:
    shipper.watch(key(1), owner(1), LogOffsets())
    for number in range(20):
        write(tmp_path, 1, b"%d\n" % number)
    wait_until(lambda: seen(server, 1).count(b"\n") == 20)
    assert seen(server, 1) == b"".join(b"%d\n" % number for number in range(20))
    write(tmp_path, 1, b"x" * 5_000_000 + b"the end\n")
    wait_until(lambda: seen(server, 1).endswith(b"the end\n"))
    assert b"bytes were not shipped: they are in the file" in seen(server, 1)
    assert all(
        sum(len(part.data) for part in each) <= CHUNK_BYTES for each in server.relay.commands
    )


def test_what_came_of_an_attempt_before_its_start_is_on_record_misses_nothing(
    server: Server,
) -> None:
    parts = [LogChunk(1, 1, STDOUT, 0, b"try 1\n"), LogChunk(1, 2, STDOUT, 6, b"try 2\n")]
    server.logs.ship(parts, max_bytes=1 << 20, ttl=timedelta(minutes=1))
    assert seen(server, 1) == b"try 1\ntry 2\n"


def test_output_of_the_next_attempt_is_not_shipped_as_that_of_the_last(
    server: Server, shipper: Shipper, tmp_path: Path
) -> None:
    """The next one starts while the last is being shipped, which then has to be done again."""
    begun: list[int] = []
    second = AttemptKey(1, 2, key(1).started_at)

    def begin_the_next() -> None:
        if not begun and not shipper._running:  # the last has ended
            begun.append(1)
            shipper.bound(second, LogOffsets(stdout=6))
            write(tmp_path, 1, b"try 2\n")
            raise DatabaseUnreachableError("away")

    server.relay.before = begin_the_next
    shipper.watch(key(1), owner(1), LogOffsets())
    write(tmp_path, 1, b"try 1\n")
    shipper.ended(key(1))
    wait_until(lambda: bool(begun))
    shipper.watch(second, owner(1), LogOffsets(stdout=6))
    shipper.ended(second)
    shipper.close()
    assert seen(server, 1) == b"try 1\ntry 2\n"


def test_of_a_crowd_each_gets_its_turn_and_no_command_is_long(
    server: Server, shipper: Shipper, tmp_path: Path
) -> None:
    for job_id in range(1, 301):
        shipper.watch(key(job_id), owner(job_id), LogOffsets())
        write(tmp_path, job_id, b"%d\n" % job_id * 1000)
        if job_id > 100:
            shipper.ended(key(job_id))
    wait_until(lambda: len({part.job_id for each in server.relay.commands for part in each}) == 300)
    assert all(len(each) <= BATCH_CHUNKS for each in server.relay.commands)
    assert all(
        sum(len(p.data) for p in each) <= BATCH_BYTES + CHUNK_BYTES
        for each in server.relay.commands
    )
    assert seen(server, 200) == b"200\n" * 1000


def test_while_nothing_can_be_shipped_nothing_piles_up_and_the_gap_is_said(
    server: Server, shipper: Shipper, tmp_path: Path
) -> None:
    shipper.watch(key(1), owner(1), LogOffsets())
    write(tmp_path, 1, b"before\n")
    wait_until(lambda: seen(server, 1) == b"before\n")
    server.relay.away, calls = True, server.relay.calls
    write(tmp_path, 1, b"lost\n" * 10_000)
    for job_id in range(2, 2 + 2 * shipper_module.MAX_ENDED):
        shipper.watch(key(job_id), owner(job_id), LogOffsets())
        shipper.ended(key(job_id))
    wait_until(lambda: server.relay.calls > calls + 3)
    assert len(shipper._ended) <= shipper_module.MAX_ENDED
    write(tmp_path, 1, b"after\n")
    server.relay.away = False
    wait_until(lambda: seen(server, 1).endswith(b"after\n"))
    before, gap, *_ = seen(server, 1).splitlines()
    missing = 50_000 + 6 - CHUNK_BYTES
    assert before == b"before"
    assert gap.startswith(f"[jobq: {missing:,} bytes were not shipped".encode())


def test_what_ended_last_is_shipped_at_the_end(
    server: Server, shipper: Shipper, tmp_path: Path
) -> None:
    for job_id in range(1, 200):
        shipper.watch(key(job_id), owner(job_id), LogOffsets())
        write(tmp_path, job_id, b"done\n")
        shipper.ended(key(job_id))
    shipper.close()
    assert {seen(server, job_id) for job_id in (1, 100, 199)} == {b"done\n"}


# -- two machines ------------------------------------------------------------------------------
