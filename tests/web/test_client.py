import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from jobq import JobQueue, JobSpec, JobStatus, NotFound, Permanent, UsageError, WrongState
from jobq import pulled_job as pulled
from jobq.client import Client, ServerError
from jobq.errors import ArgsError, DatabaseAwayError, DatabaseUnavailableError, KeyReusedError
from jobq.pulled_job import HttpClaim, PulledJob
from tests.support.web_server import WebServer

SHARED = sorted(
    name for name in vars(Client) if not name.startswith("_") and hasattr(JobQueue, name)
)
ARGV = {"argv": ["true"]}


def test_it_has_the_verbs_of_a_queue() -> None:
    wanted = "add add_once get wait cancel retry claim claim_many heartbeat progress complete fail release"
    assert set(wanted.split()) <= set(SHARED)


@pytest.mark.parametrize("name", [name for name in SHARED if name not in ("open", "close")])
def test_its_signatures_are_those_of_a_queue(name: str) -> None:
    own = inspect.signature(getattr(Client, name)).parameters
    theirs = inspect.signature(getattr(JobQueue, name)).parameters
    assert list(own) == list(theirs)
    for each in theirs:
        assert own[each].kind is theirs[each].kind, each
        assert own[each].default == theirs[each].default, each


# -- against a server ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(server: WebServer) -> Iterator[Client]:
    with Client(server.url, server.token()) as client:
        yield client


@pytest.fixture
def lane(server: WebServer) -> str:
    """A queue of this test's own."""
    name = f"q{time.monotonic_ns()}"
    server.queue.create_queue(name)
    return name


def test_jobs_are_added_and_read(server: WebServer, api: Client) -> None:
    job = api.add("shell", ARGV, delay=timedelta(hours=1), tags={"a": "b"}, priority=7)
    stored = server.queue.shown(server.queue.get(job.id))
    assert api.get(job.id) == job == stored
    assert (job.status, job.priority, job.tags["a"]) == (JobStatus.SCHEDULED, 7, "b")
    cancelled = api.cancel(job.id, "no more")
    assert (cancelled.status, cancelled.reason) == (JobStatus.CANCELLED, "no more")
    assert api.wait(job.id) == cancelled
    assert api.retry(job.id).status in (JobStatus.PENDING, JobStatus.SCHEDULED)
    with pytest.raises(TimeoutError, match=f"not ended in time: {job.id}"):
        api.wait(job.id, 0.05)
    api.cancel(job.id)
    child = api.add("shell", ARGV, after_any=[job.id], at=server.queue.now() + timedelta(hours=1))
    assert child.parents[0].id == job.id
    api.cancel(child.id)


def test_a_job_is_added_once_by_its_key(server: WebServer, api: Client) -> None:
    spec = JobSpec(args=ARGV, delay="1h")
    key = f"k{time.monotonic_ns()}"
    first, again = api.add_once(spec, key), api.add_once(spec, key)
    assert (first.created, again.created) == (True, False)
    assert first.id == again.id
    with pytest.raises(KeyReusedError):
        api.add_once(JobSpec(args=ARGV, delay="2h"), key)
    api.cancel(first.id)


def test_errors_are_those_of_a_queue(server: WebServer, api: Client) -> None:
    with pytest.raises(NotFound):
        api.get(10**9)
    with pytest.raises(ArgsError):
        api.add("shell", {"argv": 1})
    with pytest.raises(UsageError):
        api.add("shell", ARGV, priority=99)
    job = api.add("shell", ARGV, delay="1h")
    api.cancel(job.id)
    with pytest.raises(WrongState):
        api.cancel(job.id)
    with Client(server.url, "no token") as stranger, pytest.raises(ServerError) as refused:
        stranger.get(1)
    assert (refused.value.status, refused.value.code) == (401, "token_invalid")


def test_a_claim_is_held_and_ended(server: WebServer, api: Client, lane: str) -> None:
    job_id = server.queue.add("shell", ARGV, queue=lane).id
    assert api.claim(lane, owner="w", types=["other"]) is None
    claim = api.claim(lane, owner="w", types=["shell"], lease="1m", wait=1)
    assert claim is not None
    assert (claim.job.id, claim.attempt) == (job_id, 1)
    assert api.heartbeat(claim)
    assert api.progress(claim, 1, 2, "half")
    assert api.upload(claim, b"hello\n", 0) == 6
    assert api.complete(claim, {"n": 1})
    assert api.complete(claim, {"n": 1})
    assert not api.fail(claim, "late")
    assert not api.heartbeat(claim)
    assert not api.progress(claim, 2)
    assert api.get(job_id).result == {"n": 1}
    assert b"".join(api.tail(job_id)) == b"hello\n"
    with pytest.raises(UsageError):
        api.complete(claim, object())
    other = server.queue.add("shell", ARGV, queue=lane).id
    assert not api.heartbeat(other, owner="w")
    assert not api.complete(other, owner="w")
    assert api.claim(lane, owner="w", types=["shell"])
    assert api.heartbeat(other, owner="w")
    assert api.progress(other, 1, owner="w")
    assert not api.complete(other, owner="another")
    assert api.complete(other, {"n": 2}, owner="w")
    with pytest.raises(UsageError, match="a job's id and its owner"):
        api.complete(other)
    server.queue.add("shell", ARGV, queue=lane)
    released = api.claim(lane, owner="w", types=["shell"])
    assert released is not None
    assert api.release(released)


def test_what_is_too_large_or_no_text_ends_an_attempt_all_the_same(
    server: WebServer, api: Client, lane: str
) -> None:
    results = ["x" * 1_000_001, "\udc80"]
    jobs = [server.queue.add("shell", ARGV, queue=lane, max_retries=0) for _ in results]

    assert api.work(["shell"], lambda _: results.pop(0), queues=[lane], max_jobs=2) == 2
    large, odd = [server.queue.get(job.id) for job in jobs]
    assert "1,000,003 bytes" in large.result["jobq:dropped"]
    assert "UTF-8" in (odd.error or "")

    server.queue.add("shell", ARGV, queue=lane)
    claim = api.claim(lane, owner="w", types=["shell"])
    assert claim is not None
    assert api.fail(claim, "\udc80" + "x" * 300_000)
    assert "characters left out" in (api.get(claim.job.id).error or "")


def test_a_worker_runs_jobs(
    server: WebServer, api: Client, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulled, "UPLOAD_INTERVAL_S", 0.02)
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit({})"
    good, bad, dead, odd = (
        server.queue.add("shell", {"argv": [sys.executable, "-c", code.format(n)]}, queue=lane).id
        for n in range(4)
    )

    def run(job: PulledJob) -> Any:
        if job.id == dead:
            raise Permanent("never")
        if job.id == odd:
            return object()
        job.progress(1, 2)
        job.write("begin\n", "log")
        job.command(job.args["argv"])
        return {"done": job.id}

    assert api.work(["shell"], run, queues=[lane], owner="py", max_jobs=4) == 4
    jobs = {job_id: api.get(job_id) for job_id in (good, bad, dead, odd)}
    assert (jobs[good].status, jobs[good].result) == (JobStatus.COMPLETED, {"done": good})
    assert (jobs[bad].status, jobs[bad].error) == (JobStatus.RETRYING, "exit code 1")
    assert (jobs[dead].status, jobs[dead].error) == (JobStatus.FAILED, "never")
    assert jobs[odd].status is JobStatus.RETRYING
    for file, text in (("stdout", b"out\n"), ("stderr", b"err\n"), ("log", b"begin\n")):
        assert b"".join(api.tail(good, file=file)) == text


def test_a_worker_stops_when_its_job_is_cancelled(
    server: WebServer, api: Client, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulled, "UPLOAD_INTERVAL_S", 0.02)
    monkeypatch.setattr(pulled, "HEARTBEAT_INTERVAL_S", 0.02)
    job_id = server.queue.add("shell", {"argv": ["sleep", "60"]}, queue=lane).id
    begin = time.monotonic()

    def run(job: PulledJob) -> None:
        server.queue.cancel(job.id)
        job.command(job.args["argv"])

    assert api.work(["shell"], run, queues=[lane], max_jobs=1) == 1
    assert api.get(job_id).status is JobStatus.CANCELLED
    assert time.monotonic() - begin < 20


def test_a_worker_that_has_lost_its_job_reports_nothing(
    server: WebServer, api: Client, lane: str
) -> None:
    job_id = server.queue.add("shell", ARGV, queue=lane).id
    stop = threading.Event()

    def run(job: PulledJob) -> None:
        stop.set()
        assert api.release_token(job.claim.token)
        job.write("lost")
        job.progress(1)

    assert api.work(["shell"], run, queues=[lane], stop=stop) == 0
    assert api.get(job_id).status is JobStatus.PENDING
    assert b"".join(api.tail(job_id)) == b""


def test_an_interrupted_worker_gives_its_job_back(
    server: WebServer, api: Client, lane: str
) -> None:
    job_id = server.queue.add("shell", ARGV, queue=lane).id

    def run(job: PulledJob) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.work(["shell"], run, queues=[lane])
    job = api.get(job_id)
    assert (job.status, job.failures) == (JobStatus.PENDING, 0)


def test_a_log_is_followed_until_the_job_ends(server: WebServer, api: Client, lane: str) -> None:
    job_id = server.queue.add("shell", ARGV, queue=lane).id
    claim = api.claim(lane, owner="w", types=["shell"])
    assert claim is not None
    found: list[bytes] = []
    follower = threading.Thread(target=lambda: found.extend(api.tail(job_id, follow=True)))
    follower.start()
    api.upload(claim, b"one\n", 0)
    api.upload(claim, b"two\n", 4)
    api.complete(claim)
    follower.join(timeout=10)
    assert b"".join(found) == b"one\ntwo\n"


# -- against answers that a server gives rarely ----------------------------------------------


def client_of(answer: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> Client:
    return Client("http://h", "t", transport=httpx2.MockTransport(answer), **options)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeps, which take no time."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_what_is_safe_is_sent_again(naps: list[float], server: WebServer) -> None:
    keys: list[str] = []
    document = _document(server)

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx2.ReadError("cut off")
        if len(keys) == 2:
            return httpx2.Response(429, headers={"Retry-After": "3"}, json={})
        return httpx2.Response(201, json=document)

    assert client_of(answer).add("shell", ARGV).id == document["id"]
    assert len(keys) == 3
    assert len(set(keys)) == 1, "the same key each time: added once"
    assert naps[1] == 3.0


def _document(server: WebServer) -> dict[str, Any]:
    job = server.client(server.token()).post(
        "/api/v1/jobs", json={"type": "shell", "args": ARGV, "delay": "1h"}
    )
    document: dict[str, Any] = job.json()
    return document


def test_a_retry_is_sent_once(naps: list[float]) -> None:
    sent: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.url.path)
        raise httpx2.ReadError("cut off")

    with pytest.raises(DatabaseAwayError):
        client_of(answer).retry(7)
    assert sent == ["/api/v1/jobs/7/retry"]


def test_it_gives_up_after_a_time(naps: list[float]) -> None:
    problem = {"detail": "locked", "code": "unavailable"}
    busy = client_of(lambda _: httpx2.Response(503, json=problem), retry_for=0.05)
    with pytest.raises(DatabaseUnavailableError, match="locked"):
        busy.get(1)
    odd = client_of(lambda _: httpx2.Response(400, text="<html>"))
    with pytest.raises(ServerError, match="400"):
        odd.get(1)


def test_events_go_on_where_they_ended(naps: list[float]) -> None:
    seen: list[str | None] = []
    parts = [
        'retry: 1000\n\nevent: hello\ndata: {"now": 1}\n\n: ping\n\nid: A\nevent: job\ndata: {"id": 7}\n\n',
        'id: B\nevent: job\ndata: {"id": 8}\n\nevent: job\ndata: {"cut',
        "",
    ]

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers.get("last-event-id"))
        assert request.url.params.get_list("watch") == ["job/7", "counts"]
        if len(seen) == 2:
            raise httpx2.ConnectError("restarting")
        if len(seen) == 3:
            return httpx2.Response(502, text="a proxy says that it restarts")
        return httpx2.Response(200, text=parts[min(len(seen) - 1 - 2 * (len(seen) > 3), 2)])

    events = client_of(answer).events("job/7", "counts")
    found = [next(events) for _ in range(3)]
    assert [(each.name, each.data, each.id) for each in found] == [
        ("hello", {"now": 1}, None),
        ("job", {"id": 7}, "A"),
        ("job", {"id": 8}, "B"),
    ]
    assert seen == [None, "A", "A", "A"]


def test_it_is_opened_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBQ_URL", "http://127.0.0.1:5627/")
    monkeypatch.delenv("JOBQ_TOKEN", raising=False)
    with pytest.raises(UsageError, match=r"\$JOBQ_TOKEN is not set"):
        Client.open()
    monkeypatch.setenv("JOBQ_TOKEN", "t")
    Client.open().close()


def test_output_that_the_server_lost_does_not_stop_the_rest() -> None:
    sent: list[tuple[int, bytes]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        offset, data = int(request.url.params["offset"]), request.content
        sent.append((offset, data))
        if offset > 2:
            gap = {"detail": "gap", "code": "log_gap", "end": 2}
            return httpx2.Response(409, json=gap)
        return httpx2.Response(200, json={"end": 2 + len(data) if data != b"abc" else 3})

    job = PulledJob(client_of(answer), _claim())
    job.write(b"abc")
    job.send_output()
    job.write(b"def")
    job.send_output()
    assert sent == [(0, b"abc"), (3, b"def"), (0, b""), (2, b"def")]


def test_output_beyond_what_is_held_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulled, "MAX_HELD_BYTES", 10)
    received = bytearray()

    def answer(request: httpx2.Request) -> httpx2.Response:
        received.extend(request.content)
        return httpx2.Response(200, json={"end": len(received)})

    job = PulledJob(client_of(answer), _claim())
    job.write(b"0123456789abcdef")
    job.send_output()
    assert bytes(received) == b"0123456789\n[6 bytes of output were lost]\n"


def _claim() -> HttpClaim:
    from jobq.clock import utcnow
    from jobq.models import Job

    job = Job(
        id=1, type="t", status=JobStatus.RUNNING, queue="q", priority=5, args={}, tags={},
        max_retries=0, retry_base=1, created_at=utcnow(), started_at=utcnow(),
    )  # fmt: skip
    return HttpClaim(job, 1, "w", "token")
