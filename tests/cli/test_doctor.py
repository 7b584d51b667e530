import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue
from jobq.backends.messages import ClaimRequest
from jobq.clock import utcnow
from jobq.diagnostics.doctor.finding import Examination, Finding, problem
from jobq.logs.directory import STDOUT
from jobq.models import SupervisorInfo
from jobq.queue import backend_of
from jobq.system.processes import boot_id, host_name
from tests.cli.test_damaged_database import (
    BOUND,
    DAMAGE,
    bound_by_permissions,
    contents,
    crash,
    database,
    statements,
)
from tests.support.cli_runner import Cli
from tests.support.nested import nest
from tests.support.restricted import NEEDS_MOUNTS, with_mounts

HOUR = 3600.0


@pytest.fixture
def cli(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    """The command, in a project with 60 jobs; one has run."""
    monkeypatch.chdir(project)
    with JobQueue.open() as queue:
        queue.add_many([{"args": {"argv": ["echo", "x" * 500]}} for _ in range(60)])
        cli = Cli(queue, capsys)
        with queue.logs.create(cli.completed()) as log:
            os.close(log.append(STDOUT))
        backend_of(queue).supervisors.listen("past").close()
        backend_of(queue).supervisors.unregister(["past"])
        queue.close()
        yield cli


def found(cli: Cli, *options: str, level: str = "problem") -> dict[str, Any]:
    """What the doctor says that is not fine, by the names of checks; the level of the worst."""
    result = cli("doctor", "--json", *options)
    said = [item for item in result.json["findings"] if item["level"] != "ok"]
    assert result.code == 1, said
    assert result.err == ""
    assert level in {item["level"] for item in said}
    for item in said:
        assert item["remedy"]
    return {item["check"]: item for item in said}


def healthy(cli: Cli, *options: str) -> list[str]:
    """Nothing is wrong any more; what was done."""
    result = cli("doctor", "--json", *options)
    assert [item for item in result.json["findings"] if item["level"] != "ok"] == []
    assert result.code == 0
    fixed: list[str] = result.json["fixed"]
    return fixed


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes()
                    if path.is_file() else b"")
        for path in folder.rglob("*")
    }  # fmt: skip


def test_a_healthy_queue_is_told_in_a_line_and_left_as_it_is(cli: Cli, project: Path) -> None:
    before = everything(project)
    assert cli("doctor").out.endswith("checks: all is well\n")
    assert cli("doctor").out.count("\n") == 1
    checks = cli("doctor", "--verbose", "--full").out
    assert everything(project) == before
    for name in ("sqlite", "file system", "locks", "space", "database", "invariants", "clock"):
        assert f"ok       {name}: " in checks


def test_a_new_project_is_healthy_and_stays_empty(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    queue: JobQueue,
) -> None:  # fmt: skip
    monkeypatch.chdir(project)
    assert Cli(queue, capsys)("doctor").code == 0
    assert [path.name for path in project.iterdir()] == ["jobq.toml"]


@pytest.mark.parametrize("case", DAMAGE)
def test_every_damage_is_named_with_a_remedy_and_left_as_it_is(
    cli: Cli, project: Path, case: str
) -> None:
    DAMAGE[case][0](database(project))
    before = contents(project / ".jobq")
    said = found(cli)
    assert said.keys() & {"database", "invariants", "locks"}, said
    found(cli, "--fix", "--yes")
    assert contents(project / ".jobq") == before


def test_a_log_of_another_queue_is_noticed(cli: Cli, project: Path, tmp_path: Path) -> None:
    """SQLite reads it as if it were ours: nothing but the damage shows it."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "jobq.toml").touch()
    with JobQueue.open(other / "jobq.toml") as queue:
        queue.add_many([{"args": {"argv": ["echo", "y" * 300]}} for _ in range(200)])
    crash(other)
    shutil.copy(f"{database(other)}-wal", f"{database(project)}-wal")
    assert found(cli).keys() & {"database", "invariants"}


def test_a_config_that_is_wrong(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text("concurrency = 0\n")
    result = cli("doctor")
    assert result.code == 1
    assert "problem  config: " in result.out
    assert "jobq.toml:1: concurrency: expected a whole number" in result.out


def test_a_worker_that_does_not_import(cli: Cli, project: Path) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "broken.py").write_text("def\n")
    assert "broken.py:1" in found(cli)["workers"]["where"]


def test_a_database_that_is_gone_and_left_its_logs(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / ".jobq")
    assert found(cli)["database"]["message"].startswith("does not exist, but ")
    assert not (project / ".jobq").exists()


def test_a_database_that_was_emptied_and_left_its_logs(cli: Cli, project: Path) -> None:
    os.truncate(database(project), 0)
    message = found(cli)["database"]["message"]
    assert message == f"is empty, but {project / 'logs' / 'jobs'} holds logs of jobs"
    assert database(project).stat().st_size == 0


@BOUND
@pytest.mark.parametrize(
    ("place", "check"),
    [(".jobq", "access"), (".jobq/jobq.db", "database"), (".jobq/jobq.db.supervisors", "access"),
     ("logs", "log directory"), ("logs/jobs", "log directory"), ("workers", "workers")],
)  # fmt: skip
def test_permissions_that_were_taken_away(cli: Cli, project: Path, place: str, check: str) -> None:
    """What keeps one check from looking is told, and the others look all the same."""
    (project / "workers").mkdir()
    mode = (project / place).stat().st_mode
    (project / place).chmod(0)
    result = bound_by_permissions(project, "doctor", "--json")
    (project / place).chmod(mode)
    assert result.err == ""
    assert result.code == 1
    said = {item["check"]: item for item in result.json["findings"] if item["level"] == "problem"}
    assert str(project / place) in said[check]["where"]
    assert "sqlite" in {item["check"] for item in result.json["findings"]}


def test_what_several_checks_meet_is_told_once(cli: Cli, project: Path) -> None:
    statements("DROP TABLE attempts")(database(project))
    assert cli("doctor").out.count("no such table: attempts") == 1


def test_an_older_schema_is_told_and_not_migrated(cli: Cli, project: Path) -> None:
    with closing(sqlite3.connect(database(project), isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 3")
    before = contents(project / ".jobq")
    said = found(cli, level="warning")
    assert "has schema 3" in said["database"]["message"]
    assert contents(project / ".jobq") == before


def test_what_can_not_be_is_named_with_its_job(cli: Cli, project: Path) -> None:
    with closing(sqlite3.connect(database(project), isolation_level=None)) as connection:
        connection.execute("UPDATE job_queue SET status = 'running' WHERE id = 7")
    assert "job 7: " in found(cli)["invariants"]["message"]


# -- permissions and links ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", [".jobq/jobq.db", ".jobq/jobq.db.lock", "logs", "logs/jobs", "logs/jobs/61",
              "logs/jobs/61/stdout.log", ".jobq/jobq.db.supervisors"],
)  # fmt: skip
def test_what_others_may_use_is_made_private(cli: Cli, project: Path, place: str) -> None:
    path = project / place
    private = path.stat().st_mode
    path.chmod(0o755 if path.is_dir() else 0o644)
    said = found(cli)["permissions"]
    assert (said["where"], said["fixable"]) == (str(path), True)
    assert healthy(cli, "--fix") == ["permissions: files and directories made private: 1"]
    assert path.stat().st_mode == private


def test_a_directory_in_which_others_may_replace_the_database(cli: Cli, project: Path) -> None:
    (project / ".jobq").chmod(0o777)
    assert "chmod go-w" in found(cli)["permissions"]["remedy"]


def plant_job(root: Path, elsewhere: Path) -> Path:
    (root / "99").symlink_to(elsewhere)
    return root / "99"


def plant_file(root: Path, elsewhere: Path) -> Path:
    (root / "61" / "job.log").symlink_to(elsewhere / "precious")
    return root / "61" / "job.log"


def plant_all(root: Path, elsewhere: Path) -> Path:
    shutil.rmtree(root)
    root.symlink_to(elsewhere)
    return root


@pytest.mark.parametrize("plant", [plant_job, plant_file, plant_all])
def test_links_are_named_and_neither_followed_nor_mended(
    cli: Cli, project: Path, tmp_path: Path, plant: Callable[[Path, Path], Path]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    link = plant(project / "logs" / "jobs", elsewhere)
    for path in (elsewhere, elsewhere / "precious"):
        path.chmod(0o777)
        age(path, 2 * HOUR)
    before = everything(tmp_path / "elsewhere")
    cli("doctor", "--fix")
    said = json.loads(cli("doctor", "--json").out)["findings"]
    assert str(link) in {item["message"].removeprefix("symbolic links: ") for item in said}
    cli("doctor", "--fix", "--yes")
    assert everything(tmp_path / "elsewhere") == before


# -- leftovers ---------------------------------------------------------------------------------


def test_a_supervisor_that_was_killed_is_forgotten_and_its_jobs_given_back(
    cli: Cli, project: Path
) -> None:
    job = cli.add("sleep", "60", priority=9)
    work = [sys.executable, "-m", "jobq", "work", "-j", "1"]
    supervisor = subprocess.Popen(work, cwd=project, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    while b"started" not in supervisor.stdout.readline():
        pass
    cli.queue.close()
    assert cli("doctor").code == 0
    supervisor.kill()
    supervisor.communicate()
    said = found(cli, level="warning")
    assert f":{supervisor.pid}:" in said["supervisors"]["message"]
    assert "jobs given back: 1" in healthy(cli, "--fix")[0]
    assert cli.status(job.id) == "pending"
    assert list((project / ".jobq" / "jobq.db.supervisors").iterdir()) == []


def register(queue: JobQueue, *, ago: timedelta, owner: str) -> None:
    then = utcnow() - ago
    backend_of(queue).supervisors.register(
        SupervisorInfo(
            id=owner, host=host_name(), boot_id=boot_id(), pid=os.getpid(), slots=1, queues=None,
            types=("shell",), started_at=then, heartbeat_at=then,
        )
    )  # fmt: skip


def test_a_supervisor_that_is_silent_is_named_and_left_alone(cli: Cli) -> None:
    owner = f"{host_name()}:{os.getpid()}:silent"
    with closing(backend_of(cli.queue).supervisors.listen(owner)):
        register(cli.queue, ago=timedelta(minutes=5), owner=owner)
        said = found(cli, "--fix", level="warning")
        assert "has sent no heartbeat for 300 s" in said["supervisors"]["message"]
        assert [info.id for info in backend_of(cli.queue).supervisors.all()] == [owner]


def test_files_that_supervisors_left_are_deleted(cli: Cli, project: Path) -> None:
    folder = project / ".jobq" / "jobq.db.supervisors"
    (folder / "gone:1:a.lock").touch(0o600)
    os.mkfifo(folder / "gone:1:a.wake", 0o600)
    os.mkfifo(folder / "gone:2:b.wake", 0o600)
    assert "gone:1:a, gone:2:b" in found(cli, level="warning")["leftovers"]["message"]
    healthy(cli, "--fix")
    assert list(folder.iterdir()) == []


def test_running_jobs_without_an_owner(cli: Cli) -> None:
    request = ClaimRequest(owner="pull", limit=1, lease=timedelta(seconds=-5))
    (claim,) = backend_of(cli.queue).claim(request, utcnow())
    message = found(cli, level="warning")["running"]["message"]
    assert message == f"running jobs without an owner, whose leases have expired: {claim.job.id}"


def test_times_that_are_still_to_come(cli: Cli) -> None:
    register(cli.queue, ago=timedelta(minutes=-5), owner="elsewhere:1:a")
    assert "elsewhere:1:a" in found(cli, level="warning")["clock"]["message"]


def test_a_file_from_the_future(cli: Cli, project: Path) -> None:
    age(database(project), -HOUR)
    assert "jobq.db" in found(cli, level="warning")["clock"]["message"]


def test_orphaned_logs_are_deleted_only_if_that_is_said_twice(cli: Cli, project: Path) -> None:
    jobs = project / "logs" / "jobs"
    with JobQueue.open() as queue:
        lost = queue.get(1)
        for job_id in (98, 99):
            with queue.logs.create(replace(lost, id=job_id)) as log:
                os.close(log.append(STDOUT))
    for path in (*(jobs / "98").iterdir(), jobs / "98"):
        age(path, 2 * HOUR)
    (jobs / "notes").mkdir(0o700)
    assert "98, 99" in found(cli, "--fix", level="warning")["orphans"]["message"]
    assert {path.name for path in jobs.iterdir()} == {"61", "98", "99", "notes"}
    said = cli("doctor", "--fix", "--yes")
    assert "deleted log directories of jobs that do not exist: 1" in said.out + said.err
    assert "kept, since they changed within the last hour: 1" in said.out + said.err
    assert {path.name for path in jobs.iterdir()} == {"61", "99", "notes"}


@NEEDS_MOUNTS
def test_an_orphan_that_can_not_be_deleted_holds_up_no_other(cli: Cli, project: Path) -> None:
    jobs = project / "logs" / "jobs"
    with JobQueue.open() as queue:
        lost = queue.get(1)
        for job_id in (97, 98):
            queue.logs.create(replace(lost, id=job_id)).close()
            (jobs / str(job_id) / "artifacts").mkdir(0o700)
    nest(jobs / "98" / "artifacts", 2000)
    for path in (*jobs.glob("9?/*"), *jobs.glob("9?")):
        age(path, 2 * HOUR)
    mount = ("-t", "tmpfs", "none", jobs / "97" / "artifacts")
    command = (sys.executable, "-m", "jobq", "doctor", "--fix", "--yes")
    said = with_mounts(
        [mount],
        "sh",
        "-c",
        'touch -d "2 hours ago" logs/jobs/97/artifacts; "$@"',
        "sh",
        *command,
        cwd=project,
    )
    assert (
        "deleted log directories of jobs that do not exist: 1; could not be deleted: 1, the first: "
        f"[Errno 16] Device or resource busy: '{jobs}/97/artifacts'"
    ) in said.stdout, said
    assert {path.name for path in jobs.iterdir()} == {"61", "97"}


def test_log_directories_of_another_database_are_left_to_that_one(
    cli: Cli, project: Path, tmp_path: Path
) -> None:
    folder = project / "logs" / "jobs"
    with JobQueue.open() as queue:
        lost = queue.get(1)
    with JobQueue.from_settings(replace(queue.settings, database=tmp_path / "other.db")) as other:
        other.add("shell", {"argv": ["true"]})
        other.logs.create(replace(lost, id=98)).close()
    (folder / "99").mkdir(0o700)  # of a version that made no marks, and another database, too
    for path in (*folder.glob("9?/*"), *folder.glob("9?")):
        age(path, 2 * HOUR)
    message = found(cli, "--fix", "--yes", level="warning")["foreign logs"]["message"]
    assert message == "log directories of another database: 98, 99"
    assert {path.name for path in folder.iterdir()} == {"61", "98", "99"}


def test_a_job_whose_logs_are_gone(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / "logs" / "jobs" / "61")
    message = found(cli, level="warning")["missing logs"]["message"]
    assert message == "no logs of these jobs, which have attempts: 61"


@pytest.mark.parametrize("kind", ["stdin", "import"])
def test_what_was_read_for_a_job_that_was_not_added(cli: Cli, project: Path, kind: str) -> None:
    old, new = project / "logs" / f"{kind}-old", project / "logs" / f"{kind}-new"
    for path in (old, new):
        path.touch(0o600)
    age(old, 2 * HOUR)
    assert f"{kind}-old" in found(cli, level="warning")["strays"]["message"]
    assert healthy(cli, "--fix") == ["strays: deleted temporary files: 1"]
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("place", ["logs", "logs/jobs"])
def test_logs_that_can_not_be_kept(cli: Cli, project: Path, place: str) -> None:
    shutil.rmtree(project / place)
    (project / place).touch(0o600)
    said = found(cli)["log directory"]
    assert (said["where"], said["message"]) == (str(project / place), "is not a directory")


# -- locks, disks, file systems and SQLite -----------------------------------------------------


def test_a_stopped_process_that_keeps_the_write_lock(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.diagnostics.doctor.files._LOCK_TIMEOUT_S", 0.1)
    script = (
        "import fcntl, os, sys\nlock = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, f"{database(project)}.lock"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        assert "no other process can write" in found(cli)["locks"]["message"]
        holder.kill()
    assert cli("doctor").code == 0


def test_a_disk_that_is_nearly_full(cli: Cli, small_disk: Path, project: Path) -> None:
    (project / "jobq.toml").write_text(f'log_dir = "{small_disk}/logs"')
    said = cli("doctor")
    assert said.code == 1
    assert "problem  space: " in said.out


def test_a_disk_on_which_nothing_is_started(cli: Cli, project: Path) -> None:
    (project / "jobq.toml").write_text('[logs]\nmin_free = "900000GB"')
    assert "too little to start jobs ([logs] min_free)" in found(cli)["space"]["message"]


def test_a_database_on_a_network_file_system(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq.diagnostics.doctor.files._kind_at", lambda _: "nfs4")
    said = found(cli)["file system"]
    assert "is on nfs4" in said["message"]


def test_a_log_that_grew_is_moved(cli: Cli, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    crash(project)
    monkeypatch.setattr("jobq.diagnostics.doctor.database.LARGE_WAL_BYTES", 1000)
    assert found(cli, level="warning")["log size"]["fixable"]
    assert "bytes left in the log: 0" in healthy(cli, "--fix")[0]
    assert len(cli.queue.find(limit=None)) == 64


def test_what_was_written_meanwhile_is_not_taken_for_damage(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read without a log may be torn: if the file has changed, it looks again."""
    looks = []

    def torn(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
        looks.append(examined)
        if len(looks) == 1:
            age(database(project), 10)
            yield problem("invariants", "page 7", "malformed", "none")

    monkeypatch.setattr("jobq.diagnostics.doctor.diagnose.DATABASE_CHECKS", (torn,))
    assert cli("doctor").code == 0
    assert len(looks) == 2
