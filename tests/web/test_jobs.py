"""Jobs over HTTP: added once, listed in pages, read, changed and copied."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from jobq import JobSpec
from jobq.secret_text import REDACTED
from jobq.web import schemas
from tests.web.conftest import App

SHELL = {"type": "shell", "args": {"argv": ["true"]}, "delay": "1h"}


def add(api: App, **fields: Any) -> dict[str, Any]:
    answer = api.call("POST", "/api/v1/jobs", json={**SHELL, **fields})
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def pages(api: App, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.call("GET", f"/api/v1/jobs?{query}{cursor and f'&cursor={cursor}'}", "read")
        assert page.status_code == 200, page.text
        found.append(page.json())
        cursor = found[-1]["next"]
    return found


# -- adding ----------------------------------------------------------------------------------


def test_a_hundred_requests_with_one_key_add_one_job(api: App) -> None:
    headers = {"Idempotency-Key": "only-once", "Authorization": f"Bearer {api.token('submit')}"}
    start = threading.Barrier(10)

    def send(number: int) -> httpx2.Response:
        if number < 10:
            start.wait()
        return api.client.post("/api/v1/jobs", json=SHELL, headers=headers)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(send, range(100)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 99}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replayed = [answer for answer in answers if "idempotency-replayed" in answer.headers]
    assert len(replayed) == 99
    assert not any(answer.json()["existing"] for answer in answers)
    other = api.client.post("/api/v1/jobs", json={**SHELL, "priority": 7}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def test_keys_are_their_tokens_own(api: App) -> None:
    first, second = (
        api.client.post(
            "/api/v1/jobs",
            json=SHELL,
            headers={"Idempotency-Key": "mine", "Authorization": f"Bearer {token}"},
        )
        for token in (api.token("submit"), api.token("submit"))
    )
    assert first.status_code == second.status_code == 201
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize("key", ["", "k" * 201, "a\x01b"])
def test_a_key_that_is_none_is_refused(api: App, key: str) -> None:
    answer = api.call("POST", "/api/v1/jobs", json=SHELL, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_every_wrong_field_of_a_job_is_named(api: App) -> None:
    wrong = {**SHELL, "priority": 99, "timeout": "10m", "unique": "", "args": {"argv": "no"}}
    answer = api.call("POST", "/api/v1/jobs", json=wrong)
    assert answer.status_code == 422
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert "/priority" in pointers
    nowhere = api.call("POST", "/api/v1/jobs", json={**SHELL, "queue": "nowhere"})
    assert nowhere.status_code == 404
    assert nowhere.json()["errors"][0]["pointer"] == "/queue"


def test_a_batch_adds_all_or_none(api: App) -> None:
    before = sum(api.queue.counts().values())
    batch = {"jobs": [{**SHELL, "key": "a"}, {**SHELL, "after": ["a"]}]}
    dry = api.call("POST", "/api/v1/jobs/batch", json={**batch, "dry_run": True})
    assert (dry.status_code, sum(api.queue.counts().values())) == (200, before)
    added = api.call("POST", "/api/v1/jobs/batch", json=batch)
    assert added.status_code == 201
    first, second = (job["id"] for job in added.json()["jobs"])
    assert [parent.id for parent in api.queue.get(second).parents] == [first]
    wrong = {"jobs": [SHELL, {**SHELL, "priority": -1}]}
    for document in (wrong, {**wrong, "dry_run": True}):
        answer = api.call("POST", "/api/v1/jobs/batch", json=document)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/jobs/1/priority"
    other = {"jobs": [SHELL, {"type": "cleanup"}]}
    refused = api.call("POST", "/api/v1/jobs/batch", json=other)
    assert (refused.status_code, refused.json()["code"]) == (403, "type_not_allowed")
    assert refused.json()["errors"][0]["pointer"] == "/jobs/1/type"
    assert sum(api.queue.counts().values()) == before + 2


def test_a_batch_with_a_key_is_added_once(api: App) -> None:
    headers = {"Idempotency-Key": "batch", "Authorization": f"Bearer {api.token('submit')}"}
    first, second, other = (
        api.client.post("/api/v1/jobs/batch", json={"jobs": [SHELL] * number}, headers=headers)
        for number in (3, 3, 2)
    )
    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 422)
    ids = [[job["id"] for job in answer.json()["jobs"]] for answer in (first, second)]
    assert ids[0] == ids[1]
    assert other.json()["code"] == "key_reused"


# -- lists -----------------------------------------------------------------------------------


def test_a_walk_through_jobs_of_one_moment_sees_each_once(api: App) -> None:
    api.queue.create_queue("walk")
    ids = {
        job.id for job in api.queue.add_many([JobSpec(args={"argv": ["x"]}, queue="walk")] * 2000)
    }
    newest = pages(api, "queue=walk&limit=200")
    found = [job["id"] for page in newest for job in page["jobs"]]
    assert found == sorted(ids, reverse=True)
    assert {page["total"] for page in newest} == {2000}
    assert [page["looked"]["complete"] for page in newest] == [False] * (len(newest) - 1) + [True]
    api.queue.cancel_many(sorted(ids))
    ended = pages(api, "queue=walk&limit=200&order=-finished")
    assert Counter(job["id"] for page in ended for job in page["jobs"]) == Counter(ids)


def test_a_rare_text_is_found_in_pieces(api: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq.web.selection.PAGE_TIME_S", 0.0)
    api.queue.create_queue("pieces")
    api.queue.add_many([JobSpec(args={"argv": ["needle"]}, queue="pieces", delay="1h")])
    api.queue.add_many([JobSpec(args={"argv": ["hay"]}, queue="pieces", delay="1h")] * 1100)
    found = pages(api, "q=queue:pieces+NEEDLE")
    assert len(found) > 2
    assert [len(page["jobs"]) for page in found].count(1) == 1
    assert found[0]["looked"] == {
        "rows": found[0]["looked"]["rows"],
        "to_id": found[0]["looked"]["to_id"],
        "complete": False,
    }
    assert found[0]["jobs"] == []
    assert found[-1]["looked"]["complete"]


def test_lists_are_light(api: App) -> None:
    job = add(api, name="n" * 400, tags={"k": "light"})
    (light,) = (job for page in pages(api, "tag=k%3Dlight") for job in page["jobs"])
    assert light["id"] == job["id"]
    assert not light.keys() & {"args", "result", "parents"}
    assert len(light["name"]) < 350


def test_documents_have_the_fields_of_their_models(api: App) -> None:
    whole = add(api, tags={"k": "models"})
    assert whole.keys() == schemas.AddedJob.model_fields.keys()
    (light,) = (job for page in pages(api, "tag=k%3Dmodels") for job in page["jobs"])
    assert light.keys() == schemas.LightJob.model_fields.keys()
    schemas.LightJob.model_validate(light)
    schemas.AddedJob.model_validate(whole)


def test_a_list_shows_each_state_of_a_job(api: App) -> None:
    api.queue.create_queue("states")
    job = add(api, queue="states")
    path = "/api/v1/jobs?queue=states"
    first, again = (api.call("GET", path, "read").json() for _ in range(2))
    assert first["jobs"] == again["jobs"]
    assert first["jobs"][0]["can"] == ["cancel", "clone"]
    for reason in ("first", "second"):
        api.queue.cancel(job["id"], reason)
        (light,) = api.call("GET", path, "read").json()["jobs"]
        assert (light["reason"], light["can"]) == (reason, ["retry", "delete", "clone"])
        api.queue.retry(job["id"])


def test_a_search_sees_what_is_shown(api: App) -> None:
    api.queue.create_queue("secrets")
    argv = ["curl", "--token", "hunter2hunter2"]
    api.queue.add("shell", {"argv": argv}, queue="secrets", delay="1h")
    assert len(pages(api, "queue=secrets&text=curl")[0]["jobs"]) == 1
    assert pages(api, "queue=secrets&text=hunter2hunter2")[0]["jobs"] == []
    assert pages(api, "q=queue:secrets+args.argv:hunter2hunter2")[0]["jobs"] == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("sort=id;DROP", "query:sort"),
        ("limit=0", "query:limit"),
        ("limit=201", "query:limit"),
        ("limit=-1", "query:limit"),
        ("order=priority", "query:order"),
        ("status=lost", "query:status"),
        ("since=99999999d", "query:since"),
        ("since=9999-99-99", "query:since"),
        ("tag=novalue", "query:tag"),
        ("ids=1-99999999", "query:ids"),
        ("q=%22*+OR", "query:q"),
        ("q=owner:me", "query:q"),
        ("q=queue:a&queue=b", "query:q"),
        ("q=" + "x+" * 5000, "query:q"),
        ("q=" + "x+" * 21, "query:q"),
    ],
)
def test_a_wrong_filter_is_named(api: App, query: str, pointer: str) -> None:
    answer = api.call("GET", f"/api/v1/jobs?{query}", "read")
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("text", ["%25", "_", "*", "%00", "'%3B--", "%5C"])
def test_texts_are_literal(api: App, text: str) -> None:
    add(api)
    found = [job for page in pages(api, f"queue=default&text={text}") for job in page["jobs"]]
    assert found == []


def test_a_cursor_belongs_to_its_filter(api: App) -> None:
    for _ in range(2):
        add(api)
    cursor = api.call("GET", "/api/v1/jobs?limit=1", "read").json()["next"]
    for query in (
        f"limit=1&order=id&cursor={cursor}",
        f"queue=q&cursor={cursor}",
        "cursor=%00",
        "cursor=W10",
        "cursor=é",
        "cursor=" + "A" * 400,
    ):
        answer = api.call("GET", f"/api/v1/jobs?{query}", "read")
        assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid"), query


# -- one job ---------------------------------------------------------------------------------


def test_a_job_is_read_with_what_is_asked_for(api: App) -> None:
    api.queue.create_queue("read")
    job = api.queue.add("shell", {"argv": ["true"]}, queue="read")
    claim = api.queue.claim("read", owner="test")
    assert claim is not None
    assert api.queue.complete(claim, {"n": 12345678901234567890})
    path = f"/api/v1/jobs/{job.id}"
    plain = api.call("GET", path, "read")
    whole = api.call("GET", f"{path}?include=history,explain,text", "read").json()
    assert [attempt["outcome"] for attempt in whole["history"]] == ["completed"]
    assert whole["explain"][0]["code"] == "completed"
    assert whole["text"]["result"] == '{\n  "n": 12345678901234567890\n}'
    assert plain.json().keys() == whole.keys() - {"history", "explain", "text"}
    attempts = api.call("GET", f"{path}/attempts", "read").json()
    assert attempts == {"id": job.id, "history": whole["history"]}
    explained = api.call("GET", f"{path}/explain", "read").json()
    assert explained["reasons"][0]["code"] == "completed"
    assert api.call("GET", f"{path}?include=secrets", "read").status_code == 422
    assert api.call("GET", f"{path}?wait=61", "read").status_code == 422


def test_a_wait_ends_with_the_job(api: App) -> None:
    job = add(api)
    timer = threading.Timer(0.15, lambda: api.queue.cancel(job["id"]))
    timer.start()
    answer = api.call("GET", f"/api/v1/jobs/{job['id']}?wait=30", "read").json()
    timer.join()
    assert answer["status"] == "cancelled"
    assert api.call("GET", f"/api/v1/jobs/{add(api)['id']}?wait=0.01", "read").json()["status"] == (
        "scheduled"
    )


@pytest.mark.parametrize("job_id", ["0", "-1", "1e9", "..%2f1", "9007199254740992", "1%00", "x"])
def test_what_is_no_id_is_no_job(api: App, job_id: str) -> None:
    answer = api.call("GET", f"/api/v1/jobs/{job_id}", "read")
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


# -- changes ---------------------------------------------------------------------------------


def test_cancel_retry_and_delete(api: App) -> None:
    job = api.queue.get(add(api)["id"])
    path = f"/api/v1/jobs/{job.id}"
    with api.queue.logs.create(job):
        assert api.queue.logs.path(job.id).exists()
    early = api.call("POST", f"{path}/delete")
    assert (early.status_code, early.json()["code"]) == (409, "wrong_state")
    cancelled = api.call("POST", f"{path}/cancel", json={"reason": "not needed"})
    assert (cancelled.status_code, cancelled.json()["reason"]) == (200, "not needed")
    assert api.call("DELETE", path).status_code == 409
    retried = api.call("POST", f"{path}/retry")
    assert (retried.status_code, retried.json()["status"]) == (200, "pending")
    assert api.call("POST", f"{path}/retry").status_code == 409
    stopped = api.call("DELETE", path)
    assert (stopped.status_code, stopped.json()["status"]) == (200, "cancelled")
    assert api.call("POST", f"{path}/delete").status_code == 204
    assert not api.queue.logs.path(job.id).exists()
    for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("POST", "/delete")):
        assert api.call(method, path + end).status_code == 404


def test_a_running_job_is_asked_to_stop(api: App) -> None:
    api.queue.create_queue("running")
    job = api.queue.add("shell", {"argv": ["true"]}, queue="running")
    claim = api.queue.claim("running", owner="test")
    assert claim is not None
    tag = api.call("GET", f"/api/v1/jobs/{job.id}").headers["etag"]
    answer = api.call("POST", f"/api/v1/jobs/{job.id}/cancel", headers={"If-Match": tag})
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    api.queue.complete(claim)


def test_a_retry_says_what_is_in_its_way(api: App) -> None:
    first = add(api, unique="held")
    api.queue.cancel(first["id"])
    holder = add(api, unique="held")
    answer = api.call("POST", f"/api/v1/jobs/{first['id']}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "key_taken")
    api.queue.cancel(holder["id"])
    child = add(api, after=[holder["id"]])
    answer = api.call("POST", f"/api/v1/jobs/{child['id']}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "parent_excludes")


def test_a_change_can_depend_on_what_was_read(api: App) -> None:
    path = f"/api/v1/jobs/{add(api)['id']}"
    for tagged in (path, f"{path}?include=text"):
        tag = api.call("GET", tagged).headers["etag"]
        same = api.call("GET", tagged, headers={"If-None-Match": tag})
        assert (same.status_code, same.text) == (304, "")
        stale = api.call("DELETE", path, headers={"If-Match": '"other"'})
        assert (stale.status_code, stale.json()["code"]) == (412, "changed")
        assert api.call("DELETE", path, headers={"If-Match": tag}).status_code == 200
        again = api.call("POST", f"{path}/retry", headers={"If-Match": tag})
        assert again.status_code == 412
        api.queue.retry(int(path.rpartition("/")[2]))


def test_a_clone_is_a_copy_with_changes(api: App) -> None:
    secret = "hunter2hunter2"
    job = api.queue.add(
        "shell",
        {"argv": ["curl", "--token", secret], "env": {"OTHER": "1"}},
        delay="1h",
        tags={"a": "b"},
        unique="clone-me",
    )
    path = f"/api/v1/jobs/{job.id}"
    shown = api.call("GET", path).json()
    assert secret not in str(shown)
    answer = api.call("POST", f"{path}/clone", json={"priority": 9, "args": shown["args"]})
    assert answer.status_code == 201, answer.text
    clone = api.queue.get(answer.json()["id"])
    assert (clone.args, clone.priority, clone.unique_key) == (job.args, 9, None)
    assert clone.tags["a"] == "b"
    assert clone.tags["jobq:via"] == "http"
    assert api.call("POST", f"{path}/clone").status_code == 201


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"args": {"argv": ["wget", "--token", REDACTED]}}, "redacted"),
        ({"args": {"argv": ["x"], "env": {"LD_PRELOAD": "x"}}}, "not_allowed"),
        ({"tags": {"jobq:via": "shell"}}, "not_allowed"),
        ({"type": "example"}, "invalid"),
    ],
)
def test_a_clone_does_not_carry_secrets_elsewhere(
    api: App, changes: dict[str, Any], code: str
) -> None:
    job = api.queue.add("shell", {"argv": ["curl", "--token", "hunter2hunter2"]}, delay="1h")
    answer = api.call("POST", f"/api/v1/jobs/{job.id}/clone", json=changes)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_one_who_only_adds_copies_its_own_jobs_alone(api: App) -> None:
    job = add(api)
    assert api.call("POST", f"/api/v1/jobs/{job['id']}/clone", "submit").status_code == 404
    token = {"Authorization": f"Bearer {api.token('submit')}"}
    own = api.client.post("/api/v1/jobs", json=SHELL, headers=token).json()["id"]
    for method, end in (("POST", "/clone"), ("GET", "/attempts"), ("GET", "/explain")):
        answer = api.client.request(method, f"/api/v1/jobs/{own}{end}", headers=token)
        assert answer.status_code < 300, answer.text
    assert api.client.get("/api/v1/jobs", headers=token).status_code == 403


def test_times_are_of_the_first_page(api: App) -> None:
    from jobq.backends.lists import Position
    from jobq.web.selection import Cursor, parse_cursor

    cursor = Cursor("d", datetime(2026, 1, 1, tzinfo=UTC), Position(7, datetime.now(UTC)))
    assert parse_cursor(cursor.text(), "d") == cursor
