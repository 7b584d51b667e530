"""``jobq migrate``, between files; what is moved, and what interrupts it: tests/backends."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.scheduling import schedules
from tests.support.cli_runner import Cli, on_terminal
from tests.support.redis_server import SharedServer

SLOW = """
import sys, time
from jobq.transfer import migrate
from jobq.cli.main import run
migrate.BATCH_SIZE = 1
moved = migrate.tally
def stopped(*args, **options):
    print("here", flush=True)
    time.sleep(60)
migrate.tally = stopped
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def cli(
    queue: JobQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    assert queue.settings.path is not None
    monkeypatch.chdir(queue.settings.path.parent)
    return Cli(queue, capsys)


def furnish(cli: Cli) -> None:
    cli.completed({"a": 1})
    cli.failed()
    cli.add(after=[1], tags={"k": "v"}, unique="u")
    schedules.Schedules(cli.queue).add("s", "0 3 * * *", {"type": "shell", "args": {"argv": ["a"]}})


def test_everything_is_there_afterwards_and_the_source_is_as_it_was(cli: Cli) -> None:
    furnish(cli)
    before = cli("list", "--json").out
    moved = cli("migrate", "--to", "new.db")
    assert (moved.code, moved.out) == (
        0,
        "Moved 3 jobs, 2 attempts, 1 queue and 1 schedule to new.db: read back and identical\n",
    )
    assert "is unchanged. Logs stay in logs." in moved.err
    *_, backend, database = moved.err.splitlines()
    assert backend.strip() == 'backend = "sqlite"'
    assert cli("list", "--json").out == before
    Path("jobq.toml").write_text(f"{backend.strip()}\n{database.strip()}\n")
    assert cli("list", "--json").out == before
    assert cli("verify").code == 0
    back = cli("migrate", "--to", ".jobq/jobq.db", "--json")
    assert back.code == 0, "all is there, and the same"
    assert back.json["from"] == "new.db"
    cli("add", "--", "true")
    again = cli("migrate", "--to", ".jobq/jobq.db")
    assert (again.code, "of its own" in again.err) == (4, True)


def test_to_a_server_and_back(cli: Cli, shared_redis: SharedServer) -> None:
    furnish(cli)
    url = shared_redis.empty()
    before = cli("list", "--json").out
    moved = cli("migrate", "--to", f"{url}?wait=0")  # spelled in another way, and without a secret
    assert (moved.code, "3 jobs, 2 attempts" in moved.out) == (0, True)
    *_, backend = moved.err.splitlines()
    Path("jobq.toml").write_text(backend.strip())
    assert backend.strip() == f'backend = "{url}"'
    assert cli("list", "--json").out == before
    assert cli("verify", "--thorough").code == 0
    assert cli("migrate", "--to", url).code == 2
    with JobQueue.open() as there:
        assert there.add("shell", {"argv": ["true"]}).id == 4
    back = cli("migrate", "--to", "sqlite")
    assert (back.code, "of its own" in back.err) == (4, True)
    assert "Moved 4 jobs" in cli("migrate", "--to", "new.db").out
    assert "Would move 4 jobs" in cli("migrate", "--to", "newer.db", "--dry-run").out


def test_a_server_that_is_named_in_another_way_is_still_the_same(
    cli: Cli, shared_redis: SharedServer
) -> None:
    url = shared_redis.empty()
    Path("jobq.toml").write_text(f'backend = "{url}"')
    cli("queue", "create", "slow")
    for more in ((), ("--restart",), ("--dry-run",)):
        refused = cli("migrate", "--to", url.replace("127.0.0.1", "localhost"), *more)
        assert (refused.code, "this is where the jobs are" in refused.err) == (2, True)
    assert cli("queue", "show", "slow").code == 0


def test_a_dry_run_makes_nothing(cli: Cli) -> None:
    furnish(cli)
    would = cli("migrate", "--to", "new.db", "--dry-run")
    assert would.out == "Would move 3 jobs, 2 attempts, 1 queue and 1 schedule to new.db\n"
    assert not Path("new.db").exists()


def test_it_is_refused_while_something_runs(cli: Cli) -> None:
    claim = cli.running()
    refused = cli("migrate", "--to", "new.db")
    assert (refused.code, refused.out) == (4, "")
    assert f"running jobs can't be moved ({claim.job.id})" in refused.err
    assert cli.queue.complete(claim)
    owner = cli.register_supervisor()
    assert f"a supervisor is alive ({owner})" in cli("migrate", "--to", "new.db").err
    assert not Path("new.db").exists()
    with freeze_time(utcnow() + timedelta(minutes=2)):
        assert cli("migrate", "--to", "new.db").code == 0, "it has not been heard of"


@pytest.mark.parametrize("to", ["sqlite", ".jobq/jobq.db", "redis", "redis://", "http://localhost"])
def test_a_place_that_makes_no_sense_is_refused(cli: Cli, to: str) -> None:
    refused = cli("migrate", "--to", to)
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "to", ["redis:/u:S3CRET@h", "u:S3CRET@h:6379", "redis://u:pa/S3CRET@h", "redis//u:S3CRET@h"]
)
def test_a_mistyped_address_is_no_file_and_is_not_shown(cli: Cli, to: str) -> None:
    for more in ((), ("--dry-run",)):
        refused = cli("migrate", "--to", to, *more)
        assert (refused.code, "redis://HOST:PORT/DB" in refused.err) == (2, True)
        assert "S3CRET" not in refused.out + refused.err


def test_the_address_of_the_store_that_is_in_use_is_shown_without_its_password(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, shared_redis: SharedServer
) -> None:
    url = shared_redis.empty().replace("redis://", "redis://:S3CRET@")
    monkeypatch.setenv("JOBQ_BACKEND", url)
    refused = cli("migrate", "--to", url)
    assert (refused.code, "the jobs are already there" in refused.err) == (2, True)
    assert "S3CRET" not in refused.err


def test_killed_in_the_middle_it_goes_on(cli: Cli) -> None:
    furnish(cli)
    slow = subprocess.Popen(
        [sys.executable, "-c", SLOW, "migrate", "--to", "new.db"], stdout=subprocess.PIPE
    )
    assert slow.stdout is not None
    assert slow.stdout.readline() == b"here\n"
    os.kill(slow.pid, signal.SIGKILL)
    slow.communicate()
    Path("other.toml").write_text('database = "new.db"\n')
    half = cli("--config", "other.toml", "add", "--", "true")
    assert (half.code, "half filled by `jobq migrate`" in half.err) == (5, True)
    assert "half filled" in cli("migrate", "--to", "new.db", "--dry-run").err
    assert cli("migrate", "--to", "new.db").code == 0
    assert cli("--config", "other.toml", "add", "--", "true").code == 0


def test_on_a_terminal_progress_is_drawn(cli: Cli) -> None:
    furnish(cli)
    shown = on_terminal(Path.cwd(), "migrate", "--to", "new.db", columns=100)
    assert shown.code == 0
    assert "checking" in shown.raw
    assert "Moved 3 jobs" in shown.text
