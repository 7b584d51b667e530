from pathlib import Path

import pytest

from tests.support.cli_runner import Cli


def queue(cli: Cli, name: str) -> dict[str, object]:
    document: dict[str, object] = cli("queue", "show", name, "--json").json
    return document


def test_queues_as_documents(cli: Cli) -> None:
    created = cli("queue", "create", "slow", "--max-concurrent", "2", "--priority", "high",
                  "--rate", "10/min", "--timeout", "5m", "--retries", "0",
                  "--description", "one at a time")  # fmt: skip
    assert (created.code, created.err) == (0, "")
    cli.add(queue="slow")
    expected = {
        "name": "slow",
        "description": "one at a time",
        "max_concurrent": 2,
        "priority": 7,
        "paused": False,
        "rate": "10/min",
        "timeout": 300.0,
        "max_retries": 0,
        "counts": {"pending": 1},
    }
    assert queue(cli, "slow") == expected
    listed = cli("queue", "list", "--json").json
    assert [each["name"] for each in listed] == ["slow", "default"]
    assert listed[0] == expected


def test_limits_are_changed_and_taken_away(cli: Cli) -> None:
    cli("queue", "create", "slow", "--max-concurrent", "2", "--rate", "5/30s", "--retries", "1")
    assert cli("queue", "set", "slow", "--priority", "9", "--timeout", "none").code == 0
    assert queue(cli, "slow")["max_concurrent"] == 2
    assert queue(cli, "slow")["timeout"] == 0.0
    cli("queue", "set", "slow", "--max-concurrent", "none", "--rate", "none",
        "--timeout", "default", "--retries", "default")  # fmt: skip
    changed = queue(cli, "slow")
    for limit in ("max_concurrent", "rate", "timeout", "max_retries"):
        assert changed[limit] is None
    assert changed["priority"] == 9


def test_a_queue_is_paused_and_resumed(cli: Cli) -> None:
    cli.running()
    assert cli("queue", "pause", "default").out == "Paused queue default: 1 job still running\n"
    assert queue(cli, "default")["paused"] is True
    assert cli("queue", "list").lines[1].split()[:3] == ["default", "5", "paused"]
    assert cli("queue", "resume", "default").out == "Resumed queue default\n"
    assert queue(cli, "default")["paused"] is False


def test_a_queue_is_deleted_when_it_is_empty(cli: Cli) -> None:
    cli("queue", "create", "slow")
    cli.add(queue="slow")
    refused = cli("queue", "delete", "slow")
    assert refused.code == 4
    assert "has 1 job" in refused.err
    cli.queue.cancel(1)
    cli.queue.delete([1])
    assert cli("queue", "delete", "slow").code == 0
    assert cli("queue", "show", "slow").code == 3


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["create", "default"], 4, "is there already"),
        (["create", "a b"], 2, "queue name"),
        (["create", "x", "--max-concurrent", "few"], 2, "--max-concurrent 'few'"),
        (["create", "x", "--max-concurrent", "0"], 2, "max_concurrent 0"),
        (["create", "x", "--rate", "often"], 2, "is not a rate"),
        (["create", "x", "--retries", "none"], 2, "--retries 'none'"),
        (["create", "x", "--timeout", "soon"], 2, "is not a duration"),
        (["create", "x", "--priority", "10"], 2, "give 0 to 9"),
        (["create"], 2, "QUEUE"),
        (["set", "default"], 2, "nothing to change"),
        (["set", "nowhere", "--priority", "1"], 3, "no queue 'nowhere'"),
        (["show", "nowhere"], 3, "no queue"),
        (["pause", "nowhere"], 3, "no queue"),
        (["resume", "nowhere"], 3, "no queue"),
        (["delete", "nowhere"], 3, "no queue"),
        (["delete", "default"], 4, "can't be deleted"),
        (["shrink"], 2, "shrink"),
    ],
)
def test_queue_refuses(cli: Cli, argv: list[str], code: int, says: str) -> None:
    result = cli("queue", *argv)
    assert result.code == code
    assert says in result.err
    assert result.err.startswith("jobq: ")
    assert result.err.count("\n") == 1
    assert [each.name for each in cli.queue.queues()] == ["default"]


def test_queue_alone_says_what_it_can_do(cli: Cli) -> None:
    result = cli("queue")
    assert result.code == 2
    assert "pause" in result.out


def test_queue_list_and_show_for_people(cli: Cli) -> None:
    cli("queue", "create", "slow", "--max-concurrent", "2", "--description", "one at a time")
    cli.failed()
    header, *rows = cli("queue", "list").lines
    assert header.split()[:5] == ["queue", "prio", "state", "waiting", "running"]
    assert rows[0].split()[:7] == ["default", "5", "open", "0", "0", "0", "1"]
    assert rows[1].endswith("one at a time")
    shown = cli("queue", "show", "default").out
    for text in ("no limit", "1 failed", "timeout", "default"):
        assert text in shown


def test_changes_to_a_configured_queue_say_that_the_file_decides(cli: Cli, project: Path) -> None:
    assert cli("queue", "set", "default", "--priority", "3").err == ""
    (project / "jobq.toml").write_text("[queues.slow]\nmax_concurrent = 2\n")
    result = cli("queue", "set", "slow", "--max-concurrent", "3")
    assert result.code == 0
    assert "jobq.toml sets this queue up" in result.err
