"""The event loop of a command."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LOOP_DESCRIPTORS = 3


def run_to_end(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in an event loop of its own, and return what it returns.

    Unlike `asyncio.run`, it leaves no coroutine that was never awaited, which Python would warn of,
    if a Ctrl-C comes before it is started.

    Raises:
        OSError: no more files can be opened.
    """
    _require_descriptors()
    with asyncio.Runner() as runner:
        runner.get_loop()
        coroutine = main()
        try:
            return runner.run(coroutine)
        finally:
            coroutine.close()


def _require_descriptors() -> None:
    """Fail where a loop can't open its own: half made, it would print a traceback when it goes."""
    found: list[int] = []
    try:
        while len(found) < _LOOP_DESCRIPTORS:
            found.append(os.dup(0))
    finally:
        for descriptor in found:
            os.close(descriptor)
