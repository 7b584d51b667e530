import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from jobq import JobQueue
from jobq.logs.directory import EVENTS, STDOUT
from jobq.models import JobStatus, Outcome
from jobq.queue import backend_of
from jobq.web.routers import claims
from jobq.web.routers.claims import router
from jobq.web.work import ServerBusyError
from tests.support.web_server import SETTINGS, WebServer
from tests.web.conftest import App

BASE = "/api/v1/claims"
BYTES = {"Content-Type": "application/octet-stream"}


class Puller:
    """A pull worker: its calls, as one process of it makes them."""

    def __init__(self, client: httpx2.Client | TestClient, **options: Any) -> None:
        self.client = client
        self.ids = {"worker": "w", "instance": f"i{id(self):015x}"}
        self.options = {"types": ["shell"], **options}

    def ask(self, headers: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        body = {**self.ids, **self.options, **options}
        return self.client.post(BASE, json=body, headers=headers)

    def claim(self, **options: Any) -> dict[str, Any]:
        answer = self.ask(**options)
        assert answer.status_code == 200, answer.text
        first: dict[str, Any] = answer.json()["claims"][0]
        return first

    def post(self, claim: dict[str, Any], verb: str, body: Any = None) -> httpx2.Response:
        return self.client.post(f"{BASE}/{claim['claim']}/{verb}", json=body or {})

    def put(
        self, claim: dict[str, Any], data: bytes, offset: int, name: str = "stdout"
    ) -> httpx2.Response:
        url = f"{BASE}/{claim['claim']}/logs/{name}"
        return self.client.put(url, params={"offset": offset}, content=data, headers=BYTES)

    def held(self, **options: Any) -> list[dict[str, Any]]:
        answer = self.client.post(f"{BASE}/heartbeat", json={**self.ids, **options})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["held"]
        return found


@pytest.fixture
def lane(server: WebServer) -> str:
    """A queue of this test's own."""
    name = f"q{time.monotonic_ns()}"
    server.queue.create_queue(name)
    return name


@pytest.fixture
def puller(client: httpx2.Client, lane: str) -> Puller:
    return Puller(client, queues=[lane])


def add(queue: JobQueue, lane: str, **options: Any) -> int:
    return queue.add(
        "shell", {"argv": ["true"], "env": {"API_TOKEN": "s3cret-word"}}, queue=lane, **options
    ).id


def test_a_job_is_claimed_and_completed(server: WebServer, puller: Puller, lane: str) -> None:
    job_id = add(server.queue, lane)
    claim = puller.claim()
    assert claim["attempt"] == 1
    assert claim["job"]["id"] == job_id
    assert claim["job"]["args"]["env"] == {"API_TOKEN": "s3cret-word"}, "the worker has to run it"
    assert puller.ask().status_code == 204
    (attempt,) = server.queue.attempts(job_id)
    me = puller.client.get("/api/v1/session").json()["name"]
    assert attempt.supervisor == f"http:{me}:w:{puller.ids['instance']}"
    done = puller.post(claim, "complete", {"result": {"ok": 1}})
    assert (done.status_code, done.json()["status"]) == (200, "completed")
    assert done.json()["result"] == {"ok": 1}
    assert "s3cret-word" not in done.text
    again = puller.post(claim, "complete", {"result": {"ok": 1}})
    assert (again.status_code, again.json()) == (200, done.json())
    other = puller.post(claim, "fail", {"error": "no"})
    assert (other.status_code, other.json()["code"]) == (409, "claim_lost")
    assert [each.outcome for each in server.queue.attempts(job_id)] == [Outcome.COMPLETED]


def test_events_tell_of_the_attempt(server: WebServer, puller: Puller, lane: str) -> None:
    job_id = add(server.queue, lane, max_retries=1, retry_base=0.01)
    puller.post(puller.claim(), "fail", {"error": "why s3cret-word"})
    puller.post(puller.claim(wait=5), "complete")
    log = server.queue.logs.open(server.queue.get(job_id))
    assert log is not None
    with log, log.read(EVENTS) as file:
        assert file is not None
        text = file.read_all().decode()
    events = [line.split('"event": "')[1].split('"')[0] for line in text.splitlines()]
    assert events == ["enqueued", "started", "finished", "retry", "started", "finished"]
    assert "s3cret-word" not in text
    first, second = server.queue.attempts(job_id)
    assert first.offsets.events == 0
    assert second.offsets.events == sum(map(len, text.splitlines(keepends=True)[:4]))
    assert second.pid is None


def test_a_failed_job_is_retried_until_it_is_dead(
    server: WebServer, puller: Puller, lane: str
) -> None:
    job_id = add(server.queue, lane, max_retries=3, retry_base=60)
    claim = puller.claim()
    failed = puller.post(claim, "fail", {"error": "why"})
    assert (failed.json()["status"], failed.json()["error"]) == ("retrying", "why")
    assert puller.post(claim, "fail", {"error": "why"}).status_code == 200
    assert server.queue.get(job_id).failures == 1
    other = add(server.queue, lane, max_retries=3)
    final = puller.post(puller.claim(), "fail", {"error": "never", "retry": False})
    assert (final.json()["id"], final.json()["status"]) == (other, "failed")


def test_events_that_can_not_be_noted_cost_no_answer(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ServerBusyError("busy")

    for name in ("note_started", "_note_end"):
        monkeypatch.setattr(claims, name, refuse)
    job_id = add(app.queue, "default")
    app.client.headers["Authorization"] = f"Bearer {app.token('worker')}"
    puller = Puller(app.client)
    assert puller.post(puller.claim(), "complete").status_code == 200
    assert app.queue.get(job_id).status is JobStatus.COMPLETED


def test_a_job_that_is_given_back_costs_no_retry(
    server: WebServer, puller: Puller, lane: str
) -> None:
    job_id = add(server.queue, lane)
    claim = puller.claim()
    assert puller.post(claim, "release").json()["status"] == "pending"
    assert puller.post(claim, "release").status_code == 200
    again = puller.claim()
    assert (again["job"]["id"], again["attempt"]) == (job_id, 2)
    assert puller.post(claim, "release").status_code == 200, "the same once more, however late"
    assert puller.post(claim, "complete").json()["code"] == "claim_lost"
    job = server.queue.get(job_id)
    assert (job.status, job.failures, job.crashes) == (JobStatus.RUNNING, 0, 0)


def test_a_long_poll_is_answered_when_a_job_comes(
    server: WebServer, puller: Puller, lane: str
) -> None:
    found: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: found.append(puller.ask(wait=20)))
    thread.start()
    _until_listening(server.queue)
    begin = time.monotonic()
    add(server.queue, lane)
    thread.join(timeout=10)
    assert found[0].status_code == 200
    assert time.monotonic() - begin < 0.9, "by a wake-up, not by polling once a second"


def _until_listening(queue: JobQueue) -> None:
    """Wait until the server has taken the request: it has no one else to wait for."""
    deadline = time.monotonic() + 5
    folder = queue.settings.database.parent
    while not list(folder.glob("*.supervisors/serve-*.lock")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)


def test_several_that_wait_for_the_same_take_turns(
    server: WebServer, client: httpx2.Client, lane: str
) -> None:
    pullers = [Puller(client, queues=[lane]) for _ in range(4)]
    found: list[int] = []

    def run(puller: Puller) -> None:
        found.append(puller.claim(wait=20)["job"]["id"])

    threads = [threading.Thread(target=run, args=(each,)) for each in pullers]
    for thread in threads:
        thread.start()
    added = [add(server.queue, lane) for _ in threads]
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(found) == added


def test_a_long_poll_ends_with_its_time(puller: Puller) -> None:
    begin = time.monotonic()
    assert puller.ask(wait=0.1).status_code == 204
    assert 0.09 < time.monotonic() - begin < 5


def test_what_a_caller_that_is_gone_waited_for_goes_to_another(
    server: WebServer, puller: Puller, lane: str
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        puller.client.post(BASE, json={**puller.ids, **puller.options, "wait": 30}, timeout=0.15)
    job_id = add(server.queue, lane)
    claim = puller.claim(wait=20)
    assert (claim["job"]["id"], claim["attempt"]) == (job_id, 1)
    assert [each.outcome for each in server.queue.attempts(job_id)] == [None]


def test_several_are_claimed_at_once(server: WebServer, puller: Puller, lane: str) -> None:
    ids = [add(server.queue, lane) for _ in range(3)]
    claims = puller.ask(limit=2).json()["claims"]
    assert [each["job"]["id"] for each in claims] == ids[:2]
    assert len(puller.ask(limit=100).json()["claims"]) == 1


def test_a_heartbeat_names_what_is_held_and_what_is_to_stop(
    server: WebServer, puller: Puller, lane: str
) -> None:
    ids = [add(server.queue, lane) for _ in range(2)]
    claims = puller.ask(limit=2).json()["claims"]
    held = puller.held(lease=600)
    assert {each["claim"] for each in held} == {each["claim"] for each in claims}
    assert not any(each["cancel_requested"] for each in held)
    until = [each.lease_until for job_id in ids for each in server.queue.attempts(job_id)]
    assert min(until) > server.queue.now() + timedelta(seconds=500)
    server.queue.cancel(ids[0])
    assert {each["claim"]: each["cancel_requested"] for each in puller.held()} == {
        claims[0]["claim"]: True,
        claims[1]["claim"]: False,
    }
    stopped = puller.post(claims[0], "fail", {"error": "stopped"})
    assert stopped.json()["status"] == "cancelled"
    assert [each["claim"] for each in puller.held()] == [claims[1]["claim"]]


def test_progress_is_noted(server: WebServer, puller: Puller, lane: str) -> None:
    job_id = add(server.queue, lane)
    claim = puller.claim()
    body = {"done": 1, "total": 4.0, "message": "a quarter"}
    assert puller.post(claim, "progress", body).status_code == 204
    progress = server.queue.get(job_id).progress
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (1, 4, "a quarter")
    puller.post(claim, "complete")
    assert puller.post(claim, "progress", body).json()["code"] == "claim_lost"


def test_an_expired_lease_is_a_crash(server: WebServer, puller: Puller, lane: str) -> None:
    job_id = add(server.queue, lane, retry_base=0.01)
    claim = puller.claim(lease=60)
    backend = backend_of(server.queue)
    (attempt,) = server.queue.attempts(job_id)
    backend.heartbeat(attempt.supervisor, timedelta(seconds=-60), backend.now())
    server.queue.claim(lane, owner="another", types=["none"])  # which recovers first
    assert server.queue.get(job_id).crashes == 1
    for verb, body in (("complete", {}), ("fail", {"error": "x"}), ("release", {})):
        refused = puller.post(claim, verb, body)
        assert (refused.status_code, refused.json()["code"]) == (409, "claim_lost"), verb
    assert puller.put(claim, b"late", 0).json()["code"] == "claim_lost"
    assert puller.held() == []


# -- output ----------------------------------------------------------------------------------


def written(queue: JobQueue, job_id: int, name: str = STDOUT) -> bytes:
    log = queue.logs.open(queue.get(job_id))
    assert log is not None
    with log, log.read(name) as file:
        return b"" if file is None else file.read_all()


def test_output_is_appended_once(server: WebServer, puller: Puller, lane: str) -> None:
    job_id = add(server.queue, lane)
    claim = puller.claim()
    assert puller.put(claim, b"", 0).json() == {"end": 0}
    assert puller.put(claim, b"one\n", 0).json() == {"end": 4}
    assert puller.put(claim, b"one\n", 0).json() == {"end": 4}, "sent before"
    assert puller.put(claim, b"e\ntwo\n", 2).json() == {"end": 8}, "half of it sent before"
    assert puller.put(claim, b"on", 0).json() == {"end": 8}
    gap = puller.put(claim, b"four\n", 13)
    assert (gap.status_code, gap.json()["code"], gap.json()["end"]) == (409, "log_gap", 8)
    assert puller.put(claim, b"oops\n", 0, "stderr").json() == {"end": 5}
    assert written(server.queue, job_id) == b"one\ntwo\n"
    puller.post(claim, "fail", {"error": "x"})
    assert puller.put(claim, b"late", 8).json()["code"] == "claim_lost"


def test_offsets_are_those_of_the_attempt(server: WebServer, puller: Puller, lane: str) -> None:
    job_id = add(server.queue, lane)
    first = puller.claim()
    puller.put(first, b"first\n", 0)
    puller.post(first, "release")
    second = puller.claim()
    assert puller.put(second, b"2nd\n", 0).json() == {"end": 4}
    assert written(server.queue, job_id) == b"first\n2nd\n"
    assert server.queue.attempts(job_id)[1].offsets.stdout == 6


def test_output_of_many_callers_at_once_is_there_once(
    server: WebServer, puller: Puller, lane: str
) -> None:
    job_id = add(server.queue, lane)
    claim = puller.claim()
    data = bytes(range(256)) * 40

    def send(begin: int) -> None:
        for offset in range(begin, len(data), 1024):
            while puller.put(claim, data[offset : offset + 1024], offset).status_code == 409:
                pass

    threads = [threading.Thread(target=send, args=(begin,)) for begin in (0, 0, 1024)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert written(server.queue, job_id) == data


def test_output_is_shipped_where_hosts_lack_each_others_files(
    server: WebServer, puller: Puller, lane: str
) -> None:
    if not server.queue.ships_logs:
        pytest.skip("files are seen by all")
    job_id = add(server.queue, lane)
    claim = puller.claim()
    puller.put(claim, b"one\n", 0)
    puller.post(claim, "complete")
    parts, _ = backend_of(server.queue).logs.shipped(job_id)
    files = {part.file: part.data for part in parts}
    assert files[STDOUT] == b"one\n"
    assert b'"finished"' in files[EVENTS]


def test_a_log_keeps_to_its_limit(make_app: Callable[..., App]) -> None:
    app = make_app(SETTINGS + "\n[logs]\nmax_bytes = 65536\n")
    job_id = app.queue.add("shell", {"argv": ["true"]}).id
    headers = {"Authorization": f"Bearer {app.token('worker')}"}
    app.client.headers.update(headers)
    puller = Puller(app.client)
    claim = puller.claim()
    line = b"0123456789abcde\n"
    for offset in range(0, 400_000, 40_000):
        assert puller.put(claim, line * 2500, offset).json() == {"end": offset + 40_000}
    assert puller.put(claim, b"end\n", 400_000).json() == {"end": 400_004}
    puller.post(claim, "complete")
    log = app.queue.logs.open(app.queue.get(job_id))
    assert log is not None
    with log:
        assert log.size(STDOUT) == 400_004
        assert log.stored_size(STDOUT) < 70_000, "an ordinary file, once the job has ended"
        with log.read(EVENTS) as file:
            assert file is not None
            assert b"log_trimmed" in file.read_all()
    text = written(app.queue, job_id)
    assert text.startswith(line)
    assert text.endswith(b"end\n")
    assert b"bytes were dropped here" in text


def test_a_disk_that_is_nearly_full_takes_no_output(make_app: Callable[..., App]) -> None:
    app = make_app(SETTINGS)
    app.queue.add("shell", {"argv": ["true"]})
    app.client.headers.update({"Authorization": f"Bearer {app.token('worker')}"})
    puller = Puller(app.client)
    claim = puller.claim()
    object.__setattr__(app.queue.settings, "min_free", 1 << 60)
    refused = puller.put(claim, b"one", 0)
    assert (refused.status_code, refused.json()["code"]) == (503, "disk_full")
    assert refused.headers["retry-after"] == "1"
    assert puller.ask().json()["code"] == "disk_full"
    assert puller.put(claim, b"", 0).json() == {"end": 0}
    assert puller.post(claim, "complete").status_code == 200


# -- who may do what -------------------------------------------------------------------------


def test_a_token_claims_from_its_queues_and_types_alone(server: WebServer, lane: str) -> None:
    token = server.token("worker", queues=[lane], types=["shell"])
    puller = Puller(server.client(token))
    other = add(server.queue, "default")
    assert puller.ask().status_code == 204, "without queues: those of the token"
    assert puller.ask(queues=["default"]).json()["code"] == "queues_not_allowed"
    assert puller.ask(types=["shell", "x"]).json()["code"] == "types_not_allowed"
    assert puller.ask(queues=[lane]).status_code == 204
    own = add(server.queue, lane)
    assert puller.claim()["job"]["id"] == own
    server.queue.cancel(other)


def test_a_claim_of_another_is_refused(server: WebServer, puller: Puller, lane: str) -> None:
    add(server.queue, lane)
    claim = puller.claim()
    thief = Puller(server.client(server.token("worker")), queues=[lane])
    for answer in (
        thief.post(claim, "complete"),
        thief.put(claim, b"x", 0),
        thief.post(claim, "progress", {"done": 1}),
        puller.post({"claim": claim["claim"][:-3]}, "complete"),
        puller.post({"claim": server.token()}, "complete"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_claim")
    assert puller.post(claim, "complete").status_code == 200


def test_other_roles_claim_nothing(app: App) -> None:
    for route in router.routes:
        path = route.path.replace("{claim}", "x").replace("{file}", "log")  # type: ignore[attr-defined]
        method = next(iter(route.methods))  # type: ignore[attr-defined]
        answer = app.call(method, path, "read", "operate", "submit")
        assert (answer.status_code, answer.json()["code"]) == (403, "role"), path


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"types": []}, "/types"),
        ({"limit": 0}, "/limit"),
        ({"limit": 101}, "/limit"),
        ({"wait": 61}, "/wait"),
        ({"lease": 0}, "/lease"),
        ({"lease": "2d"}, "/lease"),
        ({"worker": "a:b"}, "/worker"),
        ({"instance": "short"}, "/instance"),
        ({"more": 1}, "/more"),
    ],
)
def test_what_is_asked_for_is_checked(app: App, change: dict[str, Any], pointer: str) -> None:
    body = {"worker": "w", "instance": "i1234567", "types": ["shell"], **change}
    refused = app.call("POST", BASE, "worker", json=body)
    assert refused.status_code == 422
    assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]


def test_a_claim_is_answered_again_by_its_key(server: WebServer, puller: Puller, lane: str) -> None:
    add(server.queue, lane)
    add(server.queue, lane)
    key = {"Idempotency-Key": f"k{time.monotonic_ns()}"}
    first, again = puller.ask(key), puller.ask(key)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert puller.ask(key, limit=2).json()["code"] == "key_reused"
    assert len(puller.held()) == 1


def test_long_polls_end_when_the_server_does(app: App) -> None:
    app.client.headers.update({"Authorization": f"Bearer {app.token('worker')}"})
    puller = Puller(app.client)
    found: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: found.append(puller.ask(wait=50)))
    thread.start()
    _until_listening(app.queue)
    begin = time.monotonic()
    assert app.client.portal is not None
    app.client.portal.call(app.server.leaving.set)
    thread.join(timeout=10)
    assert found[0].status_code == 204
    assert time.monotonic() - begin < 3
    app.client.portal.call(app.server.claiming.wakeups.close)
    assert not list(app.queue.settings.database.parent.glob("*.supervisors/serve-*"))
