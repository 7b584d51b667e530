"""A log over its limit keeps head and tail; offsets, lines and characters stay what they were."""

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobq.logs import directory, truncation
from jobq.logs.directory import EVENTS, LOG, STDERR, STDOUT, JobLog, JobLogs
from jobq.logs.file import LogFile
from jobq.logs.gaps import Gap
from jobq.logs.owner import MARK
from jobq.logs.truncation import compact, trim
from tests.support.log_owners import owner

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT = 1 << 20


@pytest.fixture
def log(tmp_path: Path) -> Iterator[JobLog]:
    with JobLogs(tmp_path / "logs").create(owner(7)) as opened:
        yield opened


def write(log: JobLog, data: bytes, name: str = STDOUT) -> None:
    descriptor = log.append(name)
    directory.write_all(descriptor, data)
    os.close(descriptor)


def read(log: JobLog, name: str = STDOUT) -> bytes:
    with log.read(name) as file:
        assert file is not None
        return file.read_all()


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % n for n in range(first, last))


def raw(log: JobLog, name: str = STDOUT) -> bytes:
    return (log.path / name).read_bytes()


def used(log: JobLog) -> int:
    return sum(path.stat().st_blocks * 512 for path in log.path.iterdir())


@pytest.fixture(params=["holes", "no holes"])
def holes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A file system that has holes, and one that has none."""
    if request.param == "holes":
        return True

    def punch(descriptor: int, start: int, end: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(truncation, "_punch", punch)
    return False


def test_a_log_within_the_limit_is_left_alone(log: JobLog) -> None:
    write(log, b"x" * LIMIT)
    assert trim(log, LIMIT, NOON) == (LIMIT, [])
    assert compact(log) == []
    assert sorted(path.name for path in log.path.iterdir()) == [MARK, STDOUT]


def test_head_marker_and_tail_are_whole_lines(log: JobLog, holes: bool) -> None:
    data = numbered(0, 300_000)
    write(log, data)
    total, (trimmed,) = trim(log, LIMIT, NOON)
    assert total <= LIMIT * 3 // 4
    assert used(log) <= LIMIT
    write(log, b"the end\n")
    shown = read(log)
    compact(log)
    assert raw(log) == read(log) == shown
    head, marker, tail = shown.partition(b"[jobq: %s" % f"{trimmed.dropped:,}".encode())
    note, _, tail = tail.partition(b"\n")
    assert marker
    assert note == b" bytes were dropped here, to keep to [logs] max_bytes]"
    assert data.startswith(head)
    assert head.endswith(b"\n")
    assert len(head) >= LIMIT // 8 - 20
    assert (data + b"the end\n").endswith(b"\n" + tail if holes else tail)
    assert len(data) == len(head) + trimmed.dropped + (len(tail) - len(b"the end\n"))


def test_while_there_is_a_hole_no_reader_sees_it(log: JobLog) -> None:
    write(log, numbered(0, 300_000))
    trim(log, LIMIT, NOON)
    assert b"\0" in raw(log)
    assert b"\0" not in read(log)
    with log.read(STDOUT) as file:
        assert file is not None
        at = file.last_lines(3, 0, file.layout().end)
        assert file.read(at, 100)[0] == numbered(299_997, 300_000)


def test_a_reader_in_the_middle_of_what_goes_is_told(log: JobLog) -> None:
    write(log, numbered(0, 300_000))
    with log.read(STDOUT) as file:
        assert file is not None
        trim(log, LIMIT, NOON)
        data, at = file.read(LIMIT, 100)
        assert b"bytes were dropped here" in data
        assert file.read(at, 5)[0] == b"line "


def test_what_goes_while_it_is_read_is_read_once_more(log: JobLog) -> None:
    write(log, numbered(0, 300_000))

    def find_and_lose() -> Gap | None:
        found = log.gap(STDOUT)
        trim(log, LIMIT, NOON)
        return found

    descriptor = log.open(STDOUT, os.O_RDONLY)
    assert b"bytes were dropped here" in LogFile(descriptor, find_and_lose).read(LIMIT, 100)[0]
    os.close(descriptor)


def test_the_tail_begins_with_a_character(log: JobLog) -> None:
    write(log, "é🎬".encode() * 400_000)
    trim(log, LIMIT, NOON)
    compact(log)
    text = raw(log).decode("utf-8")
    head, marker, tail = text.splitlines()
    assert "dropped" in marker
    assert set(head) == set(tail) == {"é", "🎬"}


def test_the_largest_file_pays(log: JobLog) -> None:
    write(log, b"small\n", STDERR)
    write(log, numbered(0, 300_000), LOG)
    assert [each.name for each in trim(log, LIMIT, NOON)[1]] == [LOG]
    assert raw(log, STDERR) == b"small\n"


def test_four_large_files_are_trimmed_together(log: JobLog) -> None:
    for name in (STDOUT, STDERR, LOG, EVENTS):
        write(log, numbered(0, 100_000), name)
    total, trimmed = trim(log, LIMIT, NOON)
    assert total <= LIMIT * 3 // 4 + 4096
    assert len(trimmed) == 4
    assert used(log) <= LIMIT


def test_a_log_that_the_job_renamed_is_not_limited_but_counted_and_deleted(log: JobLog) -> None:
    write(log, b"x" * (2 * LIMIT))
    (log.path / STDOUT).rename(log.path / "moved")
    write(log, b"x")
    (log.path / "artifacts").mkdir()
    (log.path / "artifacts" / "film").write_bytes(b"x" * (2 * LIMIT))
    assert trim(log, LIMIT, NOON) == (1, [])
    job_logs = JobLogs(log.path.parents[1])
    assert job_logs.total_bytes() >= 4 * LIMIT
    job_logs.delete(owner(7))
    assert job_logs.total_bytes() == 0


def test_the_marker_among_events_is_an_event(log: JobLog) -> None:
    write(log, b'{"event": "log"}\n' * 100_000, EVENTS)
    trim(log, LIMIT, NOON)
    compact(log)
    events = [json.loads(line) for line in raw(log, EVENTS).splitlines()]
    (marker,) = [event for event in events if event["event"] == "log_trimmed"]
    assert marker["file"] == EVENTS
    assert marker["dropped"] > 0


def test_a_file_with_a_hole_is_not_written_anew_under_a_writer(log: JobLog, tmp_path: Path) -> None:
    write(log, numbered(0, 300_000))
    trim(log, LIMIT, NOON)
    with JobLogs(tmp_path / "logs").create(owner(7)) as another:
        another.hold()
        assert compact(log) == []
    assert len(compact(log)) == 1
    assert compact(log) == []


def test_what_a_job_puts_in_the_place_of_the_note_harms_nobody(log: JobLog) -> None:
    write(log, b"output\n")
    for nonsense in (
        b"", b"[", b"[]", b"null", b'{"stdout.log": 5}', b"[" * 5000, b'{"stdout.log": [9,1,1,"x"]}',
        b'{"stdout.log": [-9,1,1,"x"]}', b'{"stdout.log": [1,2,3,""]}', b'{"stdout.log": ["a",2,3,"x"]}',
        b'{"stdout.log": [0.5,1.5,2.5,"x"]}', b'{"stdout.log": [0,1%s,2%s,"x"]}' % (b"0" * 30, b"0" * 30),
    ):  # fmt: skip
        (log.path / "cuts.json").write_bytes(nonsense)
        assert read(log) == b"output\n"
        assert log.offsets().stdout == len(b"output\n")
        assert compact(log) == []
    (log.path / "cuts.json").unlink()
    os.mkfifo(log.path / "cuts.json")
    assert read(log) == b"output\n"


def test_the_note_of_a_job_leads_nowhere_else(log: JobLog, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    path = str(tmp_path / "precious")
    (log.path / f".{path}.new").parent.mkdir(parents=True)
    (log.path / "cuts.json").write_text(json.dumps({path: [1, 3, 5, "x"], "7": [1, 3, 5, "x"]}))
    assert compact(log) == []
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_job_that_deletes_the_note_does_not_end_the_trimming(
    log: JobLog, holes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JobLog, "note_gaps", lambda *_: None)
    write(log, numbered(0, 300_000))
    total, (trimmed,) = trim(log, LIMIT, NOON)
    assert total < LIMIT
    assert trimmed.dropped > LIMIT


def test_a_job_that_forbids_the_note_is_trimmed_all_the_same(log: JobLog) -> None:
    (log.path / ".cuts.json.new").mkdir()
    write(log, numbered(0, 300_000))
    with pytest.raises(IsADirectoryError):
        trim(log, LIMIT, NOON)
    assert used(log) <= LIMIT


def test_a_job_that_writes_its_log_anew_is_read(log: JobLog) -> None:
    write(log, numbered(0, 300_000))
    trim(log, LIMIT, NOON)
    os.truncate(log.path / STDOUT, 0)
    write(log, b"anew\n")
    assert read(log) == b"anew\n"


class _CrashError(Exception):
    pass


@pytest.mark.parametrize("step", ["note_gaps", "_punch", "rename"])
def test_a_crash_between_two_steps_is_put_right(
    log: JobLog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever was done before the crash, readers see lines alone, and the next one goes on."""
    write(log, numbered(0, 300_000))

    def crash(*_: object, **__: object) -> None:
        raise _CrashError

    owner = {"note_gaps": JobLog, "_punch": truncation, "rename": os}[step]
    with monkeypatch.context() as patch:
        if step == "rename":
            trim(log, LIMIT, NOON)
        patch.setattr(owner, step, crash)
        with pytest.raises(_CrashError):
            compact(log) if step == "rename" else trim(log, LIMIT, NOON)
    assert b"\0" not in read(log)
    trim(log, LIMIT, NOON)
    compact(log)
    assert raw(log) == read(log)
    assert raw(log).endswith(b"line 299999\n")
    assert used(log) <= LIMIT
    assert sorted(path.name for path in log.path.iterdir()) == [MARK, "cuts.json", STDOUT]


@given(st.lists(st.tuples(st.integers(0, 60_000), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=30)
def test_offsets_hold_over_any_number_of_trims(parts: list[tuple[int, bool]]) -> None:
    """What an attempt wrote is found by its offsets, or is said to be dropped."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, JobLogs(Path(folder)).create(owner(7)) as log:
        written, starts = b"", []
        for size, ends in parts:
            starts.append(log.size(STDOUT))
            assert starts[-1] == len(written)
            part = b"".join(b"%07d\n" % (len(written) + at) for at in range(0, size * 8, 8))
            write(log, part)
            written += part
            trim(log, 1 << 16, NOON)
            if ends:
                compact(log)
        with log.read(STDOUT) as file:
            assert file is not None
            for start, end in zip(starts, [*starts[1:], len(written)], strict=True):
                at = start
                while at < end:
                    data, behind = file.read(at, min(4096, end - at))
                    if b"dropped here" not in data:
                        assert data == written[at:behind]
                    at = behind
        tail = read(log).rpartition(b"]\n")[2]
        assert written.endswith(tail)
