from tests.support.cli_runner import Cli


def test_stats_document(cli: Cli) -> None:
    cli.completed()
    cli.failed()
    cli.add()
    cli.queue.logs.create(cli.queue.get(1)).close()
    cli.register_supervisor()
    document = cli("stats", "--json").json
    assert list(document) == [
        "counts", "queues", "types", "success_rate", "throughput", "oldest_waiting",
        "supervisors", "log_bytes", "totals",
    ]  # fmt: skip
    assert document["counts"]["completed"] == 1
    assert document["counts"]["blocked"] == 0
    (lane,), (shown,) = document["queues"], cli("queue", "list", "--json").json
    assert lane.items() >= shown.items()
    assert (lane["completed"], lane["failed"], lane["success_rate"]) == (1, 1, 0.5)
    (figures,) = document["types"]
    assert (figures["type"], figures["completed"]) == ("shell", 1)
    assert document["success_rate"] == figures["success_rate"] == 0.5
    assert document["oldest_waiting"]["id"] == 3
    assert set(figures["wait"]) == set(figures["run"]) == {"p50", "p95"}
    assert document["throughput"] == {"last_hour": 1, "last_day": 1}
    (supervisor,) = document["supervisors"]
    assert supervisor["slots"] == 2
    assert supervisor["heartbeat_age"] >= 0
    assert (supervisor["running"], supervisor["load"]) == (0, 0)
    assert document["log_bytes"] >= 0
    assert document["totals"] == {"added": 3, "completed": 1, "failed": 1, "recovered": 0}


def test_stats_for_people(cli: Cli) -> None:
    empty = cli("stats")
    assert empty.code == 0
    assert "none: jobq work" in empty.out
    cli.completed()
    cli.queue.create_queue("slow")
    cli.failed(queue="slow")
    cli.add(name="waits")
    cli.register_supervisor()
    shown = cli("stats").out
    for text in (
        "1 completed", "1 in 1 hour", "50.0% success", "slow", "run p95", "somewhere:1:abc", "ago",
        "0/2", "oldest waiting", ": waits", "0.0%",
    ):  # fmt: skip
        assert text in shown
