"""Queues, types, workers and the audit log over HTTP."""

from typing import Any

import pytest

from jobq.web.routers.queues import QueueOut
from tests.web.conftest import App


def test_the_life_of_a_queue(api: App) -> None:
    path = "/api/v1/queues/plans"
    limits = {"max_concurrent": 3, "priority": "high", "rate": "10/min", "timeout": "5m"}
    made = api.call("POST", "/api/v1/queues", "operate", json={"name": "plans", **limits})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == path
    assert made.json()["max_concurrent"] == 3
    assert made.json()["timeout"] == 300
    again = api.call("POST", "/api/v1/queues", "operate", json={"name": "plans"})
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    api.queue.add("shell", {"argv": ["true"]}, queue="plans", delay="1h")
    shown = api.call("GET", path, "read").json()
    assert shown["counts"] == {"scheduled": 1}
    assert shown.keys() == QueueOut.model_fields.keys()
    assert shown in api.call("GET", "/api/v1/queues", "read").json()["queues"]
    changed = api.call("PATCH", path, "operate", json={"max_concurrent": None}).json()
    assert (changed["max_concurrent"], changed["rate"]) == (None, "10/min")
    assert api.call("POST", f"{path}/pause", "operate").json()["paused"] is True
    assert api.queue.queue("plans").paused
    assert api.call("POST", f"{path}/resume", "operate").json()["paused"] is False
    full = api.call("DELETE", path, "operate")
    assert (full.status_code, full.json()["code"]) == (409, "wrong_state")
    job = api.queue.find(queue="plans")[0]
    api.queue.cancel(job.id)
    api.queue.delete([job.id])
    assert api.call("DELETE", path, "operate").status_code == 204
    for method, end in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause")):
        body: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
        assert api.call(method, path + end, "operate", **body).status_code == 404


def test_a_tag_of_a_queue_is_about_its_limits(api: App) -> None:
    api.queue.create_queue("tagged")
    path = "/api/v1/queues/tagged"
    tag = api.call("GET", path).headers["etag"]
    assert api.call("GET", path, headers={"If-None-Match": tag}).status_code == 304
    api.queue.add("shell", {"argv": ["true"]}, queue="tagged", delay="1h")
    assert api.call("GET", path, headers={"If-None-Match": tag}).status_code == 200
    changed = api.call("PATCH", path, json={"priority": 7}, headers={"If-Match": tag})
    assert changed.status_code == 200
    stale = api.call("PATCH", path, json={"priority": 8}, headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "changed")
    assert api.queue.queue("tagged").priority == 7
    tag = changed.headers["etag"]
    assert api.call("POST", f"{path}/pause", headers={"If-Match": tag}).status_code == 200


@pytest.mark.parametrize("name", ["foo/bar.baz", "..", "-", "\N{PILE OF POO}", "x" * 65, ""])
def test_what_is_no_name_of_a_queue(api: App, name: str) -> None:
    made = api.call("POST", "/api/v1/queues", json={"name": name})
    assert (made.status_code, made.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"max_concurrent": "3"}, "/max_concurrent"),
        ({"max_concurent": 3}, "/max_concurent"),
        ({"timeout": "soon"}, "/timeout"),
        ({"paused": "yes"}, "/paused"),
    ],
)
def test_a_wrong_limit_is_named(api: App, fields: dict[str, Any], pointer: str) -> None:
    answer = api.call("PATCH", "/api/v1/queues/default", json=fields)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert api.call("PATCH", "/api/v1/queues/default", json={"rate": "fast"}).status_code == 422


def test_types_say_what_may_be_added(app: App) -> None:
    types = app.call("GET", "/api/v1/types", "read").json()["types"]
    submittable = {each["type"] for each in types if each["submittable"]}
    assert submittable == {"shell", "example"} & {each["type"] for each in types}
    shell = app.call("GET", "/api/v1/types/shell", "read").json()
    assert shell in types
    assert "source" not in shell
    assert app.call("GET", "/api/v1/types/nothing", "read").status_code == 404


def test_pull_workers_are_known_by_what_they_hold(api: App) -> None:
    api.queue.create_queue("held")
    job = api.queue.add("shell", {"argv": ["true"]}, queue="held")
    claim = api.queue.claim("held", owner="http:me:worker:a1b2")
    assert claim is not None
    found = api.call("GET", "/api/v1/workers", "read").json()
    assert found["supervisors"] == []
    (worker,) = found["pull_workers"]
    assert (worker["owner"], worker["running"]) == ("http:me:worker:a1b2", [job.id])
    api.queue.complete(claim)
    assert api.call("GET", "/api/v1/workers", "read").json()["pull_workers"] == []


def test_changes_are_audited(app: App) -> None:
    app.call("POST", "/api/v1/queues", json={"name": "audited"})
    app.server.audit.close()  # which writes what waits
    lines = app.call("GET", "/api/v1/audit?limit=1", "operate").json()["lines"]
    assert [(line["action"], line["ids"]) for line in lines] == [("queue create", ["audited"])]
    assert app.call("GET", "/api/v1/audit", "read").status_code == 403
    assert app.call("GET", "/api/v1/audit?limit=0").status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/queues"),
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs/1"),
        ("GET", "/api/v1/types"),
        ("GET", "/api/v1/audit"),
        ("GET", "/api/v1/dead"),
        ("POST", "/api/v1/jobs/1/retry"),
        ("DELETE", "/api/v1/queues/default"),
    ],
)
def test_unknown_parameters_are_refused(api: App, method: str, path: str) -> None:
    answer = api.call(method, f"{path}?dry_run=1")
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["query:dry_run"]
