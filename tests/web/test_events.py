"""Event streams of a real server, on every backend: topics, and going on where a stream was cut off."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobq.logs.directory import STDOUT
from jobq.models import Job
from tests.support.event_stream import PATH, Reader, RemoteStream
from tests.support.web_server import WebServer

TRUE = {"argv": ["true"]}


def work(server: WebServer, *ids: int) -> None:
    """Run all jobs that are ready, in a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "jobq", "work", "--drain"],
        cwd=server.folder, check=True, capture_output=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("JOBQ_")},
    )  # fmt: skip
    for job_id in ids:
        server.queue.wait(job_id, 10)


@pytest.fixture(scope="module")
def ended(server: WebServer) -> Job:
    """A job that has ended, with output."""
    job = server.queue.add("shell", {"argv": ["sh", "-c", "echo one; echo zwölf; echo no >&2"]})
    work(server, job.id)
    return server.queue.get(job.id)


def test_a_stream_says_hello_and_sends_what_is_watched(
    client: httpx2.Client, server: WebServer, ended: Job
) -> None:
    watches = ("counts", "queues", "workers", "schedules", f"job/{ended.id}", "ids:1000-1002")
    with RemoteStream(client, *watches) as stream:
        assert stream.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.answer.headers["cache-control"] == "no-store"
        assert stream.next().data.keys() == {"now", "expires_at"}
        assert stream.parser.raw.startswith(b"retry: 1000\n\n")
        found: dict[str, Any] = {}
        gone: set[int] = set()
        while len(found) < 5 or len(gone) < 3:
            event = stream.next()
            found[event.name] = event.data
            if event.name == "gone":
                gone.add(event.data["id"])
        assert gone == {1000, 1001, 1002}
        assert (
            found["counts"]["counts"]["completed"]
            == found["counts"]["queues"]["default"]["completed"]
        )
        assert found["queues"]["queues"][0]["name"] == "default"
        assert found["job"]["args"] == ended.args
        assert client.get(f"/api/v1/jobs/{ended.id}").json() == found["job"]


def test_states_are_sent_again_when_they_differ(client: httpx2.Client, server: WebServer) -> None:
    queue = server.queue
    job = queue.add("shell", TRUE, delay="1h")
    last = job.id
    with RemoteStream(client, f"ids:{job.id}", "counts", f"head:state:scheduled@{last}") as stream:
        assert stream.until("job").data["status"] == "scheduled"
        assert stream.until("head").data == {
            "topic": "head:state:scheduled", "above": last, "newer": 0,
        }  # fmt: skip
        newer = queue.add("shell", TRUE, delay="1h")
        assert stream.until("head").data["newer"] == 1
        queue.cancel_many([job.id, newer.id])
        assert stream.until("job", lambda data: data["status"] == "cancelled").data["id"] == job.id
        assert stream.until("head", lambda data: data["newer"] == 0)
        queue.delete([job.id])
        assert stream.until("gone").data == {"id": job.id}


def test_ended_jobs_arrive_while_connected_and_after_a_gap(
    client: httpx2.Client, server: WebServer
) -> None:
    queue = server.queue

    def end_one() -> int:
        job = queue.add("shell", TRUE, delay="1h", tags={"feed": "yes"})
        queue.cancel(job.id)
        return job.id

    end_one()
    topic = "ended:state:cancelled tag:feed=yes"
    with RemoteStream(client, topic) as stream:
        stream.until("hello")
        first = end_one()
        seen = stream.until("ended")
        assert (seen.data["id"], seen.data["status"]) == (first, "cancelled")
        assert (seen.data["topic"], "args" in seen.data) == (topic, False)
        last_id = seen.id
    missed = {end_one() for _ in range(5)}
    with RemoteStream(client, topic, last_id=last_id) as stream:
        found: set[int] = set()
        while not missed <= found:
            found.add(stream.until("ended").data["id"])


def test_a_log_is_sent_to_its_end(client: httpx2.Client, ended: Job) -> None:
    topic = f"log/{ended.id}/stdout"
    with RemoteStream(client, topic, f"log/{ended.id}/stderr@1") as stream:
        parts = {}
        ends: set[str] = set()
        while len(ends) < 2:
            event = stream.next()
            if event.name == "log":
                parts[event.data.pop("topic")] = event.data
            elif event.name == "end":
                assert event.data["reason"] == "ended"
                ends.add(event.data["topic"])
        assert parts == {
            topic: {"from": 0, "to": 11, "text": "one\nzwölf\n"},
            f"log/{ended.id}/stderr": {"from": 1, "to": 3, "text": "o\n"},
        }


@pytest.fixture
def writer(server: WebServer) -> Iterator[tuple[int, bytes, threading.Thread]]:
    """A job that runs, its output as it will be, and the thread that writes it in odd pieces."""
    queue = server.queue
    queue.create_queue("logs")
    job = queue.add("shell", TRUE, queue="logs")
    (claim,) = queue.claim_many(["logs"], owner="writer", limit=1)
    output = "".join(
        f"{number} Grüße 🦆 {'x' * (number % 90)}\n" for number in range(4000)
    ).encode()
    done = threading.Event()

    def write() -> None:
        dice = random.Random(1)
        with queue.logs.create(job) as log:
            descriptor = log.append(STDOUT)
            at = 0
            while at < len(output):
                size = dice.randint(1, 4000)
                os.write(descriptor, output[at : at + size])
                at += size
                done.wait(0.005)
            os.close(descriptor)
        queue.complete(claim)

    thread = threading.Thread(target=write)
    yield job.id, output, thread
    done.set()
    if thread.ident:
        thread.join()


def test_no_byte_of_a_log_is_lost_or_sent_twice_however_often_it_is_cut_off(
    server: WebServer, writer: tuple[int, bytes, threading.Thread]
) -> None:
    job_id, output, thread = writer
    token, dice = server.token(), random.Random(2)
    received, last_id, cuts, restarted = "", None, 0, False
    at, is_over = 0, False
    thread.start()
    while not is_over:
        topic = f"log/{job_id}/stdout"
        with RemoteStream(server.client(token), topic, last_id=last_id) as stream:
            for _ in range(dice.randint(2, 8)):
                event = stream.next()
                assert event.name in ("hello", "log", "end"), event
                last_id = event.id
                if event.name == "log":
                    assert event.data["from"] == at
                    received, at = received + event.data["text"], event.data["to"]
                is_over = event.name == "end"
                if is_over:
                    break
        cuts += 1
        if cuts == 2:
            server.stop()
            server.start()
            restarted = True
    assert restarted
    assert received.encode() == output
    assert at == len(output)


def test_curl_reads_a_stream(server: WebServer, ended: Job) -> None:
    url = f"{server.url}{PATH}?watch=log/{ended.id}/stdout@4"
    command = ["curl", "-sN", "--oauth2-bearer", server.token("read"), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        reader = Reader(iter(curl.stdout.readline, b""))
        assert reader.until("log").data["text"] == "zwölf\n"
        assert reader.until("end").data["reason"] == "ended"
        curl.kill()


@pytest.fixture
def own_server(tmp_path: Path, backend_setting: str) -> Iterator[WebServer]:
    settings = '[serve]\nport = 0\nmax_streams = 41\nrate = "10000/s"\n'
    server = WebServer(tmp_path / "own", settings=settings, top=backend_setting)
    yield server
    server.close()


def test_a_shutdown_says_goodbye_to_all_streams_and_is_quick(own_server: WebServer) -> None:
    limits = httpx2.Limits(max_connections=100)
    client = own_server.client(own_server.token(), limits=limits)
    streams = [RemoteStream(client, "counts", "ended:") for _ in range(41)]
    for stream in streams:
        stream.until("counts")
    answer = client.get(PATH, params={"watch": "counts"})
    assert (answer.status_code, answer.json()["code"]) == (503, "no_room")
    assert int(answer.headers["retry-after"]) > 0
    streams.pop().answer.close()
    assert own_server.stop() == 0
    for stream in streams:
        bye = stream.until("bye").data
        assert bye["reason"] == "shutdown"
        assert 1 <= bye["retry_after"] <= 3
        with pytest.raises(StopIteration):
            stream.next()
