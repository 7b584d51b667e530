"""Liveness locks of supervisors, and the FIFOs that wake them."""

import fcntl
import os
import stat
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobq.backends.liveness import LivenessLocks
from jobq.errors import DatabaseError


def test_who_looks_whether_a_supervisor_is_alive_does_not_keep_it_from_starting(
    tmp_path: Path,
) -> None:
    looked_at = (tmp_path / "me.lock").open("w")
    fcntl.flock(looked_at, fcntl.LOCK_SH)  # as `LivenessLocks.live` does, for a moment
    threading.Timer(0.1, looked_at.close).start()
    presence = LivenessLocks(tmp_path)
    listener = presence.announce("me")
    assert presence.live() == {"me"}
    listener.close()


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "a link to a file": lambda wake, precious: wake.symlink_to(precious),
    "a link to nothing": lambda wake, precious: wake.symlink_to(precious.parent / "new"),
    "a link to a FIFO": lambda wake, precious: wake.symlink_to(precious.parent / "fifo"),
    "a hard link": lambda wake, precious: os.link(precious, wake),
    "a file": lambda wake, _: wake.write_text("precious"),
    "a directory": lambda wake, _: wake.mkdir(),
    "a full device": lambda wake, _: os.mknod(wake, 0o600 | stat.S_IFCHR, os.makedev(1, 7)),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_nothing_but_a_fifo_is_written_to_and_others_are_woken_all_the_same(
    tmp_path: Path, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.mkfifo(tmp_path / "fifo")
    locks = LivenessLocks(tmp_path / "supervisors")
    with closing(locks.announce("b")) as listener, closing(locks.announce("z")) as last:
        try:
            PLANTED[kind](locks.directory / "k.wake", precious)
        except PermissionError:
            pytest.skip("needs the right to make a device")
        with pytest.warns(UserWarning, match=r"k\.wake: .*: no supervisor can be woken there"):
            locks.wake()
        for each in (listener, last):
            assert os.read(each.fileno(), 10) == b"!"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            locks.wake()  # the change that it follows is stored: nothing is raised
    assert precious.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "precious", "supervisors"]


def test_a_fifo_of_another_user_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = LivenessLocks(tmp_path)
    with closing(locks.announce("one")) as listener:
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
        os.chown(tmp_path, 1234, -1)
        os.chown(tmp_path / "one.wake", 4321, -1)
        with pytest.warns(UserWarning, match=r"one\.wake: not a FIFO of this user"):
            locks.wake()
        with pytest.raises(BlockingIOError):
            os.read(listener.fileno(), 10)


def test_a_link_in_the_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "one.lock").touch()
    os.mkfifo(elsewhere / "one.wake")
    (tmp_path / "supervisors").symlink_to(elsewhere)
    locks = LivenessLocks(tmp_path / "supervisors")
    with pytest.warns(UserWarning, match="supervisors"):
        locks.wake()
    assert (locks.announced(), locks.live(), locks.dead(["one"])) == (set(), set(), set())
    with pytest.raises(DatabaseError, match="make it a directory that you own"):
        locks.announce("two")
    locks.forget(["one"])
    assert sorted(path.name for path in elsewhere.iterdir()) == ["one.lock", "one.wake"]


@pytest.mark.parametrize("kind", ["a link", "a FIFO", "a directory"])
def test_nothing_but_a_file_is_a_lock(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").touch()
    folder = tmp_path / "supervisors"
    folder.mkdir()
    lock = folder / "one.lock"
    if kind == "a link":
        lock.symlink_to(tmp_path / "elsewhere")
    elif kind == "a FIFO":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    assert LivenessLocks(folder).dead(["one"]) == set()
