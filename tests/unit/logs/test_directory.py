import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobq.logs import directory
from jobq.logs.directory import EVENTS, LOG, STDERR, STDIN, STDOUT, JobLogs, append_line, event_line
from jobq.logs.file import last_lines
from jobq.models import LogOffsets
from tests.support.log_owners import owner

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def job_logs(tmp_path: Path) -> JobLogs:
    return JobLogs(tmp_path / "logs")


def write(job_logs: JobLogs, job_id: int, name: str, data: bytes) -> None:
    with job_logs.create(owner(job_id)) as log:
        descriptor = log.append(name)
        os.write(descriptor, data)
        os.close(descriptor)


# -- directories and files ---------------------------------------------------------------------


def test_attempts_append_to_the_same_files(job_logs: JobLogs) -> None:
    write(job_logs, 7, STDOUT, b"one\n")
    write(job_logs, 7, STDOUT, b"two\n")
    with job_logs.create(owner(7)) as log, log.read(STDOUT) as file:
        assert file is not None
        assert file.read_all() == b"one\ntwo\n"
        assert log.path == job_logs.path(7)


def test_a_job_without_output_has_no_directory_and_no_file(job_logs: JobLogs) -> None:
    assert job_logs.open(owner(7)) is None
    with job_logs.create(owner(8)) as log, log.read(STDOUT) as file:
        assert file is None
        assert log.size(STDOUT) == 0
    assert job_logs.open(owner(7)) is None
    opened = job_logs.open(owner(8))
    assert opened is not None
    opened.close()


def test_offsets_are_where_the_next_output_goes(job_logs: JobLogs) -> None:
    for name, size in ((STDOUT, 1), (STDERR, 2), (EVENTS, 3), (LOG, 4)):
        write(job_logs, 7, name, b"x" * size)
    with job_logs.create(owner(7)) as log:
        assert log.offsets() == LogOffsets(stdout=1, stderr=2, events=3, log=4)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_everything_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "new" / "logs"
    before = os.umask(umask)
    try:
        write(JobLogs(root), 7, STDOUT, b"secret")
        JobLogs(tmp_path / "spool" / "logs").spool(io.BytesIO(b"secret"))
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == wanted, path


def test_a_jobs_directory_is_deleted_with_all_in_it_and_no_other(job_logs: JobLogs) -> None:
    write(job_logs, 7, STDOUT, b"x")
    (job_logs.path(7) / "artifacts" / "deep").mkdir(parents=True)
    write(job_logs, 70, STDOUT, b"x")
    job_logs.delete(owner(7))
    job_logs.delete(owner(7))
    assert not job_logs.path(7).exists()
    assert job_logs.path(70).exists()


def test_nothing_is_deleted_where_nothing_is(job_logs: JobLogs) -> None:
    job_logs.delete(owner(7))
    assert not job_logs.root.exists()


def test_a_spooled_stream_is_moved_to_its_job(job_logs: JobLogs) -> None:
    spooled = job_logs.spool(io.BytesIO(b"input"))
    with job_logs.create(owner(7)) as log:
        log.adopt(spooled, STDIN)
    assert not spooled.exists()
    assert (job_logs.path(7) / STDIN).read_bytes() == b"input"


def test_a_stream_that_breaks_leaves_nothing_behind(job_logs: JobLogs) -> None:
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        job_logs.spool(Broken())
    assert list(job_logs.root.iterdir()) == []


def test_the_total_is_what_all_files_take(job_logs: JobLogs) -> None:
    assert job_logs.total_bytes() == 0
    write(job_logs, 7, STDOUT, b"x" * 100_000)
    assert 100_000 <= job_logs.total_bytes() < 200_000


def test_the_root_itself_may_be_a_link_to_another_disk(job_logs: JobLogs, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    job_logs.root.symlink_to(tmp_path / "disk")
    write(job_logs, 7, STDOUT, b"x" * 100_000)
    assert (tmp_path / "disk" / "jobs" / "7" / STDOUT).exists()
    assert job_logs.total_bytes() >= 100_000


# -- symbolic links ----------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory of somebody else's, which nothing may touch."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


def link_file(name: str) -> Callable[[JobLogs, Path], object]:
    def plant(job_logs: JobLogs, elsewhere: Path) -> None:
        job_logs.create(owner(7)).close()
        (job_logs.path(7) / name).symlink_to(elsewhere / "precious")

    return plant


def link_to_nothing(job_logs: JobLogs, elsewhere: Path) -> None:
    job_logs.create(owner(7)).close()
    (job_logs.path(7) / STDOUT).symlink_to(elsewhere / "new")


def link_job(job_logs: JobLogs, elsewhere: Path) -> None:
    job_logs.path(7).parent.mkdir(parents=True)
    job_logs.path(7).symlink_to(elsewhere)


def link_jobs(job_logs: JobLogs, elsewhere: Path) -> None:
    job_logs.root.mkdir()
    (elsewhere / "7").mkdir()
    (elsewhere / "7" / STDOUT).write_text("precious")
    job_logs.path(7).parent.symlink_to(elsewhere)


def link_jobs_to_nothing(job_logs: JobLogs, elsewhere: Path) -> None:
    job_logs.root.mkdir()
    job_logs.path(7).parent.symlink_to(elsewhere / "new")


PLANTED = {
    "stdout.log": link_file(STDOUT),
    "a link to nothing": link_to_nothing,
    "the job's directory": link_job,
    "the directory of all jobs": link_jobs,
    "the directory of all jobs, to nothing": link_jobs_to_nothing,
}


def tree(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("place", PLANTED)
def test_no_link_is_followed_for_writing_reading_or_measuring(
    job_logs: JobLogs, elsewhere: Path, place: str
) -> None:
    PLANTED[place](job_logs, elsewhere)
    before = tree(elsewhere)

    def read() -> bytes:
        log = job_logs.open(owner(7))
        assert log is not None
        with log, log.read(STDOUT) as file:
            assert file is not None
            return file.read_all()

    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        write(job_logs, 7, STDOUT, b"x")
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        read()
    assert job_logs.total_bytes() < 3 * 4096
    assert tree(elsewhere) == before


@pytest.mark.parametrize("place", ["stdout.log", "a link to nothing", "the job's directory"])
def test_a_link_is_deleted_and_not_what_it_points_to(
    job_logs: JobLogs, elsewhere: Path, place: str
) -> None:
    PLANTED[place](job_logs, elsewhere)
    before = tree(elsewhere)
    job_logs.delete(owner(7))
    assert not job_logs.path(7).is_symlink()
    assert not job_logs.path(7).exists()
    assert tree(elsewhere) == before


def test_a_linked_directory_of_all_jobs_is_not_deleted_from(
    job_logs: JobLogs, elsewhere: Path
) -> None:
    link_jobs(job_logs, elsewhere)
    before = tree(elsewhere)
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        job_logs.delete(owner(7))
    assert tree(elsewhere) == before


def test_the_size_of_a_link_is_its_own(job_logs: JobLogs, elsewhere: Path) -> None:
    (elsewhere / "precious").write_text("x" * 10_000)
    link_file(STDOUT)(job_logs, elsewhere)
    with job_logs.create(owner(7)) as log:
        assert log.size(STDOUT) < 1000


# -- events and tails --------------------------------------------------------------------------


def test_an_event_is_one_line_of_json_whatever_is_in_it() -> None:
    line = event_line("log", NOON, 2, message="a\nb\u2028ż\udce9\0", n=1.5)
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "time": "2026-01-01T12:00:00+00:00",
        "event": "log",
        "attempt": 2,
        "message": "a\nb\u2028ż\udce9\0",
        "n": 1.5,
    }


@pytest.mark.parametrize(("before", "torn"), [(b"", b""), (b"{}\n", b""), (b"", b'{"ti')])
def test_an_event_starts_on_a_line_of_its_own(
    job_logs: JobLogs, before: bytes, torn: bytes
) -> None:
    write(job_logs, 7, EVENTS, before + torn)
    with job_logs.create(owner(7)) as log:
        descriptor = log.append_events()
        append_line(descriptor, b"[1]\n")
        append_line(descriptor, b"[2]\n")
        os.close(descriptor)
    whole = before + torn + (b"\n" if torn else b"") + b"[1]\n[2]\n"
    assert (job_logs.path(7) / EVENTS).read_bytes() == whole


def tail_simply(data: bytes, count: int) -> bytes:
    lines = data.split(b"\n")
    closed = lines[-1:] == [b""]
    kept = lines[:-1] if closed else lines
    if count == 0 or not kept:
        return b""
    return b"\n".join(kept[-count:]) + (b"\n" if closed else b"")


@given(
    st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n"]), max_size=30).map(b"".join),
    st.integers(0, 12),
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(0, 5),
)
@example(b"\n", 1, 1, 0, 0)
@example(b"\n\n", 1, 1, 0, 0)
def test_the_last_lines_are_those_that_a_simple_reader_finds(
    data: bytes, count: int, block: int, before: int, behind: int
) -> None:
    """Whatever the size of the blocks, and only between the two offsets."""
    file = io.BytesIO(b"\n" * before + data + b"\n" * behind)
    start, end = before, before + len(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "_BLOCK", block)
        at = last_lines(file, count, start, end)
        assert last_lines(file, None, start, end) == start
    assert data[at - start :] == tail_simply(data, count)


def test_the_last_lines_of_a_large_file_are_found_from_its_end() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    file = Counting(b"line\n" * 1_000_000)
    assert last_lines(file, 3, 0, 5_000_000) == 5_000_000 - 15
    assert file.taken < 100_000
