"""Another user: root may give files away, and act as anyone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

STRANGER = 54321
"""A user id that no system gives to anyone."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def common() -> Iterator[Path]:
    """A directory that other users can reach, unlike pytest's."""
    with TemporaryDirectory(prefix="jobq-common-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


_AS_USER = """
import encodings.utf_8_sig, importlib.readers, os, pkgutil, sys, jobq
for module in pkgutil.walk_packages(jobq.__path__, "jobq."):  # while they can be read
    if "templates" not in module.name and "_workers" not in module.name:
        importlib.import_module(module.name)
uid = int(sys.argv.pop(1))
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
jobq.__main__.main()
"""


def jobq_as(uid: int, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as another user, who may have no access to this checkout or its Python."""
    return subprocess.run(
        [sys.executable, "-P", "-c", _AS_USER, str(uid), *words],
        cwd=cwd, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, check=False,
    )  # fmt: skip
