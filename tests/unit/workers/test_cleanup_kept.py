"""`cleanup`: what it leaves alone: running downloads, projects, version control, what is mounted."""

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue, JobWorker, Permanent
from jobq.testing import run
from tests.support.nested import nest, remove
from tests.support.restricted import NEEDS_MOUNTS, with_mounts
from tests.support.workers import DAY, HOUR, Clean, make_file


def names(folder: Path) -> set[str]:
    """What is in a folder, at any depth, other than directories."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


EVERYTHING = {"older_than": "0s"}

# -- running downloads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        {"keep_last": 1},
        {"older_than": "1h"},
        {"max_total_size": 0},
        {"older_than": "1m", "partial": True},
    ],
)
@pytest.mark.parametrize(
    "at_work",
    [
        "fa1.m4a.part",
        "fa1.m4a",
        "temp.mp4",
        "mp4.ytdl",
        "mp4.part-Frag7",
        "mp4.part-Frag7.part",
        "f251-drm.webm.part.ytdl",
    ],
)
def test_the_finished_half_of_a_running_download_is_left_alone(
    clean: Clean, folder: Path, rule: dict[str, Any], at_work: str
) -> None:
    make_file(folder / "Talk 2.0 [x].fv1.mp4", age=3 * HOUR, size=1000)
    make_file(folder / f"Talk 2.0 [x].{at_work}", age=HOUR / 60)
    make_file(folder / "Talk 2.0 [x].mp4.part", age=2 * HOUR)
    make_file(folder / "new.mp4", age=HOUR / 60)
    make_file(folder / "Talk 2 [y].mp4", age=2 * DAY)

    done = clean(folder, **rule)

    assert done.error is None
    assert {name for name in names(folder) if name.startswith("Talk 2.0")} == {
        "Talk 2.0 [x].fv1.mp4",
        f"Talk 2.0 [x].{at_work}",
        "Talk 2.0 [x].mp4.part",
    }
    assert "Talk 2 [y].mp4" not in names(folder)


def test_the_first_half_alone_is_a_running_download(clean: Clean, folder: Path) -> None:
    make_file(folder / "Talk.f137.mp4", age=HOUR / 2)
    make_file(folder / "new.mp4", age=HOUR / 3)

    clean(folder, max_total_size=0)

    assert names(folder) == {"Talk.f137.mp4"}


def test_halves_of_an_abandoned_download_go_by_the_other_rules(clean: Clean, folder: Path) -> None:
    for name in ("a.f137.mp4", "a.f140.m4a.part", "a.f140.m4a.part-Frag1", "a.f140.m4a.part.ytdl"):
        make_file(folder / name, age=2 * HOUR)

    clean(folder, partial=True, pattern="*.m4a")
    assert names(folder) == {"a.f137.mp4"}
    clean(folder, older_than="1h")
    assert names(folder) == set()


# -- projects and version control --------------------------------------------------------------


def make_project(folder: Path, config: str = "") -> None:
    make_file(folder / "jobq.toml")
    (folder / "jobq.toml").write_text(config)
    for name in ("workers/feed.py", "workers/lib/x.py", ".jobq/jobq.db", ".jobq/jobq.db-wal",
                 "logs/jobs/1/stdout.log", "downloads/old.mp4", ".git/config", ".git/objects/ab/cd"):  # fmt: skip
        if not (folder / name).exists():
            make_file(folder / name)
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))


@pytest.mark.parametrize(
    "rule", [EVERYTHING, {"max_total_size": 0}, {"keep_last": 0, "older_than": "30d"}]
)
def test_of_a_project_only_what_is_not_its_own_goes(
    clean: Clean, queue: JobQueue, project: Path, rule: dict[str, Any]
) -> None:
    make_project(project)
    before = names(project)

    assert clean(project, jobs=False, **rule).error is None

    assert before - names(project) == {"downloads/old.mp4"}


@pytest.mark.parametrize("depth", ["", "a", "a/b"])
@pytest.mark.parametrize(
    ("config", "own"),
    [
        ("", {"workers/feed.py", "workers/lib/x.py", ".jobq/jobq.db", ".jobq/jobq.db-wal", "logs/jobs/1/stdout.log"}),
        ("not TOML", {"workers/feed.py", "workers/lib/x.py", ".jobq/jobq.db", ".jobq/jobq.db-wal", "logs/jobs/1/stdout.log"}),
        ("database = 'state/my.db'\nlog_dir = 'out'\n[workers]\npaths = ['mine', 'w2']\n",
         {"state/my.db", "state/my.downloads.jsonl", "out/jobs/1/stderr.log", "mine/x.py", "w2/y.py"}),
    ],
)  # fmt: skip
def test_other_projects_are_guarded_as_well(
    clean: Clean, folder: Path, depth: str, config: str, own: set[str]
) -> None:
    other = folder / depth
    make_project(other, config)
    for name in (
        "state/my.db",
        "state/my.downloads.jsonl",
        "out/jobs/1/stderr.log",
        "mine/x.py",
        "w2/y.py",
    ):
        make_file(other / name, age=DAY)

    assert clean(folder, **EVERYTHING).error is None

    assert names(other) == {"jobq.toml", ".git/config", ".git/objects/ab/cd", *own}


@pytest.mark.parametrize(
    "command", ["['hooks/tell.sh', '--all']", "[['true'], ['sh', 'hooks/tell.sh']]"]
)
@pytest.mark.parametrize("own", [True, False])
def test_the_programs_of_hooks_are_guarded(
    workers: dict[str, type[JobWorker]], tmp_path: Path, command: str, own: bool
) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    make_project(project if own else other, f"[hooks]\non_finish = {command}\n")
    project.mkdir(exist_ok=True)
    (project / ".jobq/jobq.db").unlink(missing_ok=True)
    (project / ".jobq/jobq.db-wal").unlink(missing_ok=True)
    (project / "jobq.toml").touch()
    program = (project if own else other) / "hooks/tell.sh"
    make_file(program, age=9 * DAY)
    make_file(program.with_name("old.sh"), age=9 * DAY)
    with JobQueue.open(project / "jobq.toml") as queue:
        args = {"directories": [str(tmp_path)], "older_than": "1d", "jobs": False}
        assert run(workers["cleanup"], args, queue=queue).error is None

    assert names(program.parent) == {"tell.sh"}


def test_what_a_project_has_elsewhere_or_behind_links_is_guarded(
    workers: dict[str, type[JobWorker]], tmp_path: Path
) -> None:
    top, project = tmp_path / "top", tmp_path / "project"
    for name in (
        "conf/real.toml",
        "db/jobq.db",
        "w/feed.py",
        "more/x.py",
        "l/jobs/1/x",
        "old",
    ):
        make_file(top / name, age=9 * DAY)
    project.mkdir()
    (top / "conf/real.toml").write_text(f"[workers]\npaths = ['workers', '{top}/more']\n")
    os.utime(top / "conf/real.toml", (0, 0))
    (project / "jobq.toml").symlink_to(top / "conf/real.toml")
    (project / ".jobq").symlink_to(top / "db")
    (project / "workers").symlink_to(top / "w")
    (project / "logs").symlink_to(top / "l")
    before = names(top)
    (top / "db/jobq.db").unlink()
    with JobQueue.open(project / "jobq.toml") as queue:
        queue.add("shell", {"argv": ["true"]})  # which makes the database
        args = {"directories": [str(top)], "older_than": "1d", "jobs": False}
        done = run(workers["cleanup"], args, queue=queue)

    assert done.result["files_deleted"] == 1
    assert before - names(top) == {"old"}


@pytest.mark.parametrize(
    "place",
    [
        "workers",
        "workers/lib",
        "logs",
        "logs/jobs/1",
        ".jobq",
        ".jobq/jobq.db.supervisors",
        ".git",
        ".git/objects",
    ],
)
def test_inside_of_a_project_nothing_is_cleaned(
    clean: Clean, queue: JobQueue, project: Path, place: str
) -> None:
    queue.add("shell", {"argv": ["true"]})  # which makes the database
    make_project(project)
    (project / place).mkdir(parents=True, exist_ok=True)
    before = names(project)

    done = clean(project / place, **EVERYTHING)

    assert isinstance(done.error, Permanent)
    assert str(done.error).startswith(f"'{project / place}': refused: it ")
    assert names(project) == before


def test_beside_a_database_files_are_cleaned_as_asked(
    workers: dict[str, type[JobWorker]], tmp_path: Path
) -> None:
    (tmp_path / "jobq.toml").write_text("database = 'jobq.db'\n")
    make_file(tmp_path / "downloads/old", age=DAY)
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        args = {"directories": [str(tmp_path / "downloads")], **EVERYTHING}
        assert run(workers["cleanup"], args, queue=queue).result["files_deleted"] == 1


# -- mounts, and directories without end -------------------------------------------------------

PROGRAM = textwrap.dedent("""
    import json, sys
    from jobq.job_types.registry import load
    from jobq.testing import run
    worker = load([]).types["cleanup"].worker
    done = run(worker, {"directories": sys.argv[1:], "older_than": "1d"})
    print(json.dumps([done.error and str(done.error), done.result, done.log, done.stderr]))
""")


@NEEDS_MOUNTS
@pytest.mark.parametrize("bind", [True, False])
def test_what_is_mounted_below_is_not_entered(tmp_path: Path, folder: Path, bind: bool) -> None:
    library = tmp_path / "library"
    make_file(library / "deep/film.mkv", age=9 * DAY)
    make_file(folder / "a/old", age=9 * DAY)
    (folder / "a/mounted").mkdir()
    source = ["--bind", str(library)] if bind else ["-t", "tmpfs", "none"]
    make = f"mkdir -p '{folder}/a/mounted/deep'; touch -d '9 days ago' '{folder}/a/mounted/deep/film.mkv'"
    check = f"test -e '{folder}/a/mounted/deep/film.mkv'"
    command = f'{make}; "$@" && {check}'

    done = with_mounts(
        [[*source, folder / "a/mounted"]],
        *("sh", "-c", command, "sh", sys.executable, "-c", PROGRAM, str(folder)),
    )

    assert done.returncode == 0, done
    error, result, log, stderr = json.loads(done.stdout)
    assert (error, result["files_deleted"], result["error_count"], stderr) == (None, 1, 0, "")
    assert f"not entered: '{folder}/a/mounted': a mount point" in log
    assert not (folder / "a/old").exists()


@NEEDS_MOUNTS
def test_what_is_mounted_at_the_directory_itself_is_cleaned(tmp_path: Path, folder: Path) -> None:
    make_file(tmp_path / "disk/a/old", age=9 * DAY)

    done = with_mounts(
        [["--bind", tmp_path / "disk", folder]], sys.executable, "-c", PROGRAM, str(folder)
    )

    assert json.loads(done.stdout)[1]["files_deleted"] == 1
    assert not (tmp_path / "disk/a/old").exists()


@NEEDS_MOUNTS
def test_a_directory_of_which_nothing_can_be_deleted_is_a_failure(
    tmp_path: Path, folder: Path
) -> None:
    for number in range(3):
        make_file(folder / str(number), age=9 * DAY)
    mounts: list[list[str | Path]] = [["--bind", folder, folder], ["-o", "remount,bind,ro", folder]]

    done = with_mounts(mounts, sys.executable, "-c", PROGRAM, str(folder))

    error, *_ = json.loads(done.stdout)
    assert error.startswith(f"no file could be deleted: 3 errors, the first: '{folder}/")
    assert error.endswith("': Read-only file system")


def test_a_tree_nested_by_the_thousand_is_cleaned(clean: Clean, folder: Path) -> None:
    nest(folder, 1500, age_s=9 * DAY.total_seconds())

    done = clean(folder, older_than="1d")

    remove(folder)  # emptied directories stay
    assert (done.error, done.result["files_deleted"]) == (None, 1500)


def test_logs_nested_by_the_thousand_hold_up_no_other_job(clean: Clean, queue: JobQueue) -> None:
    for _ in range(2):
        job = queue.add("shell", {"argv": ["true"]})
        claim = queue.claim(owner="t:1")
        assert claim is not None
        queue.logs.create(job).close()
        queue.complete(claim)
    nest(queue.logs.path(1) / "artifacts", 1500)

    done = clean(older_than="0s")

    assert (done.error, done.result["jobs_deleted"], done.result["errors"]) == (None, 2, [])
    assert list(queue.logs.path(1).parent.iterdir()) == []
