import pytest

from jobq import JobQueue
from tests.support.cli_runner import HOSTILE, Cli, on_terminal


@pytest.fixture
def cli(
    queue: JobQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    assert queue.settings.path is not None
    monkeypatch.chdir(queue.settings.path.parent)
    return Cli(queue, capsys)


def test_a_line_for_each_reason_with_its_command(cli: Cli) -> None:
    job = cli.add()
    cli.queue.pause("default")
    result = cli("explain", str(job.id))
    assert result.code == 0
    assert result.lines == [
        f"job {job.id}: pending",
        "  queue default is paused  → jobq queue resume default",
        "  no supervisor is running  → jobq work",
    ]


def test_json(cli: Cli) -> None:
    job = cli.add()
    document = cli("explain", "last", "--json").json
    assert document == {
        "id": job.id,
        "status": "pending",
        "reasons": [
            {
                "code": "no_supervisor",
                "message": "no supervisor is running",
                "command": "jobq work",
            }
        ],
    }


def test_each_state_has_a_reason(cli: Cli) -> None:
    parent = cli.add()
    jobs = {
        "pending": parent,
        "blocked": cli.add(after=[parent.id]),
        "scheduled": cli.add(delay=600),
        "running": cli.running().job,
        "completed": cli.completed(),
        "failed": cli.failed(),
        "cancelled": cli.cancelled(),
    }
    claim = cli.running()
    assert cli.queue.fail(claim, "no route")
    jobs["retrying"] = claim.job
    for status, job in jobs.items():
        document = cli("explain", str(job.id), "--json").json
        assert document["status"] == status
        assert document["reasons"], status


def test_no_such_job(cli: Cli) -> None:
    result = cli("explain", "99")
    assert (result.code, result.out) == (3, "")


def test_an_error_can_do_nothing_to_the_terminal(cli: Cli) -> None:
    job = cli.failed(HOSTILE)
    screen = on_terminal(cli.queue.settings.path.parent, "explain", str(job.id))  # type: ignore[union-attr]
    assert "\u202e" not in screen.raw
    assert "\x1b[31mred" not in screen.raw
    assert "red[/nope]" in screen.text
