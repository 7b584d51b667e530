"""Orphans: processes of others that are left to a supervisor that is init, as in a container."""

import ctypes
import os
import sys
from collections.abc import Collection
from contextlib import suppress

from jobq.system.processes import zombies_of

_PR_GET_CHILD_SUBREAPER = 37


class OrphanReaper:
    """Waits for dead processes that this one has not started, and that nothing else waits for."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.is_needed = os.getpid() == 1 or _is_subreaper()
        """True if orphans become children of this process."""

    def reap(self, own: Collection[int]) -> None:
        """Wait for those that were dead at the last call already, and are none of ``own``.

        Whatever this process has started itself, in a thread for example, is waited for sooner.
        """
        zombies = zombies_of(os.getpid()) - set(own)
        for pid in zombies & self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies


def _is_subreaper() -> bool:
    answer = ctypes.c_int(0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)
