"""A command that ends before it has begun: a Ctrl-C while it starts, or too few files."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.slow

INTERRUPTED_AT = """
import os, signal, sys
MODULE = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from jobq.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module",
    ["jobq.cli", "jobq.cli.main", "jobq.errors", "jobq.models", "jobq.cli.commands.run",
     "jobq.queue", "jobq.execution.supervisor", "asyncio", "jobq.backends.sqlite.backend"],
)  # fmt: skip
def test_a_ctrl_c_at_any_import_prints_nothing(project: Project, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, module, "run", "--", "true"],
        cwd=project.root,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it may be ignored here
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["list"], ["add", "--", "true"], ["run", "--", "true"]])
def test_with_too_few_files_there_is_one_line(project: Project, words: list[str]) -> None:
    project.shell("true")
    for most in range(4, 22, 2):

        def limit(most: int = most) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

        done = subprocess.run(
            [sys.executable, "-m", "jobq", *words],
            cwd=project.root,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            preexec_fn=limit,
        )
        if "jobq" not in done.stderr.partition("\n")[0]:
            assert done.returncode == 0 or is_of_python(done.stderr), done.stderr
        elif done.returncode:
            assert len(done.stderr.splitlines()) == 1, done.stderr


def is_of_python(text: str) -> bool:
    """Return whether Python itself could not start."""
    return str(Path(__file__).parents[2] / "jobq") not in text
