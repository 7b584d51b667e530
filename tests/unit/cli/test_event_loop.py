import asyncio
import errno
import gc
import os
import warnings

import pytest

from jobq.cli.event_loop import run_to_end


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_what_a_coroutine_function_returns_is_returned() -> None:
    assert run_to_end(answer) == 42


def test_a_ctrl_c_before_it_is_started_leaves_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("get_loop", "run"):
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            patch.setattr(asyncio.Runner, place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_to_end(answer)
            gc.collect()


def test_without_a_file_to_be_had_it_fails_before_a_loop_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("os.dup", full)
    monkeypatch.setattr(asyncio.Runner, "get_loop", None)
    with pytest.raises(OSError, match="Too many open files"):
        run_to_end(answer)
