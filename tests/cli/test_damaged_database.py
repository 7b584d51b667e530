"""A database, or what stands in its place, that can't be used: said in a line, and left as it is."""

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from jobq import JobQueue
from jobq.backends.sqlite.schema import SCHEMA_VERSION
from jobq.queue import backend_of
from tests.support.cli_runner import Cli, Result

VERBS = (["add", "--", "true"], ["list"], ["work", "--drain"], ["import", "rows"], ["prune"])


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command, in a project with 60 jobs whose last user has closed the database."""
    monkeypatch.chdir(project)
    (project / "rows").write_text('{"type": "shell", "args": {"argv": ["true"]}}\n')
    with JobQueue.open() as queue:
        queue.add_many([{"args": {"argv": ["echo", "x" * 500]}} for _ in range(60)])
    return Cli(queue, capsys)


def database(project: Path) -> Path:
    return project / ".jobq" / "jobq.db"


def contents(folder: Path) -> dict[str, bytes | str]:
    """What is in a directory, but for locks, and the index of a log, which SQLite makes anew."""
    return {
        path.name: str(path.readlink()) if path.is_symlink()
        else path.read_bytes() if path.is_file()
        else str(path.stat().st_mode)
        for path in folder.iterdir()
        if not path.name.endswith(("-shm", ".lock", ".supervisors"))
    }  # fmt: skip


def refused(result: Result, complaint: str, code: int = 5) -> None:
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1
    assert complaint in result.err


def zero(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8192:-4096] = bytes(len(data) - 8192 - 4096)
    path.write_bytes(data)


def statements(*wanted: str) -> Callable[[Path], object]:
    def run(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in wanted:
                connection.execute(statement)

    return run


def in_its_place(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def bound(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(os.path.relpath(path))  # the whole path may be too long for a socket


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(b"garbage " * 9000), "file is not a database"),
    "zeros in the middle": (zero, "malformed: left untouched: restore the database from a backup"),
    "half of it": (lambda path: os.truncate(path, path.stat().st_size // 2), "malformed"),
    "its first bytes": (lambda path: os.truncate(path, 99), "left untouched"),
    "a newer version": (statements(f"PRAGMA user_version = {SCHEMA_VERSION + 1}"), "upgrade jobq"),
    "another program's": (
        in_its_place(statements("CREATE TABLE t (x)")), "not a jobq database, left untouched",
    ),
    "a directory": (in_its_place(Path.mkdir), "a directory, and not a file: set another"),
    "a FIFO": (in_its_place(os.mkfifo), "a FIFO, and not a file: set another"),
    "a device": (in_its_place(lambda path: path.symlink_to("/dev/null")), "a device, and not"),
    "a socket": (in_its_place(bound), "a socket, and not a file"),
    "a link to nowhere": (
        in_its_place(lambda path: path.symlink_to("gone.db")), "a symbolic link to gone.db, where",
    ),
    "a link to itself": (in_its_place(lambda path: path.symlink_to("jobq.db")), "symbolic link"),
    "a log that is none": (
        lambda path: Path(f"{path}-wal").write_bytes(b"garbage " * 9000), "not a write-ahead log",
    ),
    "a lock that is a directory": (
        lambda path: in_its_place(Path.mkdir)(Path(f"{path}.lock")),
        "a directory, and not a file: find out what made it",
    ),
    "a lock that is a link": (
        lambda path: in_its_place(lambda lock: lock.symlink_to("jobq.db"))(Path(f"{path}.lock")),
        "a symbolic link, and not a file: find out what made it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_every_verb_says_so_in_a_line_and_leaves_all_as_it_is(
    cli: Cli, project: Path, case: str
) -> None:
    damage, complaint = DAMAGE[case]
    damage(database(project))
    before = contents(project / ".jobq")
    for verb in VERBS:
        refused(cli(*verb), complaint)
        assert contents(project / ".jobq") == before, verb


def test_bytes_that_changed_by_themselves_are_never_a_bug_of_ours(cli: Cli, project: Path) -> None:
    """Whatever it hits, rows included: an answer, or one line and exit code 5."""
    path = database(project)
    whole = path.read_bytes()
    chance = random.Random(4)
    codes = []
    for _ in range(60):
        data = bytearray(whole)
        start = chance.randrange(100, len(data))
        data[start : start + 40] = chance.randbytes(len(data[start : start + 40]))
        path.write_bytes(data)
        result = cli("list", "--json", "--limit", "0")
        assert result.code in (0, 5), result.err
        assert result.err.count("\n") <= 1
        codes.append(result.code)
    assert {0, 5} == set(codes)


def test_a_link_to_a_database_is_that_database(cli: Cli, project: Path) -> None:
    """Who names the link, and who names the file, wait for each other, and share one log."""
    real = database(project)
    (project / "link.db").symlink_to(real)
    (project / "jobq.toml").write_text('database = "link.db"')
    with JobQueue.open() as queue:
        queue.add("shell", {"argv": ["true"]})
        backend_of(queue).supervisors.listen("one").close()
        assert {path.name for path in project.iterdir() if "link" in path.name} == {"link.db"}
        assert {path.name for path in real.parent.iterdir()} == {
            "jobq.db", "jobq.db-wal", "jobq.db-shm", "jobq.db.lock", "jobq.db.supervisors",
        }  # fmt: skip


# -- logs that a crash left --------------------------------------------------------------------


def crash(project: Path) -> None:
    """Add three jobs and die."""
    script = (
        "import os\nfrom jobq import JobQueue\nqueue = JobQueue.open()\n"
        "[queue.add('shell', {'argv': ['new', 'x' * 5000]}) for _ in range(3)]\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=project, check=True)


@pytest.mark.parametrize("without_index", [False, True])
def test_what_a_crash_left_in_the_log_is_there(
    cli: Cli, project: Path, without_index: bool
) -> None:
    crash(project)
    if without_index:
        Path(f"{database(project)}-shm").unlink()
    assert len(cli("list", "--json", "--limit", "0").json) == 63


def test_a_log_with_a_torn_end_gives_what_was_committed_before(cli: Cli, project: Path) -> None:
    crash(project)
    log = Path(f"{database(project)}-wal")
    with log.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(os.urandom(100))
    assert len(cli("list", "--json", "--limit", "0").json) == 62


def test_a_log_whose_header_is_damaged_is_not_taken_for_an_empty_one(
    cli: Cli, project: Path
) -> None:
    """SQLite would write over it, and over the three jobs in it."""
    crash(project)
    log = Path(f"{database(project)}-wal")
    with log.open("r+b") as file:
        file.seek(15)
        file.write(b"\xff")
    before = contents(project / ".jobq")
    for verb in VERBS:
        refused(cli(*verb), "not a write-ahead log of SQLite, or damaged")
        assert contents(project / ".jobq") == before, verb


READING_VERBS = (
    ["list"], ["list", "--json"], ["stats"], ["show", "1"], ["tail", "1"], ["wait", "1"], ["verify"],
    ["explain", "1"], ["queue", "list"], ["schedule", "list"], ["export"], ["config"],
)  # fmt: skip


@pytest.mark.parametrize("left", [None, b"", b"\0"])  # SQLite takes one byte for none
def test_a_log_without_its_database_is_left_alone(
    cli: Cli, project: Path, left: bytes | None
) -> None:
    crash(project)
    path = database(project)
    moved = path.read_bytes()
    path.unlink() if left is None else path.write_bytes(left)
    before = contents(project / ".jobq")
    for verb in (*VERBS, *READING_VERBS[:-1]):
        refused(cli(*verb), "jobq.db-wal: holds changes to a database, and jobq.db is missing")
        assert contents(project / ".jobq") == before, verb
    doctor = cli("doctor")
    assert (doctor.code, "put jobq.db back" in doctor.out) == (1, True)
    assert contents(project / ".jobq") == before
    path.write_bytes(moved)
    assert len(cli("list", "--json", "--limit", "0").json) == 63


def test_reading_makes_no_database(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / ".jobq")
    before = sorted(project.rglob("*"))
    for verb in (*READING_VERBS, ["doctor"]):
        assert cli(*verb).code in (0, 3), verb
        assert sorted(project.rglob("*")) == before, verb


def test_the_log_of_another_programs_database_is_not_moved_into_ours(
    cli: Cli, project: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    script = (
        "import os, sqlite3\nother = sqlite3.connect('other.db', isolation_level=None)\n"
        "other.execute('PRAGMA journal_mode = WAL')\nother.execute('CREATE TABLE t (x)')\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    shutil.copy(f"{other}-wal", f"{database(project)}-wal")
    before = contents(project / ".jobq")
    for verb in VERBS:
        result = cli(*verb)
        assert (result.code, result.err.count("\n")) == (5, 1)
        assert "left untouched" in result.err
        assert contents(project / ".jobq") == before, verb


def test_zeros_in_the_place_of_a_log_are_an_empty_one(cli: Cli, project: Path) -> None:
    """As a power cut may leave it, before anything in it was acknowledged."""
    Path(f"{database(project)}-wal").write_bytes(bytes(8192))
    assert cli("add", "--", "true").out == "61\n"


# -- file systems and permissions --------------------------------------------------------------


WITHOUT_LOCKS = """
import errno, fcntl, os, sys
def flock(*_): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
from jobq.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
"""The command on a file system whose locks fail as NFS without a lock manager has them."""


@pytest.mark.parametrize("verb", [VERBS[0], VERBS[2]], ids=lambda verb: verb[0])
def test_a_file_system_without_locks(cli: Cli, project: Path, verb: list[str]) -> None:
    before = contents(project / ".jobq")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, *verb],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    refused(Result(done.returncode, done.stdout, done.stderr), "keep the database on a local disk")
    assert "jobq.db.lock: No locks available" in done.stderr
    assert contents(project / ".jobq") == before


BOUND = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="root may read and write everything: needs setpriv",
)


def bound_by_permissions(project: Path, *verb: str) -> Result:
    """Run the command as a user for whom permissions count, even if that is root."""
    limits = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*(limits if os.geteuid() == 0 else ()), sys.executable, "-m", "jobq", *verb],
        cwd=project, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@BOUND
@pytest.mark.parametrize("place", ["jobq.db", "."])
def test_a_file_or_a_directory_that_can_not_be_written_to_can_be_read(
    cli: Cli, project: Path, place: str
) -> None:
    folder = project / ".jobq"
    assert bound_by_permissions(project, "list").code == 0
    (folder / place).chmod(0o400 if place != "." else 0o500)
    (folder / "jobq.db.lock").chmod(0o400)
    before = contents(folder)
    refused(bound_by_permissions(project, "add", "--", "true"), "writable for you")
    for verb in (["list", "--limit", "0"], ["stats"], ["show", "60"], ["queue", "list"]):
        done = bound_by_permissions(project, *verb)
        assert done.code == 0, done
        assert "60" in done.out or verb[0] == "queue"
    assert contents(folder) == before


@BOUND
@pytest.mark.parametrize("verb", [VERBS[0], VERBS[1]], ids=lambda verb: verb[0])
def test_a_directory_that_can_not_be_entered(cli: Cli, project: Path, verb: list[str]) -> None:
    (project / ".jobq").chmod(0)
    try:
        refused(bound_by_permissions(project, *verb), "Permission denied: make the database and")
    finally:
        (project / ".jobq").chmod(0o700)


@BOUND
def test_under_a_umask_that_takes_everything_the_owner_can_go_on(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / ".jobq")
    before = os.umask(0o777)
    try:
        assert bound_by_permissions(project, "add", "--", "echo", "hello").out == "1\n"
        done = bound_by_permissions(project, "work", "--drain")
        assert (done.code, done.err) == (0, ""), done
        assert bound_by_permissions(project, "tail", "1").out == "hello\n"
    finally:
        os.umask(before)


# -- logs --------------------------------------------------------------------------------------


def test_a_directory_of_logs_that_is_gone_is_made_again(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / "logs", ignore_errors=True)
    assert cli("list").code == 0
    assert cli("tail", "1").code == 0
    assert cli("stats").code == 0
    assert cli("import", "rows").code == 0
    assert cli("prune").code == 0


def test_a_directory_of_logs_that_is_a_file_costs_no_job_a_try(cli: Cli, project: Path) -> None:
    (project / "logs").write_text("precious")
    for verb in (["work", "--drain"], ["import", "rows"]):
        refused(cli(*verb), f"{project / 'logs'}: Not a directory: logs are kept in", code=1)
    assert (project / "logs").read_text() == "precious"
    assert {job["attempts"] for job in cli("list", "--json").json} == {0}


@BOUND
def test_where_no_log_directory_can_be_made_work_does_not_begin_to_wait(
    cli: Cli, project: Path
) -> None:
    jobs = project / "logs" / "jobs"
    jobs.mkdir(parents=True)
    jobs.chmod(0o500)
    done = bound_by_permissions(project, "work", "--drain")
    refused(done, f"{jobs}: Permission denied: logs are kept in", code=1)
    jobs.rmdir()
    jobs.write_text("precious")
    for verb in (["work", "--drain"], ["run", "--", "true"]):
        refused(cli(*verb), f"{jobs}: Not a directory: logs are kept in", code=1)
    assert jobs.read_text() == "precious"
    assert {job["attempts"] for job in cli("list", "--json").json} == {0}


def test_a_job_whose_log_can_not_be_opened_is_told_in_a_line(cli: Cli, project: Path) -> None:
    (project / "logs").mkdir()
    (project / "logs" / "jobs").write_text("")
    refused(cli("tail", "1"), f"{project / 'logs' / 'jobs'}: Not a directory", code=1)


@BOUND
def test_permissions_that_are_taken_while_it_works(cli: Cli, project: Path) -> None:
    """Jobs whose logs can't be kept wait until they can: no attempt of theirs is spent on that."""
    jobs = project / "logs" / "jobs"
    with cli.queue as queue:
        first = queue.add("shell", {"shell": f"chmod 500 {jobs}"}, priority=9)

    def give_back() -> None:
        with JobQueue.open(project / "jobq.toml") as queue:
            queue.wait(first.id, timeout=60)
        jobs.chmod(0o700)

    giver = Thread(target=give_back)
    giver.start()
    done = bound_by_permissions(project, "work", "--max-jobs", "2", "-j", "1")
    giver.join()
    assert (done.code, done.err) == (0, "")
    assert cli("show", str(first.id), "--json").json["status"] == "completed"
    shown = cli("show", "1", "--json").json
    assert (shown["status"], shown["attempts"]) == ("completed", 1)
