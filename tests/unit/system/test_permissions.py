"""Files and directories are for their owner alone, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq.system.permissions import make_directory, open_file


@pytest.fixture(params=[0, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_directory_and_its_missing_parents_are_private(tmp_path: Path) -> None:
    before = mode_of(tmp_path)
    make_directory(tmp_path / "a" / "b" / "c")
    make_directory(tmp_path / "a" / "b" / "c")
    for name in ("a", "a/b", "a/b/c"):
        assert mode_of(tmp_path / name) == 0o700
    assert mode_of(tmp_path) == before


@pytest.mark.usefixtures("umask")
def test_a_new_file_is_private_and_can_be_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        os.close(open_file(tmp_path / "file", os.O_CREAT | os.O_WRONLY))
        assert mode_of(tmp_path / "file") == 0o600


def test_a_file_that_others_may_read_stays_so(tmp_path: Path) -> None:
    """Permissions that a user has given are the user's business."""
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o644)
    os.close(open_file(tmp_path / "file", os.O_CREAT | os.O_WRONLY))
    assert mode_of(tmp_path / "file") == 0o644


def test_a_file_is_not_inherited_by_programs(tmp_path: Path) -> None:
    descriptor = open_file(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        make_directory(tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "file" / "below")
