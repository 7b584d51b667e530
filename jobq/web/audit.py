"""The audit log: one line of JSON for each change, login and refusal."""

import fcntl
import json
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from jobq.clock import utcnow
from jobq.system.permissions import open_file
from jobq.units import format_moment
from jobq.web.caller import Caller

MAX_AUDIT_BYTES = 16 << 20
"""Size at which the log becomes `audit.jsonl.1`, and a new one begins."""

MAX_IDS = 1000
"""Ids that one line lists."""


class Audit:
    """The writer of `audit.jsonl`. Lines are written in a thread: no request waits for the disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.jsonl"
        self.lost_lines = 0  # that could not be written
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def write(
        self,
        action: str,
        outcome: str,
        *,
        token: str | None = None,
        address: str | None = None,
        request_id: str | None = None,
        ids: Collection[int | str] = (),
        **more: Any,
    ) -> None:
        """Note one action, its outcome, and who asked for it from where."""
        line = {
            "at": format_moment(utcnow()),
            "action": action,
            "outcome": outcome,
            "token": token,
            "address": address,
            "request_id": request_id,
            "ids": list(ids)[:MAX_IDS],
            **more,
        }
        self._lines.put(json.dumps(line).encode() + b"\n")

    def of(
        self, caller: Caller, action: str, outcome: str, ids: Collection[int | str] = ()
    ) -> None:
        """Note what a caller did."""
        self.write(
            action,
            outcome,
            token=caller.sub,
            address=caller.address,
            request_id=caller.request_id,
            ids=ids,
        )

    def close(self) -> None:
        """Write what is left."""
        self._lines.put(None)
        self._thread.join(timeout=1)

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """Return the last lines, the latest first."""
        found: list[dict[str, Any]] = []
        for path in (self.path, self._rotated):
            for line in _reversed_lines(path):
                with suppress(ValueError):
                    found.append(json.loads(line))
                if len(found) >= limit:
                    return found
        return found

    @property
    def _rotated(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def _run(self) -> None:
        is_open = True
        while is_open:
            taken = [self._lines.get()]
            while not self._lines.empty():
                taken.append(self._lines.get())
            is_open = None not in taken
            lines = [line for line in taken if line is not None]
            try:
                self._append(b"".join(lines))
            except OSError:  # a full disk must not end the server
                self.lost_lines += len(lines)

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with open(open_file(self.path, flags), "ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # several servers may write, and one rotates
            file.write(data)
            if file.tell() > MAX_AUDIT_BYTES and _is_at(self.path, file.fileno()):
                self.path.replace(self._rotated)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether a path leads to an open file: another server may have rotated it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _reversed_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file from its end."""
    with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        position, rest = file.seek(0, os.SEEK_END), b""
        while position > 0:
            start = max(0, position - (64 << 10))
            file.seek(start)
            first, *lines = (file.read(position - start) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            position, rest = start, first
        if rest:
            yield rest
