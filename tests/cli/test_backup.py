import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.backends.sqlite import backup
from tests.cli.test_damaged_database import (
    BOUND,
    bound_by_permissions,
    contents,
    crash,
    database,
    refused,
    zero,
)
from tests.support.cli_runner import Cli


@pytest.fixture
def cli(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    """The command, in a project with 1,000 jobs in 4 MB."""
    monkeypatch.chdir(project)
    with JobQueue.open() as queue:
        queue.add_many([{"args": {"argv": ["echo", "x" * 4000]}} for _ in range(1000)])
        queue.close()
        yield Cli(queue, capsys)


def ids(path: Path) -> list[int]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in copy.execute("SELECT id FROM job_queue ORDER BY id")]


def test_a_copy_is_whole_private_and_alone(cli: Cli, project: Path) -> None:
    crash(project)  # what is only in the write-ahead log is part of it
    before = contents(project / ".jobq")
    result = cli("backup", "--json", "copy.db")
    assert result.code == 0, result.err
    assert result.json == {"file": f"{project}/copy.db", "bytes": os.stat("copy.db").st_size}
    assert ids(project / "copy.db") == list(range(1, 1004))
    assert contents(project / ".jobq") == before
    assert {path.name for path in project.iterdir()} == {"jobq.toml", ".jobq", "copy.db"}


@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_copy_is_private_whatever_the_umask(cli: Cli, project: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert cli("backup", "copy.db").code == 0
    finally:
        os.umask(before)
    assert (project / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_copy_comes_to_an_end_however_much_is_written(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that began anew at each commit of another process never would."""
    monkeypatch.setattr(backup, "PAGES_PER_STEP", 1)
    script = (
        "from jobq import JobQueue\nwith JobQueue.open() as queue:\n    while True:\n"
        "        print(queue.add('shell', {'argv': ['new']}).id, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=project, stdout=subprocess.PIPE
    ) as writer:
        try:
            assert writer.stdout is not None
            first = int(writer.stdout.readline())
            result = cli("backup", "copy.db")
        finally:
            writer.kill()
        rest = writer.stdout.read().decode().split("\n")[:-1]
    assert result.code == 0, result.err
    copied = ids(project / "copy.db")
    assert copied == list(range(1, len(copied) + 1))
    assert first <= len(copied) < int(rest[-1])


def test_what_is_there_is_replaced_only_if_that_is_said(cli: Cli, project: Path) -> None:
    (project / "copy.db").write_text("precious")
    refused(cli("backup", "copy.db"), "copy.db exists: --force replaces it", code=2)
    assert (project / "copy.db").read_text() == "precious"
    assert cli("backup", "--force", "copy.db").code == 0
    assert len(ids(project / "copy.db")) == 1000


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        (".jobq/jobq.db", "this is the database itself"),
        ("link.db", "this is the database itself"),
        (".jobq/jobq.db-wal", "or a part of it"),
        (".jobq/jobq.db.lock", "or a part of it"),
        ("used.db", "used.db-wal exists, so used.db is in use"),
        (".jobq", "exists, and is not a file"),
        ("-", "give the name of a file"),
    ],
)
def test_what_can_not_be_replaced(cli: Cli, project: Path, place: str, complaint: str) -> None:
    (project / "link.db").symlink_to(database(project))
    (project / "used.db-wal").touch()
    before = contents(project / ".jobq"), contents(project)
    refused(cli("backup", "--force", place), complaint, code=2)
    assert (contents(project / ".jobq"), contents(project)) == before


def test_a_directory_that_is_not_there(cli: Cli) -> None:
    refused(cli("backup", "nowhere/copy.db"), "nowhere/copy.db: No such file or directory")


def test_a_full_disk_keeps_nothing_of_it(cli: Cli, small_disk: Path) -> None:
    (small_disk / "copy.db").write_text("the last one")
    to = str(small_disk / "copy.db")
    refused(cli("backup", "--force", to), f"{to}: No space left on device: no copy was kept")
    assert [path.name for path in small_disk.iterdir()] == ["copy.db"]
    assert (small_disk / "copy.db").read_text() == "the last one"


def test_of_a_damaged_database_no_copy_is_kept(cli: Cli, project: Path) -> None:
    zero(database(project))
    refused(cli("backup", "copy.db"), "damaged")
    assert not (project / "copy.db").exists()


@BOUND
def test_what_can_only_be_read_can_be_copied(cli: Cli, project: Path) -> None:
    """As from a disk that has become read-only: then one wants to."""
    (project / ".jobq").chmod(0o500)
    result = bound_by_permissions(project, "backup", "copy.db")
    (project / ".jobq").chmod(0o700)
    assert result.code == 0, result.err
    assert len(ids(project / "copy.db")) == 1000


def test_where_there_is_no_database(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / ".jobq")
    refused(cli("backup", "copy.db"), "there is no database")
    assert [path.name for path in project.iterdir()] == ["jobq.toml"]


def test_an_older_schema_is_copied_as_it_is(cli: Cli, project: Path) -> None:
    with closing(sqlite3.connect(database(project), isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 3")
    assert cli("backup", "copy.db").code == 0
    with closing(sqlite3.connect("copy.db")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (3,)


def test_a_copy_put_in_the_place_of_the_database_goes_on(cli: Cli, project: Path) -> None:
    """As docs/backup.md has it."""
    assert cli("backup", "copy.db").code == 0
    for path in (project / ".jobq").glob("jobq.db*"):
        with suppress(IsADirectoryError):
            path.unlink()
    shutil.copy("copy.db", database(project))
    assert cli("add", "--", "true").out == "1001\n"
    assert cli("doctor").code == 0
