import pytest

from jobq.clock import utcnow
from jobq.models import AttemptResult, JobStatus, Outcome, Usage
from jobq.queue import backend_of
from tests.support.cli_runner import Cli

JOB_FIELDS = [
    "id", "type", "name", "status", "queue", "priority", "args", "tags", "unique_key", "parents",
    "added_by", "attempts", "max_retries", "timeout", "created_at", "run_at", "started_at",
    "finished_at", "progress", "exit_code", "signal", "error", "signature", "reason", "result", "log_dir",
]  # fmt: skip

HISTORY_FIELDS = [
    "attempt", "supervisor", "pid", "started_at", "ended_at", "outcome", "exit_code", "signal",
    "error", "max_rss_bytes", "cpu_seconds",
]  # fmt: skip


def test_show_document(cli: Cli) -> None:
    cli.failed("killed", signal=9)
    document = cli("show", "1", "--json").json
    assert list(document) == [*JOB_FIELDS, "history"]
    (attempt,) = document["history"]
    assert list(attempt) == HISTORY_FIELDS
    assert (attempt["outcome"], attempt["signal"], attempt["error"]) == ("failed", 9, "killed")


def test_show_says_everything(cli: Cli) -> None:
    parent = cli.completed()
    claim = cli.running(
        name="nightly", after=[parent.id], tags={"k": "v"}, unique="key", timeout="5m", priority=7
    )
    child = cli.add(after_any=[claim.job.id])
    cli.queue.progress(claim, 1, 4, "encoding")
    shown = cli("show", "2").out
    for text in (
        "job 2: running",
        "nightly",
        "true",
        "k=v",
        "1 (completed; must have succeeded)",
        "unique key  key",
        "5m 00s",
        "priority    7",
        "25% encoding",
        f"awaited by  {child.id}",
        str(cli.queue.logs.path(2)),
    ):
        assert text in shown


def test_show_of_a_job_that_ended(cli: Cli) -> None:
    claim = cli.running()
    ending = AttemptResult(
        key=claim.key,
        outcome=Outcome.CRASHED,
        status=JobStatus.FAILED,
        failures=1,
        crashes=1,
        signal=11,
        error="it crashed",
        result={"list": [1, "ü"]},
        usage=Usage(max_rss_bytes=12_900_000, cpu_seconds=1.5),
    )
    backend_of(cli.queue).end([ending], utcnow())
    shown = cli("show", str(claim.job.id)).out
    for text in ("SIGSEGV", "it crashed", '"ü"', "12.3 MB", "1.5s", "crashed", "attempt"):
        assert text in shown


def test_show_names_parents_that_are_gone(cli: Cli) -> None:
    parent = cli.completed()
    cli.add(after=[parent.id])
    cli.queue.delete([parent.id])
    assert "1 (pruned; must have succeeded)" in cli("show", "2").out


def test_show_of_types_with_arguments(cli: Cli) -> None:
    cli.queue.add("example", {"steps": 2})
    shown = cli("show", "last").out
    assert "example" in shown
    assert "steps = 2" in shown


@pytest.mark.parametrize(
    ("word", "code"), [("99", 3), ("x", 2), ("1-2", 2), ("1,2", 2), ("50-60", 3)]
)
def test_show_refuses(cli: Cli, word: str, code: int) -> None:
    cli.add()
    cli.add()
    result = cli("show", word)
    assert result.code == code
    assert result.err.startswith("jobq: ")


def test_show_draws_what_a_job_waits_for_and_what_waits_for_it(cli: Cli) -> None:
    fetch, clean = cli.completed(name="fetch"), cli.add(name="clean")
    encode = cli.add(name="encode", after=[fetch.id, clean.id])
    cli.add(name="upload", after=[encode.id])
    last = cli.add(name="report", after_any=[encode.id, 4])
    lines = [line.strip() for line in cli("show", str(encode.id)).lines]
    start = next(at for at, line in enumerate(lines) if line.startswith("tree "))
    drawn = [lines[start].removeprefix("tree").strip(), *lines[start + 1 : start + 7]]
    assert drawn == [
        "1 completed  fetch",
        "└─ 3 blocked  encode  (this job)",
        "├─ 4 blocked  upload",
        "│  └─ 5 blocked  report",
        "└─ 5 blocked  report",
        "2 pending  clean",
        "└─ 3 blocked  encode  (this job)",
    ]
    assert last.id == 5


def test_a_tree_of_very_many_jobs_is_cut(cli: Cli) -> None:
    parent = cli.add()
    for _ in range(40):
        cli.add(after=[parent.id])
    shown = cli("show", str(parent.id)).out
    assert shown.count(" blocked  true") == 29
    assert "…" in shown


def test_a_job_without_relatives_has_no_tree(cli: Cli) -> None:
    cli.add()
    assert "tree" not in cli("show", "1").out
