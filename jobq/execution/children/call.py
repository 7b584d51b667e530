"""Calls of a worker's `run`, and their outcome: a result, or what an exception means."""

import asyncio
import inspect
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from jobq.errors import ArgsError
from jobq.job_types.worker import Cancelled, JobContext, JobWorker, Permanent, RetryAfter, Snooze
from jobq.limits import MAX_ERROR_CHARS, bounded_result, bounded_text
from jobq.models import Outcome

_OURS = {__file__, str(Path(__file__).with_name("child.py"))}


def call(worker: type[JobWorker], args: Any, context: JobContext) -> Any:
    """Call a worker's `run`, plain or async."""
    result = worker().run(args, context)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return result


def jsonable(result: Any) -> Any:
    """Return a result as JSON can hold it; a note in its place if it is too large.

    Raises:
        Permanent: JSON can't hold it; another attempt would not help.
    """
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return bounded_result(to_jsonable_python(result))
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise Permanent(f"run() returned what JSON can't hold: {error}") from error


def report_of(error: BaseException) -> dict[str, Any]:
    """Return what an exception out of `run` means, as it is reported to the supervisor."""
    try:
        text = bounded_text(str(error), MAX_ERROR_CHARS)
    except Exception:  # noqa: BLE001 - the __str__ of a worker
        text = "(its text can't be shown)"
    match error:
        case Cancelled():
            return {"outcome": Outcome.CANCELLED}
        case Snooze():
            return {"outcome": Outcome.SNOOZED, "delay": error.seconds, "error": text}
        case RetryAfter():
            return {"outcome": Outcome.FAILED, "delay": error.seconds, "error": text}
        case Permanent() | ArgsError():
            return {"outcome": Outcome.FAILED, "retryable": False, "error": text}
        case SystemExit(code=None | 0):
            return {"outcome": Outcome.COMPLETED}
    with suppress(Exception):  # its stderr may be closed, or the disk full
        traceback.print_exception(error.with_traceback(_own_frames(error)))
    return {"outcome": Outcome.FAILED, "error": f"{type(error).__name__}: {text}"}


def _own_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from the worker's code on: its author does not need the rest."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    return trace or error.__traceback__
