"""`Client`: the jobs of a `jobq serve`, with the names, arguments, models and errors of `JobQueue`.

It needs httpx2 (``pip install 'jobq[client]'``). What can be sent twice without harm is sent again
while the server can't be reached, for a time.
"""

import copy
import json
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

import httpx2

from jobq.config.environment import TOKEN_VAR, URL_VAR
from jobq.errors import (
    ArgsError,
    DatabaseAwayError,
    DatabaseError,
    DatabaseUnavailableError,
    JobqError,
    KeyReusedError,
    NotFound,
    UsageError,
    WrongState,
)
from jobq.jobs.spec import JobSpec, given_fields, to_spec
from jobq.jobs.validation import checked_json
from jobq.limits import MAX_ERROR_CHARS, bounded_result, bounded_text
from jobq.models import FINISHED, Claim, Inserted, Job
from jobq.pulled_job import ClaimLost, HttpClaim, Run, work
from jobq.serializers import to_job
from jobq.units import Duration, parse_duration

MAX_WAIT_S = 60.0
"""Seconds that the server lets one request wait."""

RETRY_LIMIT_S = 60.0
"""Time for which a request is sent again while the server can't be reached."""

TIMEOUT_S = 30.0
FOLLOW_INTERVAL_S = 0.5
_BINARY = {"Content-Type": "application/octet-stream"}
_BUSY = (429, 502, 503, 504)


class ServerError(JobqError):
    """An answer that is an error of no other kind, such as a token that is not accepted."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ServerEvent(NamedTuple):
    """One event of a stream; ``id`` is where to go on behind it."""

    name: str
    data: Any
    id: str | None


class Client:
    """The jobs of a server. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        retry_for: Duration = RETRY_LIMIT_S,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Take the URL that `jobq serve` prints, and a token of `jobq token create`."""
        self._retry_s = parse_duration(retry_for)
        self._instance = os.urandom(8).hex()
        self._http = httpx2.Client(
            base_url=url.rstrip("/") + "/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            transport=transport,
        )

    @classmethod
    def open(cls) -> Self:
        """Return a client for `$JOBQ_URL` with `$JOBQ_TOKEN`.

        Raises:
            UsageError: one of them is not set.
        """
        for name in (URL_VAR, TOKEN_VAR):
            if not os.environ.get(name):
                raise UsageError(f"${name} is not set: set it, or use Client(url, token)")
        return cls(os.environ[URL_VAR], os.environ[TOKEN_VAR])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- jobs ------------------------------------------------------------------------------

    def add(self, type: str, args: Mapping[str, Any] | None = None, **options: Any) -> Job:  # noqa: A002 - as `JobQueue` has it
        """Add one job, with the options of `JobSpec`; return it, or its unique key's holder."""
        spec = to_spec({"type": type, "args": args, **options})
        return to_job(self._add(spec, os.urandom(16).hex()).json())

    def add_once(self, spec: JobSpec | Mapping[str, Any], key: str) -> Inserted:
        """Add a job, unless this token has added one with this key before; return its id."""
        answer = self._add(to_spec(spec), key)
        return Inserted(answer.json()["id"], created=answer.status_code == 201)

    def _add(self, spec: JobSpec, key: str) -> httpx2.Response:
        defaults = given_fields(JobSpec())
        given = {k: v for k, v in given_fields(spec).items() if defaults.get(k) != v or k == "type"}
        body = {name: _as_json(value) for name, value in given.items()}
        return self.request("POST", "jobs", json=body, headers={"Idempotency-Key": key})

    def get(self, job_id: int) -> Job:
        """Return a job as it is now."""
        return to_job(self.request("GET", f"jobs/{int(job_id)}").json())

    def wait(self, job_id: int, timeout: Duration | None = None) -> Job:
        """Wait until a job has ended, and return it as it ended.

        Raises:
            TimeoutError: it has not ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + parse_duration(timeout)
        while True:
            left = MAX_WAIT_S if deadline is None else max(0.0, deadline - time.monotonic())
            seconds = min(left, MAX_WAIT_S)
            answer = self.request(
                "GET", f"jobs/{int(job_id)}", params={"wait": seconds}, timeout=seconds + TIMEOUT_S
            )
            job = to_job(answer.json())
            if job.status in FINISHED:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"not ended in time: {job_id}")

    def cancel(self, job_id: int, reason: str | None = None, *, cascade: bool = False) -> Job:
        """Cancel a job; one that runs is asked to stop. With ``cascade``, those that wait for it too."""
        body = {"reason": reason, "cascade": cascade}
        return to_job(self.request("POST", f"jobs/{int(job_id)}/cancel", json=body).json())

    def retry(self, job_id: int) -> Job:
        """Put a failed or cancelled job back in line; its attempts go on counting."""
        # Not sent again: it may have failed once more since the first time.
        return to_job(self.request("POST", f"jobs/{int(job_id)}/retry", repeat=False).json())

    # -- logs and events -------------------------------------------------------------------

    def tail(self, job_id: int, *, follow: bool = False, file: str = "stdout") -> Iterator[bytes]:
        """Yield what a job has written; with ``follow``, until it has ended."""
        at = 0
        while True:
            ended = not follow or self.get(job_id).status in FINISHED
            while data := (part := self._part(job_id, file, at)).content:
                at = int(part.headers["Jobq-Next"])
                yield data
            if ended:
                return
            time.sleep(FOLLOW_INTERVAL_S)

    def _part(self, job_id: int, file: str, at: int) -> httpx2.Response:
        return self.request("GET", f"jobs/{int(job_id)}/logs/{file}", params={"from": at})

    def events(self, *watch: str, after: str | None = None) -> Iterator[ServerEvent]:
        """Yield the events of topics, such as ``job/42``, across restarts of the server.

        ``after`` is the ``id`` of an earlier event.
        """
        failing_since: float | None = None
        while True:
            try:
                for event in self._stream(watch, after):
                    after, failing_since = event.id or after, None
                    yield event
            except (httpx2.TransportError, DatabaseUnavailableError) as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since >= self._retry_s:
                    raise DatabaseAwayError(f"no answer: {error}") from error
            time.sleep(FOLLOW_INTERVAL_S)

    def _stream(self, watch: Iterable[str], after: str | None) -> Iterator[ServerEvent]:
        headers = {} if after is None else {"Last-Event-ID": after}
        params = {"watch": list(watch)}
        with self._http.stream("GET", "events", params=params, headers=headers) as answer:
            if not answer.is_success:
                answer.read()
                failure = error_of(answer)
                is_away = answer.status_code in _BUSY  # or a proxy says so while it restarts
                raise DatabaseUnavailableError(str(failure)) if is_away else failure
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(":")
                if line and name:
                    fields[name] = value.removeprefix(" ")
                elif not line and "data" in fields:
                    name, data = fields.get("event", "message"), json.loads(fields["data"])
                    yield ServerEvent(name, data, fields.get("id"))
                    fields = {}

    # -- pull workers ----------------------------------------------------------------------

    def claim(
        self,
        queue: str | None = None,
        *,
        owner: str,
        types: Collection[str] | None = None,
        lease: Duration | None = None,
        wait: Duration = 0,
    ) -> HttpClaim | None:
        """Take the next job for a worker of your own; None if there is none.

        ``owner`` is a name of the worker, and ``types`` are required. Renew the lease with
        `heartbeat`, and end the attempt with `complete`, `fail` or `release`.
        """
        queues = None if queue is None else [queue]
        claims = self.claim_many(queues, owner=owner, limit=1, types=types, lease=lease, wait=wait)
        return claims[0] if claims else None

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
        """Take up to ``limit`` jobs, as `claim` does; with ``wait``, wait for the first of them."""
        deadline = time.monotonic() + parse_duration(wait)
        body = {
            "worker": owner,
            "instance": self._instance,
            "lease": None if lease is None else parse_duration(lease),
            "types": list(types or ()),
            "queues": None if queues is None else list(queues),
            "limit": limit,
        }
        while True:
            seconds = min(max(0.0, deadline - time.monotonic()), MAX_WAIT_S)
            answer = self.request(
                "POST",
                "claims",
                json={**body, "wait": seconds},
                headers={"Idempotency-Key": os.urandom(16).hex()},
                timeout=seconds + TIMEOUT_S,
            )
            if answer.status_code == 200:
                return [
                    HttpClaim(to_job(each["job"]), each["attempt"], owner, each["claim"])
                    for each in answer.json()["claims"]
                ]
            if time.monotonic() >= deadline:
                return []

    def held(self, owner: str, lease: Duration | None = None) -> dict[str, bool]:
        """Renew the leases of all that an owner holds; return by token which are to be cancelled."""
        return {each["claim"]: each["cancel_requested"] for each in self.renewed(owner, lease)}

    def renewed(self, owner: str, lease: Duration | None = None) -> list[dict[str, Any]]:
        """Renew the leases of all that an owner holds; return it as the server answers."""
        seconds = None if lease is None else parse_duration(lease)
        body = {"worker": owner, "instance": self._instance, "lease": seconds}
        return list(self.request("POST", "claims/heartbeat", json=body).json()["held"])

    def heartbeat(
        self, claim: Claim | int, lease: Duration | None = None, *, owner: str | None = None
    ) -> bool:
        """Renew the owner's leases. False: the attempt is lost or to be cancelled: stop working.

        An attempt is named by its claim, here and below, or by its job's id and its owner.
        """
        if isinstance(claim, HttpClaim):
            return self.held(claim.owner, lease).get(claim.token) is False
        held = self.renewed(_required(owner, claim), lease)
        return any(each["job"] == claim and not each["cancel_requested"] for each in held)

    def progress(
        self,
        claim: Claim | int,
        done: float,
        total: float | None = None,
        message: str | None = None,
        *,
        owner: str | None = None,
    ) -> bool:
        """Note how far an attempt has come. False: it was lost."""
        body = {"done": done, "total": total, "message": message}
        return self._report(claim, owner, "progress", body)

    def complete(self, claim: Claim | int, result: Any = None, *, owner: str | None = None) -> bool:
        """End an attempt well. False: it was lost, and this changed nothing.

        A result of more than a megabyte is not kept: a note is, in its place.

        Raises:
            UsageError: JSON can't hold the result.
        """
        checked_json("result", result)
        return self._report(claim, owner, "complete", {"result": bounded_result(result)})

    def fail(
        self, claim: Claim | int, error: str, *, retry: bool = True, owner: str | None = None
    ) -> bool:
        """End an attempt badly. False: it was lost, and this changed nothing."""
        text = bounded_text(error, MAX_ERROR_CHARS) or "no reason given"
        body = {"error": text.encode("utf-8", "backslashreplace").decode(), "retry": retry}
        return self._report(claim, owner, "fail", body)

    def release(self, claim: Claim | int, *, owner: str | None = None) -> bool:
        """Give a job back as if it had not been tried. False: it was lost, and this changed nothing."""
        return self._report(claim, owner, "release", {})

    def release_token(self, token: str) -> bool:
        """Give back what a heartbeat named, and no one works on: its answer was lost."""
        return self._report(token, None, "release", {})

    def _report(self, claim: Claim | int | str, owner: str | None, verb: str, body: Any) -> bool:
        try:
            token = claim if isinstance(claim, str) else _token(self, claim, owner)
            self.request("POST", f"claims/{token}/{verb}", json=body)
        except ClaimLost:
            return False
        return True

    def upload(self, claim: Claim, data: bytes, offset: int, file: str = "stdout") -> int:
        """Append output of an attempt, up to a megabyte; return how many bytes of it there are.

        ``offset`` counts the bytes of the attempt. What was sent before is passed over.

        Raises:
            ClaimLost: the attempt was lost.
            WrongState: bytes before the offset are missing.
        """
        path = f"claims/{_token(self, claim)}/logs/{file}"
        params = {"offset": offset}
        answer = self.request("PUT", path, params=params, content=data, headers=_BINARY)
        return int(answer.json()["end"])

    def work(
        self,
        types: Collection[str],
        run: Run,
        *,
        queues: Collection[str] | None = None,
        owner: str = "python",
        max_jobs: int | None = None,
        stop: threading.Event | None = None,
    ) -> int:
        """Run jobs one after the other, until there were ``max_jobs`` or ``stop`` is set.

        ``run`` gets a `PulledJob`. What it returns is the job's result; if it raises, the job is
        retried, unless that is `Permanent`. Interrupted, as by Ctrl-C, it gives the job back.
        Returns how many jobs ended here.
        """
        own = copy.copy(self)
        own._instance = os.urandom(8).hex()  # noqa: SLF001 - what others here hold is not its own
        return work(own, types, run, queues=queues, owner=owner, max_jobs=max_jobs, stop=stop)

    # -- requests --------------------------------------------------------------------------

    def request(
        self, method: str, path: str, *, repeat: bool = True, **options: Any
    ) -> httpx2.Response:
        """Send a request below `/api/v1/`; with ``repeat``, again while the server is away or busy.

        Raises:
            DatabaseAwayError: no answer came in time; it may have taken effect.
            UsageError: a text can't be sent as UTF-8.
            JobqError: the answer is an error.
        """
        deadline = time.monotonic() + (self._retry_s if repeat else 0)
        pause = 0.1
        while True:
            failure: JobqError
            try:
                answer = self._http.request(method, path, **options)
                if answer.is_success:
                    return answer
                failure = error_of(answer)
                if answer.status_code not in _BUSY:
                    raise failure
                with suppress(KeyError, ValueError):
                    pause = max(pause, float(answer.headers["Retry-After"]))
            except UnicodeEncodeError as error:
                raise UsageError(f"{path}: a text is not valid UTF-8: {error!s:.80}") from None
            except httpx2.TransportError as error:
                failure = DatabaseAwayError(f"{self._http.base_url}: no answer: {error}")
            if time.monotonic() + pause > deadline:
                raise failure
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


# -- documents -------------------------------------------------------------------------------

_OF_CODES: Mapping[str, type[JobqError]] = {
    "claim_lost": ClaimLost,
    "database": DatabaseError,
    "invalid_args": ArgsError,
    "key_reused": KeyReusedError,
}
_OF_STATUSES: Mapping[int, type[JobqError]] = {
    404: NotFound,
    409: WrongState,
    422: UsageError,
    503: DatabaseUnavailableError,
}


def error_of(answer: httpx2.Response) -> JobqError:
    """Return the error that an answer stands for."""
    try:
        problem = answer.json()
        detail, code = str(problem["detail"]), str(problem["code"])
    except (ValueError, KeyError, TypeError):
        detail, code = f"{answer.request.url.host}: {answer.status_code}", "unknown"
    kind = _OF_CODES.get(code) or _OF_STATUSES.get(answer.status_code)
    return ServerError(detail, answer.status_code, code) if kind is None else kind(detail)


def _token(client: Client, claim: Claim | int, owner: str | None = None) -> str:
    """Return the text of a claim; that of a job's id is asked of the server.

    Raises:
        ClaimLost: the owner holds no attempt of this job.
    """
    if isinstance(claim, HttpClaim):
        return claim.token
    for each in client.renewed(_required(owner, claim)):
        if each["job"] == claim:
            return str(each["claim"])
    raise ClaimLost(f"{owner} holds no attempt of job {claim}")


def _required(owner: str | None, claim: Claim | int) -> str:
    if isinstance(claim, Claim) or owner is None:
        raise UsageError("give a claim that this client has made, or a job's id and its owner")
    return owner


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return list(value) if isinstance(value, (tuple, set, frozenset, Iterator)) else value
