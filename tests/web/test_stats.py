import json
import re
from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobq.backends.lists import EndedJob, Position
from jobq.models import JobStatus
from jobq.web import figures as figures_module
from jobq.web.figures import MAX_LABELS, OVERLAP, Figures, Kind, Labels, Tally, percentile
from jobq.web.metrics import Metrics
from jobq.web.routers.stats import Series, Stats
from tests.support.paths import ROOT
from tests.web.conftest import App

BEGUN = datetime.fromisoformat("2026-07-01T12:00:00+00:00")
SECOND = timedelta(seconds=1)


def ended(job_id: int, at: float, status: JobStatus = JobStatus.COMPLETED) -> EndedJob:
    return EndedJob(job_id, BEGUN + at * SECOND, status, "shell", "default", 1.0, 2.0)


class Lists:
    """Jobs that ended, as a backend returns them."""

    def __init__(self) -> None:
        self.jobs: list[EndedJob] = []
        self.reads = 0

    def ended_after(self, after: Position, before: datetime, limit: int) -> list[EndedJob]:
        self.reads += 1
        found = [
            each
            for each in sorted(self.jobs, key=lambda each: (each.at, each.id))
            if (each.at, each.id) > (after.at or BEGUN, after.id) and each.at < before
        ]
        return found[:limit]


@pytest.fixture
def lists() -> Lists:
    return Lists()


@pytest.fixture
def seen() -> list[int]:
    return []


@pytest.fixture
def figures(lists: Lists, seen: list[int]) -> Figures:
    return Figures(lists, BEGUN, lambda _, job: seen.append(job.id))  # type: ignore[arg-type]


def test_each_end_is_counted_once_even_if_it_was_recorded_late(
    figures: Figures, lists: Lists, seen: list[int]
) -> None:
    lists.jobs = [ended(1, 1), ended(2, 9)]
    figures.update(BEGUN + 10 * SECOND)
    lists.jobs += [ended(3, 2), ended(4, 12)]  # 3 ended before 2, and was recorded after it
    figures.update(BEGUN + 15 * SECOND)
    figures.update(BEGUN + 20 * SECOND)
    assert seen == [1, 2, 3, 4]
    (tally,) = figures.tallies(BEGUN).values()
    assert tally.completed == 4


def test_a_job_that_ends_twice_counts_twice(
    figures: Figures, lists: Lists, seen: list[int]
) -> None:
    lists.jobs = [ended(1, 1, JobStatus.FAILED)]
    figures.update(BEGUN + 5 * SECOND)
    lists.jobs = [ended(1, 7)]  # it was retried
    figures.update(BEGUN + 10 * SECOND)
    assert seen == [1, 1]
    (tally,) = figures.tallies(BEGUN).values()
    assert (tally.completed, tally.failed, tally.success_rate) == (1, 1, 0.5)


def test_what_was_recorded_after_an_outage_is_counted(
    figures: Figures, lists: Lists, seen: list[int]
) -> None:
    """No look succeeded meanwhile, so that the next ones begin before it."""
    figures.update(BEGUN + 5 * SECOND)
    lists.jobs = [ended(1, 590)]
    figures.update(BEGUN + 600 * SECOND)
    lists.jobs += [ended(2, 60)]
    figures.update(BEGUN + 605 * SECOND)
    assert seen == [1, 2]


def test_the_overlap_ends(figures: Figures, lists: Lists) -> None:
    for second in range(2, 120, 2):
        lists.jobs.append(ended(second, second - 1))
        figures.update(BEGUN + second * SECOND)
    assert len(figures._counted) <= OVERLAP.total_seconds() / 2 + 1


def test_the_overlap_is_shorter_where_many_jobs_end(
    figures: Figures, lists: Lists, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_module, "MAX_REMEMBERED", 10)
    for second in range(2, 22, 2):
        lists.jobs += [ended(10 * second + n, second - 1) for n in range(5)]
        figures.update(BEGUN + second * SECOND)
    assert seen == [job.id for job in lists.jobs]
    assert len(figures._counted) <= 15


def test_two_updates_in_a_second_read_once(figures: Figures, lists: Lists) -> None:
    figures.update(BEGUN + 2 * SECOND)
    reads = lists.reads
    figures.update(BEGUN + 2.5 * SECOND)
    assert lists.reads == reads


def test_the_past_is_counted_in_parts_and_changes_no_counter(
    figures: Figures, lists: Lists, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_module, "BATCH_SIZE", 2)
    lists.jobs = [ended(n, -n * 500) for n in range(1, 172)]
    lists.jobs += [ended(500, -700.5), ended(501, -86_500), ended(502, 0)]
    assert not figures.reaches(BEGUN - timedelta(hours=1))
    steps = 0
    while figures.count_past(BEGUN):
        steps += 1
    assert 144 <= steps + 1 <= 400
    assert figures.reaches(BEGUN - timedelta(hours=24))
    figures.update(BEGUN + SECOND)
    assert seen == [502]
    (tally,) = figures.tallies(BEGUN - timedelta(hours=24)).values()
    assert tally.completed == 171 + 2
    (last_hour,) = figures.tallies(BEGUN - timedelta(hours=1)).values()
    assert last_hour.completed == 7 + 2
    figures.update(BEGUN + timedelta(hours=24))
    assert figures.tallies(BEGUN - timedelta(hours=24)) != {}
    figures.update(BEGUN + timedelta(hours=49))
    assert figures.tallies(BEGUN - timedelta(hours=24)) == {}


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001, 0.012, 1.0, 3.3, 100_000.0])
def test_a_percentile_is_within_5_percent(seconds: float) -> None:
    tally = Tally()
    tally.add(ended(1, 0)._replace(waited=seconds, ran=-1.0))
    assert percentile(tally.wait, 0.5) == pytest.approx(max(seconds, 0.001), rel=0.055)
    assert percentile(tally.run, 0.99) == 0.001
    assert percentile(Tally().run, 0.5) is None


def test_percentiles_are_by_nearest_rank() -> None:
    tally = Tally()
    for number in range(1, 101):
        tally.add(ended(number, 0)._replace(ran=float(number)))
    for share in (0.5, 0.95, 0.99):
        assert percentile(tally.run, share) == pytest.approx(100 * share, rel=0.055)


def test_labels_beyond_200_are_other() -> None:
    labels = Labels()
    names = [labels.of(f"q{n}") for n in range(MAX_LABELS + 5)]
    assert names[MAX_LABELS - 1 :] == ["q199", *["other"] * 5]
    assert labels.of("q3") == "q3"


# -- over HTTP -------------------------------------------------------------------------------------


def end_jobs(app: App) -> None:
    """End two jobs, leave one pending, and have them counted."""
    queue = app.queue
    queue.create_queue("plans", max_concurrent=3)
    done, failed, _ = (queue.add("shell", {"argv": ["true"]}, queue="plans") for _ in range(3))
    for job, result in ((done, None), (failed, "no luck")):
        claim = queue.claim("plans", owner="me")
        assert claim is not None
        assert claim.job.id == job.id
        queue.complete(claim, None) if result is None else queue.fail(claim, result, retry=False)
    app.server.figures.update(queue.now() + 2 * SECOND)


def test_stats_of_all_and_of_a_queue(app: App) -> None:
    end_jobs(app)
    answer = app.call("GET", "/api/v1/stats?window=1h", "read").json()
    Stats.model_validate(answer)
    assert answer["ended"] == {"completed": 1, "failed": 1, "cancelled": 0}
    assert (answer["success_rate"], answer["window"]) == (0.5, "1h")
    assert answer["counts"]["pending"] == 1
    assert answer["oldest_ready"] >= 0
    assert [each["type"] for each in answer["types"]] == ["shell"]
    (of_queue,) = (each for each in answer["queues"] if each["queue"] == "plans")
    alone = app.call("GET", "/api/v1/queues/plans/stats", "read").json()
    assert alone["ended"] == of_queue["ended"]
    assert alone["wait"].keys() == {"p50", "p95", "p99"}
    assert app.call("GET", "/api/v1/queues/none/stats", "read").status_code == 404


def test_stats_by_minute(app: App) -> None:
    end_jobs(app)
    answer = app.call("GET", "/api/v1/stats/series?window=1h", "read").json()
    Series.model_validate(answer)
    assert len(answer["points"]) == 61
    assert sum(point["ended"]["completed"] for point in answer["points"]) == 1
    none = app.call("GET", "/api/v1/stats/series?window=1h&queue=default", "read").json()
    assert sum(point["ended"]["completed"] for point in none["points"]) == 0


@pytest.mark.parametrize("query", ["window=2h", "windows=1h", "window=1h&x=1"])
def test_other_windows_and_parameters_are_refused(app: App, query: str) -> None:
    assert app.call("GET", f"/api/v1/stats?{query}", "read").status_code == 422


def samples(text: str) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_show_jobs_and_requests_and_no_names(app: App) -> None:
    app.queue.add("shell", {"argv": ["echo", "s3cret"]}, name="hidden-name", tags={"a": "taggy"})
    end_jobs(app)
    app.call("GET", "/api/v1/jobs/1", "read")
    answer = app.call("GET", "/metrics", "read")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    kind = "('queue', 'plans'), ('type', 'shell')"
    assert found[f"jobq_jobs_finished_total[('outcome', 'failed'), {kind}]"] == 1
    assert found[f"jobq_job_run_seconds_count[{kind}]"] == 2
    assert found["jobq_jobs[('queue', 'plans'), ('state', 'pending')]"] == 1
    assert found["jobq_dead_jobs[('queue', 'plans')]"] == 1
    assert found["jobq_queue_paused[('queue', 'plans')]"] == 0
    of_route = "('method', 'GET'), ('route', '/api/v1/jobs/{id}'), ('status', '200')"
    assert found[f"jobq_http_requests_total[{of_route}]"] == 1
    for hidden in ("s3cret", "hidden-name", "taggy"):
        assert hidden not in answer.text


def test_metrics_are_kept_for_5_s(app: App) -> None:
    first = app.call("GET", "/metrics", "read").text
    app.queue.add("shell", {"argv": ["true"]})
    assert app.call("GET", "/metrics", "read").text == first


def test_metrics_need_a_token(app: App) -> None:
    assert app.client.get("/metrics").status_code == 401
    assert app.call("GET", "/metrics", "submit", "worker").status_code == 403


def test_log_bytes_are_measured_in_a_thread(app: App) -> None:
    logs = app.queue.logs.root / "1"
    logs.mkdir(parents=True)
    (logs / "stdout.log").write_bytes(b"x" * 4096)
    metrics = Metrics(app.queue, app.server.audit)
    thread = metrics.log_bytes.refresh()
    assert thread is not None
    thread.join()
    assert metrics.log_bytes.refresh() is None
    assert samples(metrics.text(lambda: None).decode())["jobq_log_bytes[]"] == 4096


def test_unknown_methods_are_one_label(app: App) -> None:
    app.server.metrics.count_request("-", "PROPFIND", 405, 0.1)
    assert 'method="other"' in app.call("GET", "/metrics", "read").text


def test_the_dashboard_names_metrics_that_exist(app: App) -> None:
    end_jobs(app)
    app.server.metrics.count_end(Kind("a", "b"), ended(1, 1))
    app.server.metrics.count_request("/", "GET", 200, 0.1)
    metrics = app.server.metrics
    thread = metrics.log_bytes.refresh()
    assert thread is not None
    thread.join()
    assert metrics.log_bytes.refresh() is None
    text = metrics.text(lambda: None).decode()
    names = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for each in expressions for name in re.findall(r"\bjobq_\w+", each)}
    assert len(expressions) >= 10
    assert all(re.search(r"\bjobq_\w+", each) for each in expressions)
    assert used <= names
    unused = names - used - {"jobq_build_info", "jobq_audit_lost_lines_total"}
    assert not {name for name in unused if not name.endswith(("_created", "_sum", "_count"))}
