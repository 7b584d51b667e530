"""`cleanup`: what files count, and what is said to be freed: that which deleting them frees."""

import os
from pathlib import Path

import pytest

from tests.support.workers import DAY, Clean, make_file

MB = 1_000_000


def make_sparse(path: Path, size: int, *, data: bytes = b"") -> Path:
    make_file(path)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    return path


def test_a_file_with_two_names_counts_once(clean: Clean, folder: Path) -> None:
    make_file(folder / "a", age=DAY, size=MB)
    (folder / "b").hardlink_to(folder / "a")

    done = clean(folder, max_total_size="1.5M")

    assert (done.result["files_deleted"], done.result["bytes_freed"]) == (0, 0)
    assert {path.name for path in folder.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("dry_run", [False, True])
def test_all_names_of_a_file_go_and_its_space_is_counted_with_the_last(
    clean: Clean, folder: Path, dry_run: bool
) -> None:
    old = make_file(folder / "old", age=2 * DAY, size=MB)
    (folder / "below").mkdir()
    (folder / "below" / "other").hardlink_to(old)
    make_file(folder / "new", age=DAY, size=MB)

    done = clean(folder, max_total_size="1.5M", dry_run=dry_run)

    assert (done.result["files_deleted"], done.result["bytes_freed"]) == (2, MB)
    said = done.stdout if dry_run else done.log
    assert "(0 bytes: it has another name)\n" in said
    assert f"({MB} bytes)\n" in said
    left = {"old", "new", "other"} if dry_run else {"new"}
    assert {path.name for path in folder.rglob("*") if path.is_file()} == left


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_file_with_a_name_elsewhere_counts_nothing_and_goes_only_by_age(
    clean: Clean, folder: Path, tmp_path: Path, dry_run: bool
) -> None:
    make_file(tmp_path / "library", age=3 * DAY, size=MB)
    (folder / "seeded").hardlink_to(tmp_path / "library")
    make_file(folder / "new", age=DAY, size=MB)

    done = clean(folder, max_total_size="1.5M", dry_run=dry_run)
    assert (done.result["files_deleted"], done.result["bytes_freed"]) == (0, 0)
    done = clean(folder, max_total_size=0, dry_run=True)
    assert (done.result["files_deleted"], done.result["bytes_freed"]) == (1, MB)
    done = clean(folder, older_than="2d", dry_run=dry_run)
    assert (done.result["files_deleted"], done.result["bytes_freed"]) == (1, 0)
    assert (tmp_path / "library").exists()


def test_names_that_do_not_match_keep_the_space(clean: Clean, folder: Path) -> None:
    make_file(folder / "a.mp4", age=DAY, size=MB)
    (folder / "a.backup").hardlink_to(folder / "a.mp4")

    done = clean(folder, max_total_size=0, pattern="*.mp4")

    assert (done.result["files_deleted"], done.result["bytes_freed"]) == (0, 0)


def test_the_newest_files_are_counted_not_their_names(clean: Clean, folder: Path) -> None:
    make_file(folder / "new", age=DAY)
    (folder / "another").hardlink_to(folder / "new")
    make_file(folder / "old", age=2 * DAY)

    clean(folder, keep_last=1)

    assert {path.name for path in folder.iterdir()} == {"new", "another"}


def test_holes_count_nothing(clean: Clean, folder: Path) -> None:
    make_sparse(folder / "image", 1 << 40)
    make_sparse(folder / "disk", 1 << 40, data=b"x" * 100_000)
    os.utime(folder / "image", (0, 0))
    make_file(folder / "new", size=1000)

    assert clean(folder, max_total_size="1M").result["files_deleted"] == 0
    done = clean(folder, keep_last=0, older_than="0s")
    assert 101_000 <= done.result["bytes_freed"] < 200_000
