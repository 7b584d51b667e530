"""A worker over HTTP: claims jobs, renews their leases in a thread, and uploads their output."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Protocol

from jobq.errors import DatabaseUnavailableError, JobqError, UsageError, WrongState
from jobq.job_types.worker import Cancelled, Permanent
from jobq.models import Claim
from jobq.units import Duration

LEASE_S = 60.0
HEARTBEAT_INTERVAL_S = 5.0
UPLOAD_INTERVAL_S = 1.0
CLAIM_WAIT_S = 30.0
STOP_INTERVAL_S = 1.0
"""Time after which a worker that waits for a job notices that it is to stop."""

UPLOAD_BYTES = 512 << 10
"""Bytes of output in one request."""

MAX_HELD_BYTES = 16 << 20
"""Output that waits for the server; more is lost, and the log says how much."""

GRACE_S = 10.0
"""Time between SIGTERM and SIGKILL for a command that is to stop."""

_READ_BYTES = 64 << 10

Run = Callable[["PulledJob"], Any]
"""The code of a worker: its return value is the job's result, its exception the job's error."""


class ClaimLost(WrongState):
    """An attempt that has ended, or that another worker has by now."""


@dataclass(frozen=True, slots=True)
class HttpClaim(Claim):
    """A claim with the text that the server knows it by."""

    token: str


class Server(Protocol):
    """The calls of `jobq.client.Client` that a worker makes."""

    def claim_many(
        self,
        queues: Collection[str] | None = None,
        *,
        owner: str,
        limit: int,
        types: Collection[str] | None = None,
        lease: Duration | None = None,
        wait: Duration = 0,
    ) -> list[HttpClaim]:
        """Take jobs."""

    def held(self, owner: str, lease: Duration | None = None) -> dict[str, bool]:
        """Renew leases."""

    def progress(
        self, claim: Claim, done: float, total: float | None = None, message: str | None = None
    ) -> bool:
        """Note progress."""

    def upload(self, claim: Claim, data: bytes, offset: int, file: str = "stdout") -> int:
        """Append output."""

    def complete(self, claim: Claim, result: Any = None) -> bool:
        """End an attempt well."""

    def fail(self, claim: Claim, error: str, *, retry: bool = True) -> bool:
        """End an attempt badly."""

    def release(self, claim: Claim) -> bool:
        """Give a job back."""

    def release_token(self, token: str) -> bool:
        """Give back what a heartbeat named."""


class _Upload:
    """The output of one file that the server does not have yet."""

    def __init__(self, client: Server, claim: HttpClaim, file: str) -> None:
        self._client = client
        self._claim = claim
        self._file = file
        self._held = bytearray()
        self._sent = 0
        self._lost = 0
        self._writing = threading.Lock()
        self._sending = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._writing:
            room = max(0, MAX_HELD_BYTES - len(self._held))
            self._held += data[:room]
            self._lost += len(data[room:])

    def send(self) -> None:
        """Send what is held.

        Raises:
            JobqError: not all of it could be sent; it is still held.
        """
        with self._sending:
            while data := bytes(self._held[:UPLOAD_BYTES]):
                end = self._upload(data)
                with self._writing:
                    del self._held[: end - self._sent]
                    self._sent = end
                    if self._lost and not self._held:
                        self._held += b"\n[%d bytes of output were lost]\n" % self._lost
                        self._lost = 0

    def _upload(self, data: bytes) -> int:
        try:
            return self._client.upload(self._claim, data, self._sent, self._file)
        except ClaimLost:
            raise
        except WrongState:  # the server has lost what it had: go on with what is there
            self._sent = self._client.upload(self._claim, b"", 0, self._file)
            return self._client.upload(self._claim, data, self._sent, self._file)


class PulledJob:
    """A job that this process runs for a server."""

    def __init__(self, client: Server, claim: HttpClaim) -> None:
        self.id = claim.job.id
        self.attempt = claim.attempt
        self.args: Mapping[str, Any] = claim.job.args
        self.tags = claim.job.tags
        self.timeout = claim.job.timeout
        self.claim = claim
        self._client = client
        self._files = {name: _Upload(client, claim, name) for name in ("stdout", "stderr", "log")}
        self._stopped = threading.Event()
        self._on_stop: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """True once the job is to stop: it was cancelled, or another worker has it."""
        return self._stopped.is_set()

    def write(self, data: str | bytes, file: str = "stdout") -> None:
        """Append to the job's stdout, stderr or log.

        Raises:
            Cancelled: the job is to stop.
        """
        self._files[file].write(data.encode() if isinstance(data, str) else data)
        self._require_running()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress: a request each time.

        Raises:
            Cancelled: the job is to stop.
        """
        if not self._client.progress(self.claim, done, total, message):
            self.stop()
        self._require_running()

    def _require_running(self) -> None:
        if self.cancelled:
            raise Cancelled

    def command(self, argv: Sequence[str], **options: Any) -> None:
        """Run a command, with its output as the job's, and end it if the job is to stop.

        Options are those of `subprocess.Popen`.

        Raises:
            Cancelled: the job is to stop.
            RuntimeError: the command failed.
            TimeoutError: it took longer than the job's timeout.
        """
        streams = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        with subprocess.Popen(argv, **{**streams, **options}, start_new_session=True) as process:
            self._on_stop.append(lambda: _end(process))
            if self.cancelled:
                _end(process)
            readers = [
                threading.Thread(target=self._copy, args=(pipe, name), daemon=True)
                for pipe, name in ((process.stdout, "stdout"), (process.stderr, "stderr"))
                if pipe is not None
            ]
            for reader in readers:
                reader.start()
            try:
                code = process.wait(self.timeout or None)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"timed out after {self.timeout:g} s") from None
            finally:
                _end(process)
                self._on_stop.clear()
                for reader in readers:
                    reader.join(GRACE_S)  # a process that has left the group may hold the pipe
        self._require_running()
        if code:
            raise RuntimeError(f"exit code {code}" if code > 0 else f"killed by signal {-code}")

    def _copy(self, pipe: IO[bytes], name: str) -> None:
        while data := os.read(pipe.fileno(), _READ_BYTES):
            self._files[name].write(data)

    def send_output(self) -> None:
        """Upload what was written since the last time.

        Raises:
            JobqError: it could not be sent.
        """
        for upload in self._files.values():
            upload.send()

    def stop(self) -> None:
        """Tell the job to stop."""
        self._stopped.set()
        for call in list(self._on_stop):
            call()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group: SIGTERM, and SIGKILL after a while."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class _Upkeep:
    """Renews the lease of a job, and uploads its output, in a thread."""

    def __init__(self, client: Server, job: PulledJob) -> None:
        self._client = client
        self._job = job
        self._ended = threading.Event()
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="jobq-upkeep", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        beat_at = 0.0
        while not self._ended.wait(UPLOAD_INTERVAL_S):
            try:
                self._job.send_output()
            except ClaimLost:
                self._job.stop()
            except JobqError:
                pass  # it is still held
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + HEARTBEAT_INTERVAL_S
                self._beat()

    def _beat(self) -> None:
        own = self._job.claim
        began = time.monotonic()
        try:
            held = self._client.held(own.owner, LEASE_S)
        except JobqError:
            if time.monotonic() - self._renewed_at > LEASE_S:
                self._job.stop()  # another worker may have it by now
            return
        self._renewed_at = began
        if held.get(own.token) is not False:  # lost, or to be cancelled
            self._job.stop()
        for token in held.keys() - {own.token}:  # the answer to a claim did not arrive
            with suppress(JobqError):
                self._client.release_token(token)


def work(
    client: Server,
    types: Collection[str],
    run: Run,
    *,
    queues: Collection[str] | None,
    owner: str,
    max_jobs: int | None,
    stop: threading.Event | None,
) -> int:
    """Run jobs one after the other, until there were ``max_jobs`` or ``stop`` is set.

    Returns how many ended here. A job whose `run` raises is retried, unless it raises `Permanent`.
    One that is interrupted, as by Ctrl-C, is given back.
    """
    ended = 0
    while (max_jobs is None or ended < max_jobs) and not (stop and stop.is_set()):
        wait = CLAIM_WAIT_S if stop is None else STOP_INTERVAL_S
        try:
            claims = client.claim_many(
                queues, owner=owner, limit=1, types=types, lease=LEASE_S, wait=wait
            )
        except DatabaseUnavailableError:  # it may be back tomorrow
            time.sleep(STOP_INTERVAL_S)
            continue
        for claim in claims:
            ended += _run_one(client, PulledJob(client, claim), run)
    return ended


def _run_one(client: Server, job: PulledJob, run: Run) -> bool:
    """Run a job, and report how it ended; return whether that counts."""
    error: BaseException | None = None
    result = None
    with _Upkeep(client, job):
        try:
            result = run(job)
        except (Exception, Cancelled) as raised:  # noqa: BLE001 - it is the job's
            error = raised
        except BaseException:
            client.release(job.claim)
            raise
    with suppress(JobqError):
        job.send_output()
    try:
        return _report(client, job, result, error)
    except DatabaseUnavailableError:  # its lease runs out, and the job runs again
        return False


def _report(client: Server, job: PulledJob, result: Any, error: BaseException | None) -> bool:
    if error is None:
        try:
            return client.complete(job.claim, result)
        except UsageError as raised:  # JSON can't hold the result
            error = raised
    why = "stopped" if isinstance(error, Cancelled) else str(error) or type(error).__name__
    return client.fail(job.claim, why, retry=not isinstance(error, Permanent))
