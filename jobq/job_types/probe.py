"""The import of worker files in a process of its own, to find those that hang or end their process.

``python -P -m jobq.job_types.probe FD`` imports what it is told on stdin, and reports on FD each
file before it imports it: a line of JSON, and an empty text once all are imported.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jobq.config.settings import Settings
from jobq.job_types.worker_files import ENDS_PROCESS, MAX_IMPORT_DEATHS, hang_reason, worker_files

_DONE = ""
_START_TIMEOUT_S = 60.0
"""For the process itself, before the time of the first file begins."""

_READ_BYTES = 1 << 16


def main() -> None:
    """Import worker files, and report each of them before it is imported."""
    import pydantic  # noqa: F401 - almost every file imports it: that is not its own time

    from jobq.job_types.registry import bundled_folder, load

    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    wanted = json.load(sys.stdin)
    sys.path[:] = wanted["path"]
    folders = [Path(folder) for folder in wanted["folders"]]
    bundled = {str(file): "as trusted as this one" for file in worker_files(bundled_folder())}

    def tell(source: str) -> None:
        os.write(report, json.dumps(source).encode() + b"\n")

    load(folders, skip=bundled | wanted["skip"], on_import=tell)
    tell(_DONE)


def find_unimportable(settings: Settings) -> dict[str, str]:
    """Return the sources whose import takes too long or ends its process, and why of each.

    Where the host has no room for another process, nothing is found.
    """
    skip: dict[str, str] = {}
    deaths: Counter[str] = Counter()
    while True:
        try:
            source, hangs = _import_all(settings, skip)
        except (OSError, MemoryError):
            return skip
        if source is None or source == _DONE or source in skip:
            return skip
        deaths[source] += 1
        if hangs:
            skip[source] = hang_reason(settings.import_timeout)
        elif deaths[source] == MAX_IMPORT_DEATHS:
            skip[source] = ENDS_PROCESS


def _import_all(settings: Settings, skip: Mapping[str, str]) -> tuple[str | None, bool]:
    """Return the source that was reported last, and whether its import took too long."""
    reports, report = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jobq.job_types.probe", str(report)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # what files print at import is seen when they are used
            stderr=subprocess.DEVNULL,
            pass_fds=[report],
            start_new_session=True,
        )
    except BaseException:
        os.close(reports)
        raise
    finally:
        os.close(report)
    try:
        assert process.stdin is not None
        folders = [str(folder) for folder in settings.worker_paths]
        wanted = {"path": sys.path, "folders": folders, "skip": dict(skip)}
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(wanted).encode())
        return _last_report(reports, settings.import_timeout)
    finally:
        os.close(reports)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_report(reports: int, timeout: float) -> tuple[str | None, bool]:
    source: str | None = None
    data = b""
    deadline = time.monotonic() + _START_TIMEOUT_S + timeout
    while source != _DONE:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([reports], [], [], left)[0]:
            return source, True
        if not (part := os.read(reports, _READ_BYTES)):
            return source, False
        *lines, data = (data + part).split(b"\n")
        if lines:
            source = json.loads(lines[-1])
            deadline = time.monotonic() + timeout
    return source, False


if __name__ == "__main__":
    main()
