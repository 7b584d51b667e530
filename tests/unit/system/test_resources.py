"""Resources of the host: what it lacks, and threads without room for one."""

import asyncio
import errno
import os
import threading

import pytest

from jobq.system.resources import in_thread, shortage_of, start_thread


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
            "Resource temporarily unavailable: end some processes, or raise their limit (ulimit -u)",
        ),
        (OSError(errno.ENOSPC, "full", "/logs"), "/logs: full: free some disk space"),
        (MemoryError(), "out of memory: free some memory"),
        (OSError(errno.ENOENT, "no such file"), None),
        (OSError(errno.EIO, "broken"), None),
    ],
)
def test_a_shortage_comes_with_a_remedy(error: OSError | MemoryError, found: str | None) -> None:
    assert shortage_of(error) == found


def test_a_disk_that_fails_is_a_shortage_where_it_is_jobq_s_own() -> None:
    assert shortage_of(OSError(errno.EROFS, "read-only"), disk=True) == "read-only: see to the disk"


def fail(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("room", [True, False])
def test_a_call_is_made_although_there_is_no_room_for_a_thread(
    monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    if not room:
        monkeypatch.setattr(threading.Thread, "start", fail)
        assert not start_thread(threading.Thread())
    made_in = asyncio.run(in_thread(threading.get_ident))
    assert (made_in != threading.get_ident()) is room

    def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_thread(refuse))
