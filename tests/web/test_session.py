import httpx2

from jobq.web.tokens import Role
from tests.support.web_server import WebServer


def test_a_code_is_exchanged_once_for_a_token(server: WebServer) -> None:
    code = server.tokens.create_code([Role.READ, Role.OPERATE])
    anyone = server.client()
    first = anyone.post("/api/v1/session", json={"code": code})
    assert first.status_code == 200
    assert first.json()["roles"] == ["operate", "read"]
    again = anyone.post("/api/v1/session", json={"code": code})
    assert (again.status_code, again.json()["code"]) == (401, "code_invalid")
    me = server.client(first.json()["token"])
    session = me.get("/api/v1/session").json()
    assert session["session"] is True
    assert session["name"].startswith("web-")
    assert "kid" not in session


def test_a_logout_revokes_the_token(server: WebServer) -> None:
    me = server.client(server.token("read"))
    assert me.get("/api/v1/session").status_code == 200
    assert me.delete("/api/v1/session").status_code == 204
    refused = me.get("/api/v1/session")
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")


def test_a_job_is_added_and_read(server: WebServer, client: httpx2.Client) -> None:
    job = {"type": "shell", "args": {"argv": ["true"]}, "delay": "1h", "tags": {"batch": "7"}}
    added = client.post("/api/v1/jobs", json=job)
    assert added.status_code == 201
    document = added.json()
    assert document["existing"] is False
    assert document["status"] == "scheduled"
    assert document["tags"]["batch"] == "7"
    assert document["tags"]["jobq:via"] == "http"
    read = client.get(added.headers["location"])
    assert read.json() == {key: value for key, value in document.items() if key != "existing"}
    assert read.headers["etag"] == added.headers["etag"]
    known = {"If-None-Match": read.headers["etag"]}
    assert client.get(added.headers["location"], headers=known).status_code == 304
    assert server.queue.get(document["id"]).args == {"argv": ["true"]}


def test_the_holder_of_a_unique_key_is_returned(client: httpx2.Client) -> None:
    job = {"type": "shell", "args": {"argv": ["true"]}, "unique": "only", "delay": 3600}
    first, second = (client.post("/api/v1/jobs", json=job) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["existing"] is True
    assert second.json()["id"] == first.json()["id"]


def test_one_who_only_adds_sees_its_own_jobs_alone(
    server: WebServer, client: httpx2.Client
) -> None:
    adder = server.client(server.token("submit"))
    job = {"type": "shell", "args": {"argv": ["true"]}, "delay": "1h"}
    own, other = (each.post("/api/v1/jobs", json=job).json()["id"] for each in (adder, client))
    assert adder.get(f"/api/v1/jobs/{own}").status_code == 200
    assert adder.get(f"/api/v1/jobs/{other}").status_code == 404


def test_it_says_what_it_is_and_how_it_is(client: httpx2.Client, server: WebServer) -> None:
    assert client.get("/api/v1/server").json()["submit"] == ["shell", "example"]
    anyone = server.client()
    assert anyone.get("/livez").text == anyone.get("/readyz").text == "ok\n"
    assert anyone.get("/").status_code == 200
