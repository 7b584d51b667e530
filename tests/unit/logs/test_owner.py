"""Log directories belong to jobs, not to numbers."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobq.backends.messages import StoreIdentity
from jobq.logs.directory import STDOUT, JobLogs
from jobq.logs.owner import MARK, Owner, owner_of
from jobq.models import Job, JobStatus
from tests.support.log_owners import owner

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINE, OTHER = owner(7, "mine"), owner(7, "other")
RAN_BEFORE = MINE._replace(takes_unmarked=True)


@pytest.fixture
def logs(tmp_path: Path) -> JobLogs:
    return JobLogs(tmp_path / "logs")


def write(logs: JobLogs, of: Owner, data: bytes) -> None:
    with logs.create(of) as log, open(log.append(STDOUT), "ab") as file:
        file.write(data)


def read(logs: JobLogs, of: Owner) -> bytes | None:
    log = logs.open(of)
    if log is None:
        return None
    with log, log.read(STDOUT) as file:
        return None if file is None else file.read_all()


def names(logs: JobLogs) -> list[str]:
    return sorted(path.name for path in logs.path(0).parent.iterdir())


def unmarked(logs: JobLogs, data: bytes) -> None:
    """Make a directory as versions without marks did."""
    logs.path(7).mkdir(parents=True)
    (logs.path(7) / STDOUT).write_bytes(data)


def test_two_stores_keep_the_logs_of_jobs_with_the_same_number_apart(logs: JobLogs) -> None:
    write(logs, MINE, b"mine\n")
    assert read(logs, OTHER) is None
    write(logs, OTHER, b"other\n")
    assert (read(logs, MINE), read(logs, OTHER)) == (b"mine\n", b"other\n")
    assert (logs.path(7) / STDOUT).read_bytes() == b"other\n"  # the last to run has the name
    write(logs, MINE._replace(takes_unmarked=True), b"again\n")
    assert (read(logs, MINE), read(logs, OTHER)) == (b"mine\nagain\n", b"other\n")
    assert names(logs) == ["7", f"7.{OTHER.mark}"]
    logs.delete(OTHER)
    assert (read(logs, MINE), read(logs, OTHER)) == (b"mine\nagain\n", None)
    logs.delete(OTHER)
    assert names(logs) == ["7"]


def test_a_job_that_gets_the_number_of_a_lost_one_does_not_get_its_logs(logs: JobLogs) -> None:
    lost, new = owner(7, added=1), owner(7, added=2)
    with logs.create(lost) as log:
        os.close(log.append(STDOUT))
        assert log.hold()  # it still runs, until its supervisor notices
        assert read(logs, new) is None
        write(logs, new, b"new\n")
    assert (read(logs, lost), read(logs, new)) == (b"", b"new\n")


def test_logs_that_a_running_job_of_another_store_uses_stay_in_place(logs: JobLogs) -> None:
    with logs.create(OTHER) as log:
        os.close(log.append(STDOUT))
        log.hold()
        with pytest.raises(OSError, match=r"a running job of another database .* log_dir") as info:
            logs.create(MINE)
        assert info.value.filename == str(logs.path(7))
    write(logs, MINE, b"mine\n")
    assert names(logs) == ["7", f"7.{OTHER.mark}"]


def test_an_unmarked_directory_is_of_a_job_that_may_have_made_it(logs: JobLogs) -> None:
    unmarked(logs, b"old\n")
    assert read(logs, MINE) is None
    assert read(logs, RAN_BEFORE) == b"old\n"
    write(logs, RAN_BEFORE, b"new\n")
    assert read(logs, MINE) == b"old\nnew\n"
    assert names(logs) == ["7"]


def test_an_unmarked_directory_of_another_store_is_kept_where_that_finds_it(logs: JobLogs) -> None:
    unmarked(logs, b"old\n")
    write(logs, OTHER, b"other\n")
    logs.delete(OTHER)
    assert read(logs, RAN_BEFORE) == b"old\n"
    write(logs, RAN_BEFORE, b"new\n")
    assert read(logs, MINE) == b"old\nnew\n"
    assert names(logs) == ["7"]


@pytest.mark.parametrize("mark", [b"", b"../../etc", b"x" * 4096, b"\xff\n", b"no mark"])
def test_a_mark_that_makes_no_sense_is_none(logs: JobLogs, mark: bytes) -> None:
    unmarked(logs, b"old\n")
    (logs.path(7) / MARK).write_bytes(mark)
    assert read(logs, MINE) is None
    write(logs, MINE, b"new\n")
    assert (read(logs, MINE), names(logs)) == (b"new\n", ["7", "7.unmarked"])


@pytest.mark.parametrize("torn", [True, False])
def test_a_crash_before_the_mark_costs_nothing(logs: JobLogs, torn: bool) -> None:
    logs.path(7).mkdir(parents=True)
    if torn:
        (logs.path(7) / MARK).touch()
    write(logs, MINE, b"mine\n")
    assert (read(logs, MINE), names(logs)) == (b"mine\n", ["7"])


def test_a_directory_of_another_user_is_never_used(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(logs, RAN_BEFORE, b"planted\n")
    os.chown(logs.path(7), 4321, -1)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(logs.root).st_uid + 1234)
    for path in (logs.root, logs.path(7).parent):
        os.chown(path, os.geteuid(), -1)
    assert read(logs, RAN_BEFORE) is None
    with logs.create(RAN_BEFORE) as log:
        os.chown(log.path, os.geteuid(), -1)
    assert names(logs) == ["7", "7.another-user"]


def test_a_file_of_another_user_is_neither_written_nor_believed(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logs.create(MINE) as log:
        os.close(log.append(STDOUT))
        os.chown(log.path / STDOUT, 4321, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
        with pytest.raises(PermissionError, match="belongs to another user") as info:
            log.append(STDOUT)
        assert info.value.filename == str(log.path / STDOUT)
        with pytest.raises(PermissionError), log.read(STDOUT):
            pass


def test_what_others_may_write_to_is_private_from_then_on(logs: JobLogs) -> None:
    write(logs, MINE, b"x")
    for path in (logs.path(7).parent, logs.path(7), logs.path(7) / STDOUT):
        path.chmod(0o777)
    write(logs, MINE, b"x")
    for path in (logs.path(7).parent, logs.path(7), logs.path(7) / STDOUT):
        assert path.stat().st_mode & 0o022 == 0


def test_all_log_directories_are_found_with_their_marks(logs: JobLogs) -> None:
    write(logs, MINE, b"x")
    write(logs, OTHER, b"x")
    logs.path(8).mkdir()
    for name in ("08", "notes", "8x", ".9"):
        (logs.path(0).parent / name).mkdir()
    (logs.path(0).parent / "10").touch()
    assert sorted(logs.entries(), key=lambda entry: entry.name) == [
        ("7", 7, OTHER.mark),
        (f"7.{MINE.mark}", 7, MINE.mark),
        ("8", 8, None),
    ]


def job(job_id: int, status: JobStatus, attempts: int) -> Job:
    return Job(
        id=job_id, type="shell", name=None, status=status, queue="default", priority=5, args={},
        tags={}, unique_key=None, added_by=None, max_retries=0, retry_base=1.0, timeout=None,
        created_at=NOON, run_at=None, attempts=attempts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("job_id", "status", "attempts", "takes"),
    [
        (5, JobStatus.PENDING, 0, True),  # added before there were marks
        (6, JobStatus.PENDING, 0, False),
        (6, JobStatus.RUNNING, 1, False),
        (6, JobStatus.RUNNING, 2, True),  # its first attempt may have been an older version's
        (6, JobStatus.COMPLETED, 1, True),  # the mark was lost: it is a copy
    ],
)
def test_a_job_takes_an_unmarked_directory_that_can_be_its_own(
    job_id: int, status: JobStatus, attempts: int, takes: bool
) -> None:
    found = owner_of(job(job_id, status, attempts), StoreIdentity("store", 5))
    assert found == (job_id, f"store-{NOON.timestamp():.0f}000000", takes)


def test_jobs_are_told_apart_by_the_time_at_which_they_were_added() -> None:
    first = job(5, JobStatus.PENDING, 0)
    second = replace(first, created_at=NOON + timedelta(microseconds=1))
    store = StoreIdentity("store", 5)
    assert owner_of(first, store).mark != owner_of(second, store).mark


def test_no_descriptor_is_left_open(logs: JobLogs) -> None:
    def use_all() -> None:
        write(logs, MINE, b"x")
        write(logs, OTHER, b"x")
        write(logs, RAN_BEFORE, b"x")
        read(logs, OTHER)
        read(logs, owner(8))
        list(logs.entries())
        logs.delete(OTHER)
        logs.delete(MINE)

    use_all()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        use_all()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
