"""Commands: how they are started, with what, and how they fail to start."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from jobq import JobQueue
from jobq.execution.commands import COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND, Commands
from jobq.execution.run import Run
from jobq.jobs.outcome import Exit
from jobq.models import Outcome
from tests.support.runs import Noted, claim_shell

ENVIRONMENT = {"PATH": os.environ["PATH"], "INHERITED": "yes", "OVERRIDDEN": "no"}


def run_to_its_end(run: Run) -> Exit:
    noted = Noted()
    commands = Commands(ENVIRONMENT, noted)

    async def wait() -> None:
        commands.start(run)
        while not noted.ends:
            commands.reap()
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(wait(), 20))
    assert noted.begun == noted.ended == [run]
    return noted.ends[0][1]


def output(run: Run, name: str = "stdout.log") -> str:
    return (run.log.path / name).read_text()


def test_a_command_gets_its_own_files_marks_and_variables(queue: JobQueue) -> None:
    run = claim_shell(queue, "env", env={"OVERRIDDEN": "yes"})
    end = run_to_its_end(run)
    assert (end.outcome, end.exit_code) == (Outcome.COMPLETED, 0)
    variables = dict(line.split("=", 1) for line in output(run).splitlines())
    assert variables["INHERITED"] == variables["OVERRIDDEN"] == "yes"
    assert {name: value for name, value in variables.items() if name.startswith("JOBQ_")} == {
        "JOBQ_SUPERVISOR": run.claim.owner,
        "JOBQ_JOB_ID": str(run.claim.job.id),
        "JOBQ_ATTEMPT": "1",
        "JOBQ_LOG_DIR": str(run.log.path),
        "JOBQ_PROGRESS": str(run.log.path / "progress"),
    }


def test_a_command_leads_a_session(queue: JobQueue) -> None:
    run = claim_shell(queue, "ps", "-o", "sid=", "-p", str(os.getpid()))
    run_to_its_end(run)
    theirs = int(output(run))
    run = claim_shell(queue, "sh", "-c", "ps -o sid= -p $$")
    run_to_its_end(run)
    assert int(output(run)) == run.pid != theirs


def test_the_last_line_of_stderr_goes_with_a_failure(queue: JobQueue) -> None:
    end = run_to_its_end(claim_shell(queue, "sh", "-c", "echo first >&2; echo last >&2; exit 3"))
    assert (end.outcome, end.exit_code, end.error) == (Outcome.FAILED, 3, "exit code 3: last")
    end = run_to_its_end(claim_shell(queue, "sh", "-c", "kill -9 $$"))
    assert (end.outcome, end.signal, end.error) == (Outcome.CRASHED, 9, "killed by SIGKILL")
    assert end.usage is not None


@pytest.mark.parametrize(
    ("argv", "args", "code", "error"),
    [
        (["/no/such"], {}, COMMAND_NOT_FOUND, "/no/such: command not found"),
        (["/etc/passwd"], {}, COMMAND_NOT_EXECUTABLE, "/etc/passwd: Permission denied"),
        (["true"], {"cwd": "/no/such"}, None, "/no/such: No such file or directory"),
        (["true"], {"stdin": "/no/such"}, None, "/no/such: No such file or directory"),
    ],
)
def test_what_can_not_be_started_fails_for_good(
    queue: JobQueue, argv: list[str], args: dict[str, object], code: int | None, error: str
) -> None:
    end = run_to_its_end(claim_shell(queue, *argv, **args))
    assert (end.outcome, end.exit_code, end.error) == (Outcome.FAILED, code, error)
    assert not end.retryable


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory", "/bin/true"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__ if error.args == () else errno.errorcode[error.errno],
)
def test_what_the_host_is_short_of_is_no_end_of_the_job(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    run = claim_shell(queue, "true")
    monkeypatch.setattr("subprocess.Popen", refuse)
    noted = Noted()
    Commands(ENVIRONMENT, noted).start(run)
    ((short, reason),) = noted.short
    assert (short, noted.ends) == (run, [])
    assert reason.split(": ")[-1].startswith(("end some", "free some", "close some"))


def test_a_fifo_without_a_writer_holds_up_no_other_job(queue: JobQueue, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    end = run_to_its_end(claim_shell(queue, "cat", stdin=str(tmp_path / "fifo")))
    assert end.outcome is Outcome.COMPLETED
