"""Runs of an operation, killed at another step each time, and checks of what is left."""

import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jobq.diagnostics.verify import verify
from jobq.queue import backend_of
from tools.soak.kills.operations import (
    OPERATIONS,
    Operation,
    ids_of,
    open_queue,
    unfinished,
)
from tools.soak.kills.steps import Steps

SETTINGS = """
[retry]
base = 0.01
jitter = 0
[lease]
grace = 0.5
"""


FRAME = 24 + 4096
"""Bytes of a page in the write-ahead log, with its header."""


def in_a_fork(work: Callable[[Callable[[Any], None]], None]) -> tuple[list[Any], int]:
    """Run something in a process that exits without cleaning up; return its output and status."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        write = os.write  # as it is before steps are counted
        try:
            work(partial(_tell, write, writer))
            status = 0
        except BaseException:  # noqa: BLE001 - a fork must not go on as its parent does
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = [json.loads(line) for line in pipe]
    return said, os.waitpid(child, 0)[1]


def _tell(write: Callable[[int, bytes], int], pipe: int, said: Any) -> None:
    write(pipe, json.dumps(said).encode() + b"\n")


def prepared(operation: Operation, folder: Path) -> Path:
    """Make a project in the state that the operation finds."""
    folder.mkdir()
    (folder / "jobq.toml").write_text(SETTINGS)
    _, status = in_a_fork(lambda _: operation.before(folder))
    assert status == 0, "it could not be prepared"
    return folder


def run_once(
    operation: Operation, project: Path, kill_at: int | None
) -> tuple[list[str], list[Any], int]:
    """Return the steps that it took, if not killed, what was acknowledged, and the exit status."""

    def work(say: Callable[[Any], None]) -> None:
        steps = Steps(project, kill_at)
        operation.run(open_queue(project), lambda what: say(["acknowledged", what]))
        steps.step("the end")
        say(["steps", steps.seen])

    said, status = in_a_fork(work)
    steps = [value for kind, value in said if kind == "steps"]
    return steps[0] if steps else [], [v for kind, v in said if kind == "acknowledged"], status


def look_at(
    operation: Operation, project: Path, before: set[int], acknowledged: list[Any]
) -> list[str]:
    """Return what is wrong after a kill, and after everything was run then."""
    wrong: list[str] = []
    with open_queue(project) as queue:
        wrong += [str(found) for found in verify(backend_of(queue), thorough=True).violations]
        there = {job.id for job in queue.find()}
        if not operation.forgets and before - there:
            wrong.append(f"lost: {before - there}")
        try:
            operation.check(queue, acknowledged)
            operation.settle(queue)
            operation.after(queue, project)
        except Exception:  # noqa: BLE001 - whatever it is, it is what this looks for
            wrong.append(traceback.format_exc())
        wrong += unfinished(queue)
        wrong += [str(found) for found in verify(backend_of(queue)).violations]
    return wrong


def telling(steps: Sequence[str]) -> Iterator[int]:
    """Return the steps before which a kill leaves another state than before the previous one.

    What has been written in a transaction is gone again, whichever of its statements was the last.
    """
    inside, changed = False, True
    for number, step in enumerate(steps):
        if changed or step == "COMMIT":
            yield number
        if step.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            inside, changed = step.startswith("BEGIN"), step == "COMMIT"
        elif step.startswith(("SELECT", "WITH", "SAVEPOINT", "RELEASE", "fcntl.flock")):
            changed = False
        elif step.startswith("PRAGMA"):
            changed = "=" in step or "checkpoint" in step
        else:
            changed = not (inside and step[:1].isupper())  # SQL; calls are in lower case


def kill_everywhere(
    name: str, root: Path, every: int = 1, *, brief: bool = False
) -> tuple[int, list[str]]:
    """Kill it before each step; return how often, and what was wrong after.

    Args:
        name: the operation.
        root: where there is room for its projects.
        every: kill it only before every so many of them.
        brief: leave out the steps before which nothing has changed since the last one.
    """
    operation = OPERATIONS[name]
    template = prepared(operation, root / name)
    with copied(template) as project:
        before = ids_of(project)
    with copied(template) as project:
        steps, _, status = run_once(operation, project, None)
    assert status == 0, f"{name} fails even if nothing kills it"
    failures: list[str] = []
    killed = 0
    points = [*(telling(steps) if brief else range(len(steps)))][::every]
    for number in points:
        step = steps[number]
        with copied(template) as project:
            _, acknowledged, status = run_once(operation, project, number)
            if status == 0 and operation.steps_vary:
                continue
            assert status == 9, f"{name} was not killed at step {number} ({step}): {status}"
            killed += 1
            wrong = look_at(operation, project, before, acknowledged)
        failures += [f"{name}, killed before step {number} ({step}): {each}" for each in wrong]
    return killed, failures


@contextmanager
def copied(template: Path) -> Iterator[Path]:
    """Copy a project to a name that no earlier process knows."""
    with tempfile.TemporaryDirectory(dir=template.parent, ignore_cleanup_errors=True) as folder:
        project = Path(folder) / "project"
        no_fifos = shutil.ignore_patterns("*.wake")
        shutil.copytree(template, project, ignore=no_fifos)
        yield project


def tear_everywhere(name: str, root: Path, every: int = 1) -> tuple[int, list[str]]:
    """Cut the write-ahead log of an operation short, as a power cut in a commit does.

    It is cut after each page and in the middle of each, or after every so many halves.
    """
    operation = OPERATIONS[name]
    template = prepared(operation, root / name)
    whole = wal_of(template).stat().st_size
    failures: list[str] = []
    with copied(template) as done:
        before = ids_of(done)
    with copied(template) as done:
        _, _, status = run_once(operation, done, None)
        assert status == 0
        sizes = range(whole, wal_of(done).stat().st_size, every * FRAME // 2)
        for size in sizes:
            with copied(done) as project:
                os.truncate(wal_of(project), size)
                if operation.forgets:  # logs go once it is certain that their jobs have gone
                    shutil.copytree(template / "logs", project / "logs", dirs_exist_ok=True)
                wrong = look_at(operation, project, before, acknowledged=[])
            failures += [f"{name}, log cut at {size}: {each}" for each in wrong]
    return len(sizes), failures


def wal_of(project: Path) -> Path:
    """Return the write-ahead log of a project's database."""
    return project / ".jobq" / "jobq.db-wal"
