"""Schedules over HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from jobq.clock import utcnow
from jobq.scheduling.schedules import Schedules
from jobq.secret_text import REDACTED
from jobq.web.routers.schedules import ScheduleOut
from tests.web.conftest import App

PATH = "/api/v1/schedules"
NIGHTLY = {
    "cron": "30 2 * * *",
    "tz": "Europe/Berlin",
    "type": "shell",
    "args": {"argv": ["true"]},
}


def test_the_life_of_a_schedule(api: App) -> None:
    made = api.call("POST", PATH, json={**NIGHTLY, "name": "nightly", "tags": {"a": "b"}})
    assert made.status_code == 201, made.text
    document = made.json()
    assert document["tags"]["jobq:via"] == "http"
    assert len(document["next_runs"]) == 5
    assert api.call("POST", PATH, json={**NIGHTLY, "name": "nightly"}).status_code == 409
    path = f"{PATH}/nightly"
    ran = api.call("POST", f"{path}/run")
    assert (ran.status_code, ran.json()["tags"]["schedule"]) == (201, "nightly")
    again = api.call("POST", f"{path}/run")
    assert (again.status_code, again.json()["existing"]) == (200, True)
    changed = api.call("PATCH", path, json={"cron": "0 3 * * *", "priority": 7}).json()
    assert (changed["cron"], changed["priority"]) == ("0 3 * * *", 7)
    assert changed["next_runs"] != document["next_runs"]
    assert changed["args"] == {"argv": ["true"]}
    assert changed["tags"] == document["tags"]
    assert api.call("POST", f"{path}/pause").json()["next_runs"] == []
    assert api.call("POST", f"{path}/resume").json()["next_runs"] == changed["next_runs"]
    shown = api.call("GET", path, "read").json()
    assert shown["history"] == []
    assert shown.keys() == ScheduleOut.model_fields.keys()
    assert shown["last_job_id"] == ran.json()["id"]
    assert [each["name"] for each in api.call("GET", PATH, "read").json()["schedules"]] == [
        "nightly"
    ]
    assert api.call("DELETE", path).status_code == 204
    for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/pause")):
        assert api.call(method, path + end).status_code == 404


def test_what_adds_jobs_needs_the_role_for_it(api: App) -> None:
    for method, end in (("POST", ""), ("PATCH", "/x"), ("POST", "/x/run")):
        body = {**NIGHTLY, "name": "x"} if end == "" else {"priority": 3}
        answer = api.call(method, PATH + end, "operate", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "role")
        assert api.call(method, PATH + end, "submit", json=body).status_code == 403
    assert api.call("POST", f"{PATH}/x/pause", "operate").status_code == 404


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cron": "1--100000000 * * * *"}, 422),
        ({"cron": "*/0 * * * *"}, 422),
        ({"tz": "Nowhere/Else"}, 422),
        ({"missed": "maybe"}, 422),
        ({"type": "cleanup"}, 403),
        ({"args": {"argv": ["x"], "env": {"LD_PRELOAD": "x"}}}, 422),
        ({"tags": {"jobq:run": "x"}}, 422),
        ({"unique": "k"}, 422),
        ({"queue": "nowhere"}, 404),
        ({"args": {"nothing": 1}}, 422),
    ],
)
def test_a_wrong_schedule_is_refused(api: App, fields: dict[str, Any], code: int) -> None:
    answer = api.call("POST", PATH, json={**NIGHTLY, "name": "wrong", **fields})
    assert answer.status_code == code, answer.text
    name = f"kept-{len(Schedules(api.queue).all())}"
    assert api.call("POST", PATH, json={**NIGHTLY, "name": name}).status_code == 201
    before = Schedules(api.queue).get(name)
    assert api.call("PATCH", f"{PATH}/{name}", json=fields).status_code == code
    assert Schedules(api.queue).get(name) == before


def test_secrets_of_a_schedule_stay(api: App) -> None:
    args = {"argv": ["curl", "--token", "hunter2hunter2"]}
    Schedules(api.queue).add("secret", "0 4 * * *", {"type": "shell", "args": args})
    path = f"{PATH}/secret"
    shown = api.call("GET", path).json()
    assert "hunter2hunter2" not in str(shown)
    assert api.call("PATCH", path, json={"args": shown["args"], "priority": 8}).status_code == 200
    assert Schedules(api.queue).get("secret").args == args
    moved = api.call("PATCH", path, json={"args": {"argv": ["nc", "--token", REDACTED]}})
    assert (moved.status_code, moved.json()["code"]) == (422, "redacted")


def test_a_tag_of_a_schedule_is_about_what_was_set(api: App) -> None:
    schedules = Schedules(api.queue)
    schedules.add("tagged", "* * * * *", {"type": "shell", "args": {"argv": ["true"]}})
    tag = api.call("GET", f"{PATH}/tagged").headers["etag"]
    schedules.fire_due(utcnow() + timedelta(minutes=2))
    headers = {"If-Match": tag}
    changed = api.call("PATCH", f"{PATH}/tagged", json={"priority": 7}, headers=headers)
    assert changed.status_code == 200, changed.text
    stale = api.call("DELETE", f"{PATH}/tagged", headers=headers)
    assert (stale.status_code, stale.json()["code"]) == (412, "changed")
    history = api.call("GET", f"{PATH}/tagged").json()["history"]
    assert [fired["added"] for fired in history] == [True] * len(history)
