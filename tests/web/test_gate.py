import pytest

from jobq.config.settings import Serve
from jobq.web.gate import origins_of
from tests.web.conftest import App

JOB = {"type": "shell", "args": {"argv": ["true"]}, "delay": "1h"}


@pytest.mark.parametrize(
    "host", ["evil.com", "localhost.evil.com", "0.0.0.0:5627", "127.0.0.1", "a/?x=", "localhost:1"]
)
def test_other_hosts_are_refused_before_the_token(app: App, host: str) -> None:
    answer = app.client.get("/api/v1/session", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (400, "host")


@pytest.mark.parametrize("host", ["127.0.0.1:5627", "LOCALHOST:5627", "[::1]:5627"])
def test_hosts_of_this_machine_are_known(app: App, host: str) -> None:
    assert app.client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.com"}, "origin"),
        ({"Origin": "null"}, "origin"),
        ({"Origin": "http://localhost:8888"}, "origin"),
        ({"Origin": "https://127.0.0.1:5627"}, "origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_site"),
        ({"Sec-Fetch-Site": "same-site"}, "cross_site"),
    ],
)
def test_pages_of_others_change_nothing(app: App, headers: dict[str, str], code: str) -> None:
    answer = app.call("POST", "/api/v1/jobs", json=JOB, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert app.queue.find() == []


def test_its_own_page_may(app: App) -> None:
    own = {"Origin": "http://127.0.0.1:5627", "Sec-Fetch-Site": "same-origin"}
    assert app.call("POST", "/api/v1/jobs", json=JOB, headers=own).status_code == 201


def test_other_sites_may_only_lead_to_the_page(app: App) -> None:
    there = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert app.client.get("/", headers=there).status_code == 200
    assert app.client.get("/livez", headers=there).status_code == 403
    framed = there | {"Sec-Fetch-Dest": "iframe"}
    assert app.client.get("/", headers=framed).status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_form_can_send_is_no_json(app: App, kind: str) -> None:
    body = b'{"type": "shell", "args": {"argv": ["true"]}}'
    answer = app.call("POST", "/api/v1/jobs", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert app.queue.find() == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "Expecting"),
        (b'{"type": "a", "type": "b"}', "twice"),
        (b'{"type": NaN}', "NaN"),
        (b'{"type": 1e999}', "too large"),
        (b'{"type": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"type": ' + b"[" * 101 + b"]" * 101 + b"}", "100 deep"),
        (b"[" * 10_000, "100 deep"),
        (b'{"type": "\xff"}', "UTF-8"),
        (b'{"type": "\\ud800"}', "surrogate"),
    ],
)
def test_ambiguous_json_is_malformed(app: App, body: bytes, why: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = app.call("POST", "/api/v1/jobs", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert why in answer.json()["detail"]


def test_a_body_has_a_megabyte_at_most(app: App) -> None:
    headers = {"Content-Type": "application/json"}
    long = b'"' + b"x" * (1 << 20) + b'"'
    assert app.call("POST", "/api/v1/jobs", content=long, headers=headers).status_code == 413
    pieces = (b"x" * 65536 for _ in range(17))
    assert app.call("POST", "/api/v1/jobs", content=pieces, headers=headers).status_code == 413


def test_validation_names_the_field_and_never_repeats_the_input(app: App) -> None:
    job = {**JOB, "priority": ["hunter2"], "password": "hunter2"}
    answer = app.call("POST", "/api/v1/jobs", json=job)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert {each["pointer"] for each in answer.json()["errors"]} == {"/priority", "/password"}
    assert "hunter2" not in answer.text


def test_a_bug_is_a_problem_without_its_text(
    app: App, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_: list[int]) -> None:
        raise RuntimeError("2retnuh"[::-1])

    monkeypatch.setattr(app.queue, "get_many", broken)
    answer = app.call("GET", "/api/v1/jobs/1")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "hunter2" not in answer.text + capfd.readouterr().err
    assert app.call("GET", "/api/v1/session").status_code == 200


def test_every_answer_has_the_headers_that_keep_it_private(app: App) -> None:
    for answer in (app.client.get("/nowhere"), app.call("GET", "/api/v1/session")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_the_access_line_has_the_route_and_never_the_path(app: App) -> None:
    app.call("GET", "/api/v1/jobs/4711?text=hunter2", "read")
    app.client.get("/hunter2")
    assert app.lines[0].startswith("GET /api/v1/jobs/{id} 422 ") or " 404 " in app.lines[0]
    assert "hunter2" not in "".join(app.lines)


def test_names_of_its_own_are_those_configured() -> None:
    origins = origins_of(Serve(hosts=("jobs.lan",), public_url="https://jobs.example"), 5627)
    for host in ("jobs.lan", "jobs.lan:5627", "jobs.example", "jobs.example:443"):
        assert origins.knows_host(host)
    assert origins.knows("https://jobs.example", "jobs.example")
    assert not origins.knows("http://jobs.example", "jobs.example")
    assert not origins.knows("http://127.0.0.1:5627", "localhost:5627")
    assert not origins_of(Serve(host="0.0.0.0"), 5627).knows_host("0.0.0.0:5627")
