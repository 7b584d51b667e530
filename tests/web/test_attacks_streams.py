"""Attacks on event streams, by the numbers of the list of attacks."""

import asyncio
import os
import socket
import time
from datetime import timedelta
from typing import Any

import pytest
import uvicorn

from jobq.logs.directory import STDOUT
from jobq.scheduling.schedules import Schedules
from jobq.web.server import ApiProtocol
from tests.support.event_stream import LocalStream
from tests.web.conftest import App

TRUE = {"argv": ["true"]}
SECRET = "hunter2hunter2"
PATH_OF_COUNTS = "/api/v1/events?watch=counts"

HOSTILE_OUTPUT = (
    b"</pre><script>alert(1)</script>\n"
    b"\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07\n"
    b"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[1;1H\n"
    b"C1 \xc2\x9b2J \xc2\x85 NUL \x00 bell \x07 delete \x7f\n"
    b"bidi \xe2\x80\xae\xe2\x81\xa6 \xe2\x80\xa8 \xe2\x80\xa9\n"
    b"bad \xff\xfe\x80 \xc3(\n"
    b"\rdata: x\r\revent: done\r\n\nevent: end\ndata: {}\n\n"
)


def stored(app: App, output: bytes) -> int:
    """Return a job that has ended with this output."""
    job = app.queue.add("shell", TRUE)
    claim = app.queue.claim(owner="writer")
    assert claim is not None
    with app.queue.logs.create(job) as log:
        descriptor = log.append(STDOUT)
        os.write(descriptor, output)
        os.close(descriptor)
    app.queue.complete(claim)
    return job.id


def test_14_hostile_output_stays_text(app: App) -> None:
    job_id = stored(app, HOSTILE_OUTPUT)
    with LocalStream(app, app.token("read"), f"log/{job_id}/stdout") as stream:
        text = stream.until("log").data["text"]
        stream.until("end")
        raw = stream.parser.raw
    assert text == HOSTILE_OUTPUT.decode("utf-8", "replace")
    assert all(byte >= 0x20 or byte == 0x0A for byte in raw)
    sent = raw.decode()
    assert not set(sent) & set(map(chr, [*range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066]))


@pytest.mark.parametrize("cut", range(1, 9))
def test_14_an_escape_sequence_that_is_split_is_put_together(app: App, cut: int) -> None:
    output = b"\x1b[31m\xf0\x9f\xa6\x86\xe2\x82\xac"
    job_id = stored(app, output)
    with LocalStream(app, app.token("read"), f"log/{job_id}/stdout@{cut}") as stream:
        event = stream.until("log").data
    assert (event["from"], event["to"]) == (cut, len(output))
    assert event["text"] == output[cut:].decode("utf-8", "replace")


def test_16_nothing_that_a_job_writes_ends_an_event(app: App) -> None:
    attack = "a\rdata: x\r\revent: done\n\nid: 1\ndata: {}\n\n\x85\u2028\u2029b"
    job = app.queue.add("shell", {"argv": ["echo", attack]}, delay="1h", tags={"t": attack})
    with LocalStream(app, app.token("read"), f"job/{job.id}", f"ids:{job.id}", "ended:") as stream:
        app.queue.cancel(job.id, attack)
        ended = stream.until("ended").data
        full = stream.until("job", lambda data: "args" in data and data["reason"]).data
        found = stream.parser.raw.decode()
    assert full["reason"] == ended["reason"] == attack
    assert full["args"]["argv"][1] == full["tags"]["t"] == attack
    assert "\r" not in found
    names = {line for line in found.splitlines() if line.startswith("event:")}
    assert names <= {"event: hello", "event: job", "event: ended"}


def test_27_no_secret_leaves_by_a_stream(app: App) -> None:
    env = {"API_TOKEN": SECRET}
    small = app.queue.add(
        "shell", {"argv": ["curl", f"https://me:{SECRET}@a/"], "env": env}, delay="1h"
    )
    large = app.queue.add("shell", {"argv": ["echo", "x" * 20_000], "env": env}, delay="1h")
    schedule = {"type": "shell", "args": {"argv": ["true"], "env": env}}
    Schedules(app.queue).add("nightly", "0 3 * * *", schedule)
    ids = f"ids:{small.id},{large.id}"
    with LocalStream(
        app, app.token("read"), f"job/{small.id}", ids, "ended:", "counts", "queues", "schedules",
        f"ended:{SECRET}", f"head:{SECRET}@0", f"head:args.env.API_TOKEN:{SECRET}@0",
    ) as stream:  # fmt: skip
        assert stream.until("schedules").data["schedules"]
        heads = [stream.until("head").data["newer"] for _ in range(2)]
        app.queue.cancel_many([small.id, large.id], f"because of {SECRET}")
        ended = [stream.until("ended").data["id"] for _ in range(2)]
        jobs = [stream.until("job", lambda data: data["reason"])]
        while len(jobs) < 3:
            jobs.append(stream.until("job", lambda data: data["reason"]))
        raw = stream.parser.raw.decode()
    assert heads == [0, 0]  # a search that found it would tell it
    assert sorted(ended) == [small.id, large.id]
    assert (
        raw.count(SECRET)
        == 2
        == raw.count(f'"topic":"head:{SECRET}"')
        + raw.count(f'"topic":"head:args.env.API_TOKEN:{SECRET}"')
    )  # what the client has asked for


def test_28_a_slow_reader_has_no_queue(app: App) -> None:
    job = app.queue.add("shell", TRUE, delay="1h")
    with LocalStream(app, app.token("read"), f"ids:{job.id}", "head:@0") as stream:
        stream.until("head")
        stream.block()
        for number in range(20):
            app.queue.add("shell", TRUE, delay="1h")
            if number % 5 == 0:
                time.sleep(0.1)
        stream.unblock()
        newer = [stream.until("head").data["newer"]]
        while newer[-1] < 21:
            newer.append(stream.until("head").data["newer"])
    assert len(newer) <= 3


def test_28_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq.web.server.WRITE_TIMEOUT_S", 0.2)

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not scope["state"]["gone"].is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)

    async def attack() -> float:
        config = uvicorn.Config(endless, http=ApiProtocol, log_config=None, lifespan="off")
        config.load()
        gone = asyncio.Event()
        state = uvicorn.server.ServerState()

        class Noted(ApiProtocol):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                gone.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Noted(config, state, {"gone": gone}), "127.0.0.1", 0
        )
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            started = time.monotonic()
            async with asyncio.timeout(10):
                await gone.wait()
            took = time.monotonic() - started
        server.close()
        return took

    assert asyncio.run(attack()) >= 0.2


def test_28_a_stream_ends_with_its_token(app: App) -> None:
    text, token = app.server.tokens.create("leaks", ["read"], life=timedelta(hours=1))
    other = LocalStream(app, app.token("read"), "counts")
    with LocalStream(app, text, "counts") as stream:
        stream.until("counts")
        app.server.tokens.revoke(token)
        app.ping()
        assert stream.until("bye").data == {"reason": "token", "retry_after": None}
        with pytest.raises(StopIteration):
            stream.next()
    other.until("counts")
    assert app.server.streams.count == 1
    other.close()
    assert app.server.streams.count == 0


def test_29_a_huge_log_is_read_where_it_is_watched(app: App) -> None:
    job_id = stored(app, b"begin\n")
    end = 1 << 30
    with app.queue.logs.create(app.queue.get(job_id)) as log:
        descriptor = log.append(STDOUT)
        os.ftruncate(descriptor, end)  # a line of 1 GB, most of it a hole
        os.write(descriptor, b"\nend\n")
        os.close(descriptor)
    started = time.monotonic()
    with LocalStream(app, app.token("read"), f"log/{job_id}/stdout@{end}") as stream:
        assert stream.until("log").data["text"] == "\nend\n"
    with LocalStream(app, app.token("read"), f"log/{job_id}/stdout@{end // 2}") as stream:
        stream.block()
        first = stream.until("hello")
        stream.unblock()
        piece = stream.until("log").data
        assert first.name == "hello"
        assert piece["to"] - piece["from"] == 1 << 16
    assert time.monotonic() - started < 5


def test_5_a_stream_needs_a_token_that_reads(app: App) -> None:
    assert app.client.get(PATH_OF_COUNTS).status_code == 401
    for role in ("submit", "worker"):
        assert app.call("GET", PATH_OF_COUNTS, role).status_code == 403
    assert app.call("HEAD", PATH_OF_COUNTS, "submit").status_code == 403
