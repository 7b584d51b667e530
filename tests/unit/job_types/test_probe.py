import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobq import JobQueue, UsageError
from jobq.job_types.learned import load_project, recall

HELLO = """
from jobq import JobWorker

class Hello(JobWorker):
    job_type = "hello"
    def run(self, args, job): ...
"""


def _with_files(project: Path, **files: str) -> Path:
    (project / "jobq.toml").write_text("[workers]\nimport_timeout = 0.2\n")
    folder = project / "workers"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_file_that_hangs_or_ends_its_process_at_import_is_left_out(project: Path) -> None:
    folder = _with_files(
        project,
        ends="import os; os._exit(0)",
        hello=HELLO,
        loops="while True: pass",
    )
    with JobQueue.open(project / "jobq.toml") as queue:
        assert queue.add("hello").type == "hello"
        ends, hangs = map(str, queue.registry.errors)
        assert ends == f"{folder / 'ends.py'}: does not import: it ends the process that imports it"
        assert hangs.startswith(f"{folder / 'loops.py'}: does not import: not done after 0.2s: ")
        with pytest.raises(UsageError, match=r"loops\.py: does not import"):
            queue.add("no_such_type")
        known = recall(queue.settings)
        assert "hello" in known.types
        assert len(known.errors) == 2
        assert not known.is_current  # the next verb looks again
        for name in ("ends", "loops"):
            (folder / f"{name}.py").unlink()
        assert not load_project(queue.settings).errors
        assert recall(queue.settings).is_current


def test_files_that_have_not_changed_are_imported_here_only(project: Path) -> None:
    folder = _with_files(
        project,
        hello=HELLO
        + f"import os\nwith open({str(project / 'log')!r}, 'a') as log: print(os.getpid(), file=log)",
    )
    with JobQueue.open(project / "jobq.toml") as queue:
        load_project(queue.settings)
        probed, own = (project / "log").read_text().split()
        assert int(probed) != int(own) == os.getpid()
        (folder / "hello.py").touch()
        os.utime(folder / "hello.py", (1, 1))
        assert not recall(queue.settings).is_current


LEAVING = """
import sys
import jobq.__main__ as command

command.EXIT_TIMEOUT_S = 0.1
sys.argv = ["jobq", "add", "hello"]
command.main()
"""


@pytest.mark.parametrize(
    "source",
    [
        "import threading; threading.Thread(target=threading.Event().wait).start()",
        "import atexit, threading; atexit.register(threading.Event().wait)",
    ],
)
def test_what_a_file_begins_at_import_does_not_keep_a_verb_from_its_end(
    project: Path, source: str
) -> None:
    _with_files(project, begins=source, hello=HELLO)
    done = subprocess.run(
        [sys.executable, "-c", LEAVING],
        cwd=project,
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
