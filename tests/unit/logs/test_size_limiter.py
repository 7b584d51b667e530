"""The size limiter: which logs are looked at, when, and for how long."""

import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from jobq.logs import size_limiter
from jobq.logs.directory import STDOUT, JobLog, JobLogs, write_all
from jobq.logs.size_limiter import LogSizeLimiter
from jobq.logs.truncation import Trimmed
from tests.support.log_owners import owner
from tests.support.project import wait_until

LIMIT = 100_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[JobLog]:
    with JobLogs(tmp_path / "logs").create(owner(7)) as opened:
        yield opened


@pytest.fixture
def limiter() -> Iterator[LogSizeLimiter]:
    opened = LogSizeLimiter(LIMIT)
    yield opened
    opened.close()
    assert "jobq-logs" not in {thread.name for thread in threading.enumerate()}


def write(log: JobLog, size: int) -> None:
    descriptor = log.append(STDOUT)
    write_all(descriptor, b"a line of text\n" * (size // 15))
    os.close(descriptor)


def at_least(found: list[Trimmed], count: int) -> bool:
    return len(found) >= count


def held(log: JobLog) -> int:
    return log.layout(STDOUT).held


def test_a_log_that_grows_is_trimmed_again_and_again(log: JobLog, limiter: LogSizeLimiter) -> None:
    trimmed: list[Trimmed] = []
    limiter.watch("job", lambda: log, trimmed.append)
    for times in range(1, 4):
        write(log, 3 * LIMIT)
        wait_until(lambda: held(log) <= LIMIT)
        wait_until(partial(at_least, trimmed, times))
    assert {each.name for each in trimmed} == {STDOUT}
    assert trimmed[-1].dropped > trimmed[0].dropped


def test_the_first_look_is_left_out_where_the_job_has_ended_by_then(
    log: JobLog, limiter: LogSizeLimiter
) -> None:
    looks: list[float] = []

    def look() -> JobLog:
        looks.append(time.monotonic())
        return log

    limiter.watch("job", look, lambda _: None)
    limiter.release("job", look=False)
    time.sleep(3 * size_limiter.FIRST_INTERVAL_S)
    assert looks == []
    limiter.watch("job", look, lambda _: None)
    limiter.release("job", look=True)
    assert len(looks) == 1


def test_a_last_look_trims_what_was_written_meanwhile(log: JobLog, limiter: LogSizeLimiter) -> None:
    trimmed: list[Trimmed] = []
    limiter.watch("job", lambda: log, trimmed.append)
    write(log, 3 * LIMIT)
    limiter.release("job", look=True)
    assert held(log) <= LIMIT
    assert trimmed
    limiter.release("job", look=True)  # which it does not know any more


def test_quiet_logs_are_looked_at_ever_less_often(
    log: JobLog, limiter: LogSizeLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limiter, "MAX_INTERVAL_S", 0.2)
    looks: list[float] = []

    def look() -> JobLog:
        looks.append(time.monotonic())
        return log

    limiter.watch("job", look, lambda _: None)
    wait_until(lambda: len(looks) >= 4)
    limiter.release("job", look=False)
    first, second, third, fourth = looks[:4]
    assert second - first > 0.09
    assert third - second > 0.19
    assert fourth - third > 0.19


def test_a_log_that_can_not_be_read_ends_nothing(log: JobLog, limiter: LogSizeLimiter) -> None:
    def fail() -> JobLog:
        raise OSError(28, "No space left on device")

    trimmed: list[Trimmed] = []
    limiter.watch("unreadable", fail, trimmed.append)
    limiter.watch("loud", lambda: log, trimmed.append)
    write(log, 3 * LIMIT)
    wait_until(lambda: trimmed)


def test_without_a_limit_there_is_no_thread() -> None:
    limiter = LogSizeLimiter(0)
    limiter.watch("job", lambda: pytest.fail("looked at"), lambda _: None)
    assert "jobq-logs" not in {thread.name for thread in threading.enumerate()}
    limiter.release("job", look=True)
    limiter.close()
