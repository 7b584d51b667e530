"""Many jobs over HTTP: previewed, then changed, and never more than was previewed."""

from typing import Any

import httpx2
import pytest

from jobq import JobSpec
from tests.web.conftest import App

PATH = "/api/v1/jobs/bulk"


def bulk(api: App, **fields: Any) -> httpx2.Response:
    return api.call("POST", PATH, "operate", json=fields)


def fill(api: App, queue: str, number: int) -> list[int]:
    if queue not in api.queue.counts_by_queue():
        api.queue.create_queue(queue)
    spec = JobSpec(args={"argv": ["true"]}, queue=queue, delay="1h")
    return [job.id for job in api.queue.add_many([spec] * number)]


def preview(api: App, **selection: Any) -> dict[str, Any]:
    answer = bulk(api, **selection, dry_run=True)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def carry_out(api: App, **selection: Any) -> list[dict[str, Any]]:
    """Call until there is nothing left; return the answers."""
    selection["preview"] = preview(api, **selection)["preview"]
    answers = [bulk(api, **selection).json()]
    while answers[-1]["next"]:
        answers.append(bulk(api, **selection, cursor=answers[-1]["next"]).json())
    return answers


def test_many_jobs_are_changed_in_several_calls(api: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq.web.routers.bulk.MAX_CALL_JOBS", 100)
    ids = fill(api, "calls", 250)
    seen = preview(api, action="cancel", filter="queue:calls")
    assert (seen["count"], seen["capped"]) == (250, False)
    assert seen["by_status"] == {"scheduled": 250}
    assert [job["id"] for job in seen["sample"]] == ids[:5]
    cancelled = carry_out(api, action="cancel", filter="queue:calls", reason="too many")
    assert [answer["done"] for answer in cancelled] == [100, 100, 50]
    assert [answer["remaining"] for answer in cancelled] == [150, 50, 0]
    assert {job.reason for job in api.queue.find(queue="calls")} == {"too many"}
    assert sum(a["done"] for a in carry_out(api, action="retry", filter="queue:calls")) == 250
    assert carry_out(api, action="delete", filter="queue:calls")[-1]["done"] == 0
    api.queue.cancel_many(ids)
    assert sum(a["done"] for a in carry_out(api, action="delete", filter="queue:calls")) == 250
    assert api.queue.find(queue="calls") == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "invalid"),
        ({"action": "cancel"}, "empty_filter"),
        ({"action": "cancel", "filter": ""}, "empty_filter"),
        ({"action": "cancel", "filter": "  ", "dry_run": True}, "empty_filter"),
        ({"action": "cancel", "ids": []}, "invalid"),
        ({"action": "cancel", "filter": "queue:default"}, "preview_needed"),
        ({"action": "cancel", "ids": list(range(1, 202))}, "preview_needed"),
        ({"action": "cancel", "ids": [1], "filter": "queue:default"}, "invalid"),
        ({"action": "purge", "filter": "queue:default"}, "invalid"),
        ({"action": "cancel", "filter": "owner:me", "dry_run": True}, "invalid"),
    ],
)
def test_what_would_change_too_much_is_refused(api: App, fields: dict[str, Any], code: str) -> None:
    answer = bulk(api, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_no_more_is_changed_than_was_previewed(api: App) -> None:
    first, second, *_ = fill(api, "more", 5)
    api.queue.cancel_many([first, second])
    selection = {"action": "cancel", "filter": "queue:more"}
    seen = preview(api, **selection)
    assert seen["count"] == 3
    fill(api, "more", 2)  # later ones do not count
    api.queue.retry(first)
    stale = bulk(api, **selection, preview=seen["preview"])
    assert (stale.status_code, stale.json()["code"]) == (409, "preview_stale")
    api.queue.cancel(first)
    answer = bulk(api, **selection, preview=seen["preview"]).json()
    assert answer == {"done": 3, "refused": [], "remaining": 0, "next": None}
    assert api.queue.counts_by_queue()["more"] == {"cancelled": 5, "scheduled": 2}


def test_a_preview_is_for_its_selection(api: App) -> None:
    fill(api, "own", 1)
    seen = preview(api, action="cancel", filter="queue:own")["preview"]
    other = bulk(api, action="cancel", filter="queue:default", preview=seen)
    assert (other.status_code, other.json()["code"]) == (422, "preview_other")
    other = bulk(api, action="delete", filter="queue:own", preview=seen)
    assert (other.status_code, other.json()["code"]) == (422, "preview_other")
    forged = bulk(api, action="cancel", filter="queue:own", preview=seen[:-4] + "AAAA")
    assert (forged.status_code, forged.json()["code"]) == (409, "preview_stale")
    token = bulk(api, action="cancel", filter="queue:own", preview=api.token("operate"))
    assert (token.status_code, token.json()["code"]) == (409, "preview_stale")


def test_a_few_ids_need_no_preview(api: App) -> None:
    waiting, ended = fill(api, "ids", 2)
    api.queue.cancel(ended)
    missing = ended + 1_000_000
    answer = bulk(api, action="cancel", ids=[waiting, ended, missing, waiting]).json()
    assert answer["done"] == 1
    assert answer["refused"] == [
        {"id": ended, "code": "wrong_state"},
        {"id": missing, "code": "not_found"},
    ]
    answer = bulk(api, action="delete", ids=[waiting, missing]).json()
    assert (answer["done"], answer["refused"]) == (1, [{"id": missing, "code": "not_found"}])
    found = preview(api, action="delete", ids=[ended, missing])
    assert found["count"] == 1
    answer = bulk(api, action="delete", ids=[ended, missing], preview=found["preview"]).json()
    assert answer["done"] == 1


def test_a_preview_of_too_many_is_capped(api: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq.web.routers.bulk.MAX_PREVIEWED_JOBS", 3)
    fill(api, "capped", 5)
    seen = preview(api, action="cancel", filter="queue:capped")
    assert (seen["count"], seen["capped"]) == (3, True)
    answers = carry_out(api, action="cancel", filter="queue:capped")
    assert sum(answer["done"] for answer in answers) == 3
