"""What a job has started, on disk: in a directory that is the job's own."""

import os
from pathlib import Path

import pytest

from jobq.logs import descendants
from jobq.logs.directory import JobLog, JobLogs
from jobq.logs.owner import MARK
from tests.support.log_owners import owner


@pytest.fixture
def log(tmp_path: Path) -> JobLog:
    return JobLogs(tmp_path).create(owner(1))


def test_they_are_read_as_written_by_attempt_until_removed(log: JobLog) -> None:
    descendants.write(log, 1, {10: 100})
    descendants.write(log, 1, {11: 110, 12: 120})
    descendants.write(log, 2, {20: 200})
    assert descendants.read(log, 1) == {11: 110, 12: 120}
    (log.path / "..descendants-1.new").touch()  # as left by a kill in the middle
    descendants.remove(log, 1)
    assert descendants.read(log, 1) == {}
    assert sorted(path.name for path in log.path.iterdir()) == [".descendants-2", MARK]


@pytest.mark.parametrize("text", ["", "1", "1 2 3", "a b", "1 2\n3", "1 " + "9" * 5000, "\0"])
def test_what_makes_no_sense_is_nothing(log: JobLog, text: str) -> None:
    (log.path / ".descendants-1").write_text(text)
    assert descendants.read(log, 1) == {}


def test_no_link_is_followed(log: JobLog, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("1 2\n")
    (log.path / ".descendants-1").symlink_to(elsewhere)
    (log.path / "..descendants-1.new").symlink_to(elsewhere)
    assert descendants.read(log, 1) == {}
    descendants.write(log, 1, {3: 4})
    assert (descendants.read(log, 1), elsewhere.read_text()) == ({3: 4}, "1 2\n")


def test_what_another_user_may_have_written_is_nothing(
    log: JobLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even root, who may read all, would end processes that a stranger has chosen."""
    descendants.write(log, 1, {1: 2})
    path = log.path / ".descendants-1"
    path.chmod(0o666)
    assert descendants.read(log, 1) == {}
    path.chmod(0o600)
    assert descendants.read(log, 1) == {1: 2}
    owner_of_all = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner_of_all + 1)
    assert descendants.read(log, 1) == {}
