"""Steps of this process, which are counted, and one of which it is killed before."""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = frozenset(
    {
        "fcntl.flock",
        "os.chmod",
        "os.fork",
        "os.kill",
        "os.killpg",
        "os.link",
        "os.mkdir",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "shutil.rmtree",
        "subprocess.Popen",
    }
)
"""Audit events of what changes a file or a process, or waits for a lock."""

CALLS = ("write", "pwrite", "fsync", "ftruncate", "mkfifo")
"""Calls of the module os that change something and have no audit event."""


class Steps:
    """The steps of this process from here on. Can't be undone: use it in a process of its own."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.seen: list[str] = []
        self._folder = str(folder)
        self._kill_at = kill_at
        self._process = os.getpid()
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        self._connect = sqlite3.connect
        vars(sqlite3)["connect"] = self._traced
        sys.addaudithook(self._on_event)

    def step(self, name: str) -> None:
        """Count one more; the process ends here if it is to be killed at this one."""
        if os.getpid() != self._process:
            return  # a fork has its own fate
        if len(self.seen) == self._kill_at:
            self._kill_at = None  # the kill is a step, too
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(name)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.step(name)
            return call(*args, **options)

        return counted

    def _traced(self, *args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._connect(*args, **options)
        connection.set_trace_callback(self._on_statement)
        return connection

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and self._is_ours(args)):
            self.step(f"{event} {args[0] if args else ''}")

    def _on_statement(self, statement: str) -> None:
        self.step(" ".join(statement.split())[:60])

    def _is_ours(self, args: tuple[Any, ...]) -> bool:
        """Return whether a file of the project is opened so that this changes something."""
        path, _, flags = args
        writes = isinstance(flags, int) and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
        relative = isinstance(path, str) and not path.startswith("/")
        return bool(writes) and (relative or str(path).startswith(self._folder))
