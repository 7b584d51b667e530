"""Commands that run where permissions count even for root, or where something is mounted."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

NEEDS_PERMISSIONS = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="root may read and write everything: needs setpriv",
)


def _can_mount() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*_MOUNTING, "true"], capture_output=True, check=False).returncode == 0


_MOUNTING = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
NEEDS_MOUNTS = pytest.mark.skipif(not _can_mount(), reason="needs the right to mount")


def bound_by_permissions(
    *command: str, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user for whom permissions count, even if that is root."""
    limits = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return _run([*(limits if os.geteuid() == 0 else ()), *command], cwd)


def with_mounts(
    mounts: Sequence[Sequence[str | Path]], *command: str, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command after ``mount`` with each of these arguments, which only it sees."""
    script = "\n".join(
        f"mount {' '.join(shlex.quote(str(word)) for word in mount)} || exit 99" for mount in mounts
    )
    return _run([*_MOUNTING, "sh", "-c", f'{script}\nexec "$@"', "sh", *command], cwd)


def _run(command: Sequence[str], cwd: Path | None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
