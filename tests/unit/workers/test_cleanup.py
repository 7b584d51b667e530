"""`cleanup`: the files that it deletes, keeps and refuses."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobq import ArgsError, JobQueue, JobWorker, Permanent
from jobq.testing import Run, run
from tests.support.workers import DAY, HOUR, Clean, make_file


@pytest.fixture
def module(workers: dict[str, type[JobWorker]]) -> ModuleType:
    return sys.modules[workers["cleanup"].__module__]


def names(folder: Path) -> set[str]:
    """What is in a folder, at any depth, other than directories."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(folder)) for path in found}


def counts(done: Run) -> tuple[int, int]:
    assert done.error is None
    assert done.result["errors"] == []
    return done.result["files_deleted"], done.result["bytes_freed"]


# -- files: which ones -------------------------------------------------------------------------


def test_old_files_at_any_depth(clean: Clean, folder: Path) -> None:
    make_file(folder / "old", age=31 * DAY, size=10)
    make_file(folder / "a/b/older", age=90 * DAY, size=5)
    make_file(folder / "a/young", age=29 * DAY)

    done = clean(folder, older_than="30d")

    assert counts(done) == (2, 15)
    assert names(folder) == {"a/young"}
    assert f"deleted '{folder}/a/b/older' (5 bytes)" in done.log
    assert (folder / "a/b").is_dir()  # emptied directories stay


def test_only_names_that_match(clean: Clean, folder: Path) -> None:
    for name in ("a.mp4", "b.MP4", "c.mp4.json", ".mp4"):
        make_file(folder / name, age=DAY)

    clean(folder, older_than="1h", pattern="?*.mp4")

    assert names(folder) == {"b.MP4", "c.mp4.json", ".mp4"}


def test_oldest_go_until_the_rest_fits(clean: Clean, folder: Path) -> None:
    for days in range(1, 6):
        make_file(folder / f"{days}", age=days * DAY, size=1024)
    make_file(folder / "other.txt", age=9 * DAY, size=1024)

    done = clean(folder, max_total_size="3K", pattern="[0-9]")

    assert counts(done) == (2, 2048)
    assert names(folder) == {"1", "2", "3", "other.txt"}


def test_a_total_that_fits_is_left_alone(clean: Clean, folder: Path) -> None:
    make_file(folder / "a", size=1024)

    assert counts(clean(folder, max_total_size=1024)) == (0, 0)


def test_keep_last_alone_deletes_the_others(clean: Clean, folder: Path) -> None:
    for days in range(1, 5):
        make_file(folder / f"{days}", age=days * DAY)

    clean(folder, keep_last=2)

    assert names(folder) == {"1", "2"}


@pytest.mark.parametrize(
    "rule", [{"older_than": "1h"}, {"max_total_size": 0}, {"older_than": "1h", "partial": True}]
)
def test_keep_last_protects_the_newest(clean: Clean, folder: Path, rule: dict[str, Any]) -> None:
    for days in range(1, 5):
        make_file(folder / f"{days}", age=days * DAY)

    clean(folder, keep_last=3, **rule)

    assert names(folder) == {"1", "2", "3"}


def test_keep_last_and_size_are_counted_in_each_directory(clean: Clean, tmp_path: Path) -> None:
    for name in ("x", "y"):
        for days in (1, 2):
            make_file(tmp_path / name / f"{days}", age=days * DAY)

    clean(tmp_path / "x", tmp_path / "y", keep_last=1)

    assert (names(tmp_path / "x"), names(tmp_path / "y")) == ({"1"}, {"1"})


# -- partial downloads -------------------------------------------------------------------------


def test_partial_deletes_only_what_downloads_left(clean: Clean, folder: Path) -> None:
    for name in ("a.mp4.part", "a.mp4.ytdl", "b.tmp", "c.crdownload", "d.mp4", "party"):
        make_file(folder / name, age=2 * HOUR)
    make_file(folder / "going-on.mp4.part", age=HOUR / 2)

    done = clean(folder, partial=True)

    assert counts(done) == (4, 4)
    assert names(folder) == {"d.mp4", "party", "going-on.mp4.part"}


def test_partial_comes_on_top_of_other_rules(clean: Clean, folder: Path) -> None:
    make_file(folder / "old.mp4", age=9 * DAY)
    make_file(folder / "new.mp4", age=DAY)
    make_file(folder / "new.mp4.part", age=DAY)

    clean(folder, partial=True, older_than="7d")

    assert names(folder) == {"new.mp4"}


def test_with_keep_last_partial_deletes_no_whole_file(clean: Clean, folder: Path) -> None:
    make_file(folder / "a.mp4", age=DAY)
    make_file(folder / "b.mp4", age=DAY)
    make_file(folder / "a.mp4.part", age=DAY)

    clean(folder, partial=True, keep_last=1)

    assert names(folder) == {"a.mp4", "b.mp4"}


def test_the_pattern_may_name_the_whole_download(clean: Clean, folder: Path) -> None:
    make_file(folder / "a.mp4.part", age=DAY)
    make_file(folder / "b.zip.part", age=DAY)

    clean(folder, partial=True, pattern="*.mp4")

    assert names(folder) == {"b.zip.part"}


@pytest.mark.parametrize("rule", [{"older_than": "1m"}, {"max_total_size": 0}, {"keep_last": 1}])
def test_no_rule_deletes_a_download_that_goes_on(
    clean: Clean, folder: Path, rule: dict[str, Any]
) -> None:
    make_file(folder / "a.part", age=HOUR / 2)
    make_file(folder / "b.part", age=HOUR / 2)

    clean(folder, **rule)

    assert names(folder) == {"a.part", "b.part"}


# -- dry runs, errors, odd names ---------------------------------------------------------------


def test_a_dry_run_changes_nothing(clean: Clean, folder: Path) -> None:
    make_file(folder / "old", age=DAY, size=7)
    make_file(folder / "old.part", age=DAY, size=3)

    done = clean(folder, older_than="1h", partial=True, dry_run=True)

    assert counts(done) == (2, 10)
    assert done.result["dry_run"] is True
    assert sorted(done.stdout.splitlines()) == [
        f"would delete '{folder}/old' (7 bytes)",
        f"would delete '{folder}/old.part' (3 bytes)",
    ]
    assert names(folder) == {"old", "old.part"}


def test_odd_names(clean: Clean, folder: Path) -> None:
    odd = ["-rf", "a\nb", "🎬 Grüße", " ", "*", os.fsdecode(b"\xff\xfe"), "'", "a" * 255]
    for name in odd:
        make_file(folder / name, age=DAY)
    make_file(folder / "-d\n/x", age=DAY)

    done = clean(folder, older_than="1h")

    assert counts(done) == (len(odd) + 1, len(odd) + 1)
    assert names(folder) == set()
    assert len(done.log.splitlines()) == len(odd) + 1
    done.log.encode()


def test_a_file_that_cannot_be_deleted_is_reported_and_others_go(
    clean: Clean, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        make_file(folder / f"stuck-{number}", age=DAY)
    make_file(folder / "x/free", age=DAY)
    unlink = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name.startswith("stuck"):
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    done = clean(folder, older_than="1h")

    assert done.error is None
    assert (done.result["files_deleted"], done.result["error_count"]) == (1, 30)
    assert len(done.result["errors"]) == 20
    assert f"not deleted: '{folder}/stuck-7': Operation not permitted\n" in done.log
    assert done.log.count("not deleted: ") == 30
    assert set(done.result["errors"]) < {
        f"'{folder}/stuck-{number}': Operation not permitted" for number in range(30)
    }


def test_progress_is_shown(clean: Clean, folder: Path) -> None:
    make_file(folder / "a", age=DAY)
    make_file(folder / "b", age=DAY)

    last = clean(folder, older_than="1h").progress[-1]

    assert (last.done, last.total, last.message) == (2, 2, "files")


# -- links, and what changes meanwhile ---------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    make_file(path / "precious", age=9 * DAY)
    return path


def test_links_are_left_alone_and_not_followed(clean: Clean, folder: Path, outside: Path) -> None:
    (folder / "file").symlink_to(outside / "precious")
    (folder / "directory").symlink_to(outside)
    (folder / "dangling").symlink_to(outside / "nothing")
    os.mkfifo(folder / "fifo")

    assert counts(clean(folder, max_total_size=0)) == (0, 0)

    assert names(folder) == {"file", "directory", "dangling", "fifo"}
    assert names(outside) == {"precious"}


def test_a_link_in_place_of_the_directory_is_refused(
    clean: Clean, folder: Path, outside: Path
) -> None:
    (folder / "link").symlink_to(outside)

    done = clean(folder / "link", older_than="1h")

    assert isinstance(done.error, Permanent)
    assert "a symbolic link" in str(done.error)
    assert names(outside) == {"precious"}


def before_deletion(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]
) -> None:
    """Let something happen after the files to delete are chosen."""
    choose = module._chosen

    def chosen(*args: Any) -> Any:
        found = choose(*args)
        change()
        return found

    monkeypatch.setattr(module, "_chosen", chosen)


def test_a_directory_swapped_for_a_link_leads_nowhere(
    clean: Clean,
    folder: Path,
    outside: Path,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_file(folder / "a/precious", age=9 * DAY)

    def swap() -> None:
        (folder / "a").rename(folder / "b")
        (folder / "a").symlink_to(outside)

    before_deletion(module, monkeypatch, swap)
    done = clean(folder, older_than="1h")

    assert done.result["files_deleted"] == 0
    assert done.result["errors"] == [f"'{folder}/a': Not a directory"]
    assert names(outside) == {"precious"}
    assert names(folder) == {"a", "b/precious"}


def test_the_given_directory_is_held_when_its_name_is_taken(
    clean: Clean,
    folder: Path,
    outside: Path,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_file(folder / "precious", age=9 * DAY)

    def swap() -> None:
        folder.rename(folder.with_name("moved"))
        folder.symlink_to(outside)

    before_deletion(module, monkeypatch, swap)
    clean(folder, older_than="1h")

    assert names(outside) == {"precious"}
    assert names(folder.with_name("moved")) == set()


def test_a_file_written_to_meanwhile_is_kept(
    clean: Clean, folder: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = make_file(folder / "written", age=DAY)
    gone = make_file(folder / "gone", age=DAY)

    def change() -> None:
        make_file(written)
        gone.unlink()

    before_deletion(module, monkeypatch, change)

    assert counts(clean(folder, older_than="1h")) == (0, 0)
    assert names(folder) == {"written"}


def test_paths_longer_than_the_system_takes(clean: Clean, folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        above, here = here, os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(above)
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, b"12345")
    os.close(file)

    assert counts(clean(folder, max_total_size=4)) == (1, 5)
    assert os.listdir(here) == []  # noqa: PTH208 - no path leads there
    os.close(here)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"older_than": "3 bananas"}, "is not a duration"),
        ({"older_than": ""}, "is not a duration"),
        ({"older_than": True}, "'older_than'"),
        ({"max_total_size": "10 bananas"}, "not a size"),
        ({"max_total_size": -1}, "not a size"),
        ({"max_total_size": True}, "'max_total_size"),
        ({"keep_last": -1}, "'keep_last'"),
        ({"older_than": "1d", "pattern": ""}, "'pattern'"),
        ({"older_than": "1d", "pattern": "a/*"}, "'pattern'"),
        ({"older_than": "1d", "status": ["running"]}, "'status.0'"),
        ({"older_than": "1d", "status": []}, "'status'"),
        ({}, "this would delete every file"),
        ({"keep_last": 0}, "this would delete every file"),
        ({"pattern": "*.mp4"}, "this would delete every file"),
        ({"directories": [], "partial": True}, "give the directories"),
        ({"directories": [], "max_total_size": "1G"}, "give the directories"),
        ({"directories": [], "jobs": False}, "give the directories"),
        ({"directories": ["relative"], "older_than": "1d"}, "absolute path"),
        ({"directories": ["/"], "older_than": "1d"}, "home directory"),
        ({"directories": ["/x", "/x/y"], "older_than": "1d"}, "overlap"),
        ({"directories": ["/x", "/x/"], "older_than": "1d"}, "overlap"),
    ],
)
def test_arguments_that_are_refused(
    workers: dict[str, type[JobWorker]], args: dict[str, Any], why: str
) -> None:
    with pytest.raises(ArgsError, match=why):
        run(workers["cleanup"], {"directories": ["/nowhere"], **args})


def test_home_and_what_it_is_in_are_refused(
    workers: dict[str, type[JobWorker]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home/me"))

    for path in (tmp_path, tmp_path / "home", tmp_path / "home/me"):
        with pytest.raises(ArgsError, match="home directory"):
            run(workers["cleanup"], {"directories": [str(path)], "older_than": "1d"})


def test_home_by_another_way_is_refused(
    clean: Clean, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(folder / "me/precious", age=9 * DAY)
    make_file(folder / "other/x", age=9 * DAY)
    monkeypatch.setenv("HOME", str(folder / "me"))

    done = clean(folder / "other" / ".." / "me", older_than="1d")

    assert isinstance(done.error, Permanent)
    assert "the home directory" in str(done.error)
    assert names(folder) == {"me/precious", "other/x"}


def test_what_is_no_directory_is_refused_before_anything_is_deleted(
    clean: Clean, folder: Path
) -> None:
    make_file(folder / "a/old", age=9 * DAY)
    make_file(folder / "file", age=9 * DAY)

    for other, why in (("file", "Not a directory"), ("gone", "No such file or directory")):
        done = clean(folder / "a", folder / other, older_than="1d")

        assert isinstance(done.error, Permanent)
        assert str(done.error) == f"'{folder}/{other}': {why}"
    assert names(folder) == {"a/old", "file"}


def test_the_queues_own_files_are_left_alone(clean: Clean, queue: JobQueue, tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_file(project / "downloads/old", age=9 * DAY)
    make_file(queue.settings.log_dir / "jobs/1/stdout.log", age=9 * DAY)
    make_file(queue.settings.database.parent / "other", age=9 * DAY)
    before = names(project)

    done = clean(project, older_than="1d", jobs=False)

    assert counts(done) == (1, 1)
    assert names(project) == before - {"downloads/old"}
    refused = clean(queue.settings.database.parent, older_than="1d")
    assert isinstance(refused.error, Permanent)


def test_a_user_without_a_home_can_clean_up(
    clean: Clean, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    make_file(folder / "old", age=31 * DAY, size=10)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", missing)
    assert counts(clean(folder, older_than="30d")) == (1, 10)
