"""Calls of `run`: what comes back, and what an exception means."""

from typing import Any

import pytest
from pydantic import BaseModel

from jobq import Cancelled, JobWorker, Permanent, RetryAfter, Snooze
from jobq.errors import ArgsError
from jobq.execution.children.call import call, jsonable, report_of
from jobq.job_types.worker import JobContext
from jobq.job_types.worker_files import PROJECT
from jobq.limits import DROPPED_KEY, MAX_ERROR_CHARS
from jobq.models import Outcome


class Plain(JobWorker):
    job_type = "plain"

    class Args(BaseModel):
        number: int

    def run(self, args: Args, job: JobContext) -> int:
        return args.number + 1


class Async(Plain):
    job_type = "async"

    async def run(self, args: Plain.Args, job: JobContext) -> int:  # type: ignore[override]
        return args.number + 2


@pytest.mark.parametrize(("worker", "result"), [(Plain, 2), (Async, 3)])
def test_run_may_be_plain_or_async(worker: type[JobWorker], result: int) -> None:
    assert call(worker, Plain.Args(number=1), None) == result  # type: ignore[arg-type]


def test_a_result_is_what_json_can_hold() -> None:
    assert jsonable({"a": (1, {2}), "model": Plain.Args(number=1)}) == {
        "a": [1, [2]],
        "model": {"number": 1},
    }
    assert DROPPED_KEY in jsonable("x" * 2_000_000)


@pytest.mark.parametrize("result", [object(), {"nan": object}])
def test_a_result_that_json_can_not_hold_fails_for_good(result: object) -> None:
    with pytest.raises(Permanent, match="what JSON can't hold"):
        jsonable(result)


@pytest.mark.parametrize(
    ("error", "report"),
    [
        (Cancelled(), {"outcome": Outcome.CANCELLED}),
        (Cancelled("why"), {"outcome": Outcome.CANCELLED, "reason": "why"}),
        (BaseExceptionGroup("", [Cancelled()]), {"outcome": Outcome.CANCELLED}),
        (Permanent(), {"outcome": Outcome.FAILED, "retryable": False, "error": "Permanent"}),
        (Snooze(5, ""), {"outcome": Outcome.SNOOZED, "delay": 5, "error": "Snooze"}),
        (ValueError(), {"outcome": Outcome.FAILED, "error": "ValueError"}),
        (Snooze(5, "later"), {"outcome": Outcome.SNOOZED, "delay": 5, "error": "later"}),
        (RetryAfter(5, "busy"), {"outcome": Outcome.FAILED, "delay": 5, "error": "busy"}),
        (Permanent("no"), {"outcome": Outcome.FAILED, "retryable": False, "error": "no"}),
        (ArgsError("no"), {"outcome": Outcome.FAILED, "retryable": False, "error": "no"}),
        (SystemExit(), {"outcome": Outcome.COMPLETED}),
        (SystemExit(0), {"outcome": Outcome.COMPLETED}),
        (SystemExit(3), {"outcome": Outcome.FAILED, "error": "SystemExit: 3"}),
        (ValueError("no"), {"outcome": Outcome.FAILED, "error": "ValueError: no"}),
    ],
)
def test_what_an_exception_means(error: BaseException, report: dict[str, object]) -> None:
    assert report_of(error) == report


def test_an_error_is_bounded_and_may_have_no_text() -> None:
    assert len(report_of(ValueError("x" * 100_000))["error"]) < MAX_ERROR_CHARS + 100

    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert report_of(UnprintableError())["error"] == ("UnprintableError: (its text can't be shown)")


def test_a_traceback_begins_with_the_code_of_the_worker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Fails(Plain):
        job_type = "fails"

        def run(self, args: Plain.Args, job: JobContext) -> int:
            raise ValueError("here")

    try:
        call(Fails, None, None)  # type: ignore[arg-type]
    except ValueError as error:
        report_of(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
    shown = capsys.readouterr().err
    assert "in run" in shown
    assert shown.count('File "') == 1


def test_a_failure_names_the_last_function_in_worker_files() -> None:
    scope: dict[str, Any] = {"__name__": f"{PROJECT}0.fetch", "int": int}
    source = "class Fetch:\n def run(self):\n  self.parse()\n def parse(self):\n  int('x')\n"
    exec(compile(source, "/workers/fetch.py", "exec"), scope)
    with pytest.raises(ValueError, match="invalid") as caught:
        scope["Fetch"]().run()
    assert report_of(caught.value)["frame"] == "fetch.py:Fetch.parse"
