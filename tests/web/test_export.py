"""Exports of jobs, and paths of other servers."""

import csv
import io
import json

import pytest

from jobq import JobSpec
from tests.web.conftest import App

EXPORT = "/api/v1/jobs/export"


def test_all_jobs_of_a_selection_are_exported(api: App) -> None:
    api.queue.create_queue("out")
    spec = JobSpec(args={"argv": ["curl", "--token", "hunter2hunter2"]}, queue="out", delay="1h")
    ids = [job.id for job in api.queue.add_many([spec] * 120)]
    lines = api.call("GET", f"{EXPORT}?queue=out", "read").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids
    assert "hunter2hunter2" not in "".join(lines)
    assert "argv" in json.loads(lines[0])["args"]
    newest = api.call("GET", f"{EXPORT}?queue=out&order=-id&limit=3&format=csv", "read")
    assert newest.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(newest.text)))
    assert [int(row["id"]) for row in rows] == ids[:-4:-1]


def test_cells_are_no_formulas(api: App) -> None:
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "plain"]
    for name in names:
        api.queue.add("shell", {"argv": ["true"]}, name=name, tags={"k": "cells"}, delay="1h")
    text = api.call("GET", f"{EXPORT}?format=csv&tag=k%3Dcells", "read").text
    found = [row["name"] for row in csv.DictReader(io.StringIO(text))]
    assert [name.lstrip("'").strip() for name in found] == [name.strip() for name in names]
    assert [name.startswith("'") for name in found] == [True] * 5 + [False]


@pytest.mark.parametrize("query", ["format=xml", "limit=100001", "cursor=x", "status=lost"])
def test_a_wrong_export_is_refused(api: App, query: str) -> None:
    assert api.call("GET", f"{EXPORT}?{query}", "read").status_code == 422


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/jobs", "/api/v1/jobs"),
        ("/api/queues/", "/api/v1/queues"),
        ("/api/jobs/7/retry", "/api/v1/jobs/7/retry"),
        ("/api/jobs?limit=10", "/api/v1/jobs?limit=10"),
        ("/api//evil.example", "/api/v1//evil.example"),
        ("/api/a%0d%0ab", "/api/v1/a%0D%0Ab"),
    ],
)
def test_paths_without_a_version_have_moved(app: App, path: str, target: str) -> None:
    answer = app.client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (308, target)


def test_a_call_without_a_version_arrives(app: App) -> None:
    job = {"type": "shell", "args": {"argv": ["true"]}, "delay": "1h"}
    added = app.call("POST", "/api/jobs", json=job, follow_redirects=True)
    assert added.status_code == 201
    assert app.call("DELETE", f"/api/jobs/{added.json()['id']}").status_code == 308


@pytest.mark.parametrize(
    ("path", "see"),
    [
        ("/api/v1/failed-tasks", "/api/v1/dead"),
        ("/agent/process-async", "POST /api/v1/jobs"),
        ("/api/v1/agent/task-status/3", "/api/v1/jobs/ID"),
        ("/api/v1/queues/3/tasks/next", "POST /api/v1/claims"),
        ("/api/v1/rq/stats", "/api/v1/stats"),
        ("/api/v1/jobs/", "/api/v1/jobs"),
        ("/nothing", None),
    ],
)
def test_other_paths_say_what_to_call(app: App, path: str, see: str | None) -> None:
    answer = app.call("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_path")
    assert answer.json().get("see") == see


def test_a_wrong_method_is_still_said(app: App) -> None:
    assert app.call("PUT", "/api/v1/queues", json={}).status_code == 405
    assert app.call("GET", "/api/v1/jobs/7", "read").json()["code"] == "not_found"
