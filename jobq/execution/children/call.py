"""Calls of a worker's `run`, and their outcome: a result, or what an exception means."""

import asyncio
import inspect
import os
import traceback
import types
from collections.abc import Coroutine, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from jobq.errors import ArgsError
from jobq.job_types import function
from jobq.job_types.worker import (
    BUNDLED,
    Cancelled,
    JobContext,
    JobWorker,
    Permanent,
    RetryAfter,
    Snooze,
)
from jobq.job_types.worker_files import PROJECT
from jobq.limits import MAX_ERROR_CHARS, bounded_result, bounded_text
from jobq.models import Outcome

_OURS = {__file__, str(Path(__file__).with_name("child.py")), function.__file__}


class Interrupt:
    """Raises `Cancelled` in a `run`: where it is, or in a coroutine where that waits."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._is_due = False

    def deliver(self) -> None:
        """Raise it. Call this in a signal handler.

        Raises:
            Cancelled: the code that was interrupted is that of `run`.
        """
        task = self._task
        if task is None or asyncio.current_task() is task:
            raise Cancelled
        self._is_due = True
        task.get_loop().call_soon_threadsafe(task.cancel)  # it may wait for something else

    async def drive(self, run: Coroutine[Any, Any, Any]) -> Any:
        """Await the coroutine of a `run`."""
        self._task = asyncio.current_task()
        try:
            return await self._driven(run)
        finally:
            self._task = None

    @types.coroutine
    def _driven(self, run: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Pass on all that a coroutine is sent, with `Cancelled` in the place of its cancellation."""
        step = partial(run.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            try:
                step = partial(run.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in is passed on
                step = partial(run.throw, self._translated(error))

    def _translated(self, error: BaseException) -> BaseException:
        if not self._is_due or not isinstance(error, asyncio.CancelledError):
            return error
        self._is_due = False
        if self._task is not None:
            self._task.uncancel()  # what tidies up may wait again
        return Cancelled()


def call(
    worker: type[JobWorker], args: Any, context: JobContext, interrupt: Interrupt | None = None
) -> Any:
    """Call a worker's `run`, plain or async, which can be interrupted."""
    result = worker().run(args, context)
    if inspect.iscoroutine(result):
        return asyncio.run((interrupt or Interrupt()).drive(result))
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
    if isinstance(error, BaseExceptionGroup) and error.split(Cancelled)[1] is None:
        error = Cancelled()  # out of a task group
    try:
        text = bounded_text(str(error), MAX_ERROR_CHARS)
    except Exception:  # noqa: BLE001 - the __str__ of a worker
        text = "(its text can't be shown)"
    is_silent = not text
    text = text or type(error).__name__
    frame = _last_frame(error)
    failed = {"outcome": Outcome.FAILED} | ({"frame": frame} if frame else {})
    match error:
        case Cancelled():
            return {"outcome": Outcome.CANCELLED} | ({} if is_silent else {"reason": text})
        case Snooze():
            return {"outcome": Outcome.SNOOZED, "delay": error.seconds, "error": text}
        case RetryAfter():
            return failed | {"delay": error.seconds, "error": text}
        case Permanent() | ArgsError():
            return failed | {"retryable": False, "error": text}
        case SystemExit(code=None | 0):
            return {"outcome": Outcome.COMPLETED}
    with suppress(Exception):  # its stderr may be closed, or the disk full
        traceback.print_exception(error.with_traceback(_own_frames(error)))
    named = text if is_silent else f"{type(error).__name__}: {text}"
    return failed | {"error": named}


def _last_frame(error: BaseException) -> str | None:
    """Return the file and the function of the last frame in worker files, if there is one."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if frame.f_globals.get("__name__", "").startswith((PROJECT, BUNDLED)):
            code = frame.f_code
            return f"{os.path.basename(code.co_filename)}:{code.co_qualname}"
    return None


def was_awaited(error: BaseException) -> bool:
    """Return whether an exception came out of a coroutine."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is Interrupt.drive.__code__ for frame, _ in frames)


def _own_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from the worker's code on: its author does not need the rest."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    return trace or error.__traceback__
