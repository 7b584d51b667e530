"""Trees that jobs leave, however odd: they are deleted and measured, and what stays is named."""

import os
import resource
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq.system.directory_tree import delete_tree, disk_usage
from tests.support.restricted import (
    NEEDS_MOUNTS,
    NEEDS_PERMISSIONS,
    bound_by_permissions,
    with_mounts,
)

FLAGS = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """The open directory that the trees are in."""
    (tmp_path / "top").mkdir()
    descriptor = os.open(tmp_path / "top", FLAGS)
    yield descriptor
    os.close(descriptor)


def delete(top: int, name: str = "tree") -> None:
    for _ in delete_tree(top, name, Path("/top")):
        pass


def nest(top: int, depth: int, name: str = "d") -> None:
    """Make a tree of directories one in the other, each with a file."""
    os.mkdir("tree", dir_fd=top)
    here = os.open("tree", FLAGS, dir_fd=top)
    for _ in range(depth):
        put(here, "file", b"x" * 5000)
        os.mkdir(name, dir_fd=here)
        below = os.open(name, FLAGS, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def put(folder: int, name: str, content: bytes = b"x") -> None:
    file = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=folder)
    os.write(file, content)
    os.close(file)


@pytest.mark.parametrize("name", ["d", "d" * 250])
def test_a_tree_deeper_than_the_stack_and_than_files_may_be_open(top: int, name: str) -> None:
    depth = 2 * sys.getrecursionlimit()
    nest(top, depth, name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.dup(top)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 9, hard))
    try:
        assert disk_usage(top, set()) >= depth * 5000
        delete(top)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir(top) == []


def test_names_that_are_not_text_and_links_that_lead_round_in_a_circle(
    top: int, tmp_path: Path
) -> None:
    tree = tmp_path / "top" / "tree"
    (tree / os.fsdecode(b"\xff\n")).mkdir(parents=True)
    (tree / os.fsdecode(b"\xff\n") / "up").symlink_to("..")
    (tree / "itself").symlink_to("itself")
    (tree / "out").symlink_to(tmp_path)
    os.mkfifo(tree / "fifo")
    (tmp_path / "precious").touch()
    delete(top)
    assert os.listdir(top) == []
    assert (tmp_path / "precious").exists()


def test_a_link_is_deleted_itself_and_what_is_not_there_is_no_error(
    top: int, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "top" / "tree").symlink_to(tmp_path / "other")
    delete(top)
    delete(top)
    assert os.listdir(top) == []
    assert (tmp_path / "other").is_dir()


def test_many_files_are_deleted_in_steps(top: int, tmp_path: Path) -> None:
    tree = tmp_path / "top" / "tree"
    tree.mkdir()
    for number in range(2000):
        (tree / str(number)).touch()
    steps = delete_tree(top, "tree", tmp_path)
    for _ in range(3):
        next(steps)
    assert 0 < len(list(tree.iterdir())) < 2000
    for _ in steps:
        pass
    assert os.listdir(top) == []


def test_what_vanishes_meanwhile_is_no_error(top: int, tmp_path: Path) -> None:
    nest(top, 5)
    steps = delete_tree(top, "tree", tmp_path)
    next(steps)
    delete(top)
    for _ in steps:
        pass
    assert os.listdir(top) == []


def test_what_is_added_meanwhile_goes_too(top: int, tmp_path: Path) -> None:
    nest(top, 3)
    for number, _ in enumerate(delete_tree(top, "tree", tmp_path)):
        if number < 3:
            (tmp_path / "top" / "tree" / f"new-{number}").mkdir()
    assert os.listdir(top) == []


def test_a_directory_that_is_moved_away_meanwhile_is_left_alone(top: int, tmp_path: Path) -> None:
    nest(top, 4)
    steps = delete_tree(top, "tree", tmp_path)
    for _ in range(3):
        next(steps)  # it is in tree/d now
    (tmp_path / "top/tree/d").rename(tmp_path / "moved")
    for _ in steps:
        pass
    assert os.listdir(top) == []


PROGRAM = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from jobq.system.directory_tree import delete_tree, disk_usage
    top = os.open(sys.argv[1], os.O_RDONLY)
    print(disk_usage(top, set()))
    try:
        for _ in delete_tree(top, "tree", Path("/top")):
            pass
    except OSError as error:
        print(error)
""")


@NEEDS_PERMISSIONS
@pytest.mark.parametrize("mode", [0, 0o100, 0o400, 0o500, 0o600])
def test_directories_without_permissions_are_deleted(tmp_path: Path, mode: int) -> None:
    (tmp_path / "top/tree/a/b/c").mkdir(parents=True)
    (tmp_path / "top/tree/a/b/file").touch()
    (tmp_path / "top/tree/a/b").chmod(mode)
    (tmp_path / "top/tree/a").chmod(mode)
    done = bound_by_permissions(sys.executable, "-c", PROGRAM, str(tmp_path / "top"))
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert not (tmp_path / "top/tree").exists()


@NEEDS_MOUNTS
@pytest.mark.parametrize("bind", [True, False])
def test_what_is_mounted_stays_and_everything_else_goes(tmp_path: Path, bind: bool) -> None:
    library, point = tmp_path / "library", tmp_path / "top/tree/a/mounted"
    library.mkdir()
    (library / "film.mkv").write_bytes(b"x" * 100_000)
    point.mkdir(parents=True)
    (tmp_path / "top/tree/b").mkdir()
    (tmp_path / "top/tree/b/file").touch()
    (tmp_path / "top/tree/file").touch()
    mount: list[str | Path] = ["--bind", library, point] if bind else ["-t", "tmpfs", "none", point]
    done = with_mounts([mount], sys.executable, "-c", PROGRAM, str(tmp_path / "top"))
    assert done.stdout.splitlines()[1:] == [
        "[Errno 16] Device or resource busy: '/top/tree/a/mounted'"
    ], done
    assert (library / "film.mkv").exists()
    assert list((tmp_path / "top/tree").iterdir()) == [point.parent]


def test_the_error_of_a_deep_place_is_short_and_one_directory_of_each_level_stays(
    top: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nest(top, 1500)
    unlink, calls = os.unlink, []

    def refuse_the_last(name: str, *, dir_fd: int) -> None:
        calls.append(name)
        if len(calls) == 1500:
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse_the_last)
    with pytest.raises(
        PermissionError, match=r"not permitted: '/top/tree/d/.*…d?/d/.*/file'"
    ) as got:
        delete(top)
    assert len(str(got.value)) < 300
    assert list((tmp_path / "top/tree").iterdir()) == [tmp_path / "top/tree/d"]
    delete(top)
    assert not (tmp_path / "top/tree").exists()


def test_a_file_with_several_names_is_measured_once(top: int, tmp_path: Path) -> None:
    tree = tmp_path / "top/tree"
    (tree / "below").mkdir(parents=True)
    (tree / "one").write_bytes(b"x" * 100_000)
    (tree / "below/other").hardlink_to(tree / "one")
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert 100_000 <= disk_usage(top, set()) < 200_000
