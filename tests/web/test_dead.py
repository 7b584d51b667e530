"""Failed jobs in groups over HTTP."""

from tests.web.conftest import App


def fail(api: App, error: str) -> int:
    job = api.queue.add("shell", {"argv": ["fetch"]}, max_retries=0)
    claim = api.queue.claim(owner="test", types=["shell"])
    assert claim is not None
    assert api.queue.fail(claim, error)
    return job.id


def test_failures_of_one_kind_are_one_group(api: App) -> None:
    same = [fail(api, f"host {number} does not answer") for number in (1, 2, 3)]
    fail(api, "no space left on device")
    found = api.call("GET", "/api/v1/dead", "read").json()
    assert [group["count"] for group in found["groups"]] == [3, 1]
    assert found["looked"] == {"failed": 4, "grouped": 4}
    group = found["groups"][0]
    assert (group["type"], sorted(group["sample"])) == ("shell", same)
    for query in (f"signature={group['fingerprint']}", f"q=signature:{group['fingerprint']}"):
        jobs = api.call("GET", f"/api/v1/jobs?{query}", "read").json()["jobs"]
        assert sorted(job["id"] for job in jobs) == same
        assert {job["signature"] for job in jobs} == {group["fingerprint"]}
    selection = {"action": "retry", "filter": f"signature:{group['fingerprint']}"}
    seen = api.call("POST", "/api/v1/jobs/bulk", json={**selection, "dry_run": True}).json()
    assert seen["count"] == 3
    retried = api.call("POST", "/api/v1/jobs/bulk", json={**selection, "preview": seen["preview"]})
    assert retried.json()["done"] == 3


def test_groups_are_selected(app: App) -> None:
    fail(app, "no")
    assert app.call("GET", "/api/v1/dead?since=1h&limit=1", "read").json()["groups"]
    assert app.call("GET", "/api/v1/dead?since=soon", "read").status_code == 422
    assert app.call("GET", "/api/v1/dead?limit=0", "read").status_code == 422
