"""The live table: as lines of text, and on terminals of two sizes."""

import os
import signal
import subprocess
import sys
import termios
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from jobq import Job, JobQueue, JobStatus
from jobq.cli.rendering.live_table import Canvas, Row, bar, table, totals
from jobq.cli.rendering.watch_screen import Changes, change_line, frame, snapshot
from jobq.clock import utcnow
from jobq.inert import inert
from jobq.models import JobFilter, Progress
from jobq.queue import backend_of
from tests.support.cli_runner import HOSTILE, Cli
from tests.support.terminal import OnTerminal, Terminal

pytestmark = pytest.mark.slow

SIZES = [(80, 24), (160, 50)]
LONG = "encode 映画のタイトル日本語 with a name that is longer than any terminal is wide " * 3
TELL = 'echo "{} of it" > "$JOBQ_PROGRESS"; while :; do sleep 1; done'


@pytest.fixture
def cli(queue: JobQueue, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(queue, capsys)


def advance(cli: Cli, done: float, total: float | None, message: str, **options: Any) -> Job:
    claim = cli.running(**options)
    assert cli.queue.progress(claim, done, total, message)
    return cli.queue.get(claim.job.id)


def row(cli: Cli, job: Job, left: float | None = None) -> Row:
    return Row(cli.queue.shown(job), left)


# -- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 100, 120, 160, 250])
@pytest.mark.parametrize("color", [False, True])
def test_no_line_is_wider_than_the_terminal(cli: Cli, width: int, color: bool) -> None:
    import re

    rows = [
        row(cli, advance(cli, 40, 100, "second pass of two, " * 5, name=LONG), 75.0),
        row(cli, advance(cli, 12, None, HOSTILE, name=HOSTILE)),
        row(cli, cli.failed("exit code 3: " + "no route to host " * 9)),
        row(cli, cli.add(delay=600)),
    ]
    lines = table(rows, utcnow(), Canvas(width, color))
    assert len(lines) == 5
    for line in lines:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        assert cell_len(plain) <= width, plain
        assert "\x1b" not in plain
        assert ("\x1b" in line) <= color


def test_a_bar_for_each_job_that_says_how_far_it_is(cli: Cli) -> None:
    half = row(cli, advance(cli, 50, 100, "first pass"), 30.0)
    unknown = row(cli, advance(cli, 12, None, ""))
    head, one, other = table([half, unknown], utcnow(), Canvas(100, color=False))
    assert head.split() == ["id", "status", "prio", "job", "message", "progress", "attempts", "done",
                            "time", "left"]  # fmt: skip
    assert "━" * 6 + "─" * 6 + "  " in one
    assert one.endswith("30s")
    assert "first pass" in one
    assert "50%" in one
    assert "━" not in other
    assert " 12 " in other


@pytest.mark.parametrize(
    ("share", "drawn"), [(0.0, "────"), (0.5, "━━──"), (1.0, "━━━━"), (7.0, "━━━━"), (-1.0, "────")]
)
def test_bars(share: float, drawn: str) -> None:
    assert "".join(bar(share, 4)) == drawn


def test_totals() -> None:
    counts = {JobStatus.RUNNING: 2, JobStatus.PENDING: 1234, JobStatus.COMPLETED: 5}
    assert totals(counts) == "2 running · 1,234 pending · 0 failed"
    assert totals({JobStatus.BLOCKED: 1}).startswith("0 running · 0 pending · 1 blocked")


# -- what is shown -----------------------------------------------------------------------------


def test_running_jobs_come_first_to_be_shown(cli: Cli) -> None:
    for _ in range(5):
        cli.completed()
    running = [cli.running().job.id for _ in range(2)]
    waiting = [cli.add().id for _ in range(5)]
    shown = snapshot(cli.queue, JobFilter(), 6)
    assert [job.id for job in shown.jobs] == [4, 5, *running, *waiting[:2]]
    assert shown.counts is not None
    assert shown.counts[JobStatus.PENDING] == 5
    assert [job.id for job in snapshot(cli.queue, JobFilter(), 100).jobs] == [*range(1, 13)]
    assert len(snapshot(cli.queue, JobFilter(), 1).jobs) == 1


def test_a_selection_is_kept_to(cli: Cli) -> None:
    cli.queue.create_queue("slow")
    cli.add()
    slow = cli.add(queue="slow")
    failed = cli.failed(queue="slow")
    shown = snapshot(cli.queue, JobFilter(queue="slow"), 10)
    assert {job.id for job in shown.jobs} == {slow.id, failed.id}
    assert shown.counts == {JobStatus.PENDING: 1, JobStatus.FAILED: 1}
    only = snapshot(cli.queue, JobFilter(statuses=frozenset({JobStatus.FAILED})), 10)
    assert [job.id for job in only.jobs] == [failed.id]
    assert only.counts is None


@pytest.mark.parametrize("height", [1, 2, 3, 10])
def test_a_picture_is_no_higher_than_the_terminal(cli: Cli, height: int) -> None:
    for _ in range(20):
        cli.add()
    shown = snapshot(cli.queue, JobFilter(), max(1, height - 3))
    assert len(frame(shown, None, utcnow(), Canvas(80, color=False), height)) <= height


def test_a_picture_of_nothing(cli: Cli) -> None:
    lines = frame(snapshot(cli.queue, JobFilter(), 20), None, utcnow(), Canvas(80, color=False), 24)
    assert "no supervisor: jobq work" in lines[0]
    assert lines[2] == "No job matches."


# -- changes, in a pipe ------------------------------------------------------------------------


def test_changes(cli: Cli) -> None:
    old = cli.add()
    changes = Changes(cli.queue, JobFilter())
    assert len(changes) == 1
    assert changes.take() == []
    claim = cli.running()
    cli.queue.cancel(old.id, "no need")
    quick = cli.completed()
    seen = changes.take()
    assert [(job.id, job.status.value) for job in seen] == [
        (old.id, "cancelled"), (claim.job.id, "running"), (quick.id, "completed"),
    ]  # fmt: skip
    assert changes.take() == []
    assert cli.queue.complete(claim)
    cli.queue.retry(old.id)
    assert [job.status.value for job in changes.take()] == ["pending", "completed"]


def test_only_changes_to_a_status_that_was_asked_for(cli: Cli) -> None:
    changes = Changes(cli.queue, JobFilter(statuses=frozenset({JobStatus.FAILED})))
    cli.completed()
    failed = cli.failed()
    assert [job.id for job in changes.take()] == [failed.id]


def test_a_job_that_is_deleted_is_no_change(cli: Cli) -> None:
    job = cli.add()
    changes = Changes(cli.queue, JobFilter())
    cli.queue.cancel(job.id)
    cli.queue.delete([job.id])
    assert changes.take() == []


def test_a_change_is_one_tidy_line(cli: Cli) -> None:
    now = utcnow()
    job = cli.failed("exit code 3: \x1b[31mno\nroute", name="a\nb")
    assert job.started_at is not None
    ended = replace(job, finished_at=job.started_at + timedelta(seconds=4))
    line = change_line(cli.queue.shown(ended), now)
    assert line == "job 1 failed in 4.0s (exit code 3: ␛[31mno␊route): a␊b"
    assert change_line(cli.queue.shown(cli.cancelled()), now) == "job 2 cancelled (no need): true"
    again = replace(cli.running().job, attempts=2)
    assert change_line(cli.queue.shown(again), now) == "job 3 running (attempt 2): true"


@pytest.mark.parametrize("jsonl", [False, True])
def test_a_line_a_change_in_a_pipe(project: Path, cli: Cli, jsonl: bool) -> None:
    import json

    words = ["list", "--watch", *(["--jsonl"] if jsonl else [])]
    with subprocess.Popen(
        [sys.executable, "-m", "jobq", *words],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stderr.readline().startswith("Watching 0 unfinished jobs")
        job = cli.add(name="the film")
        line = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        assert watching.stderr.read() == ""
        if jsonl:
            assert (json.loads(line)["id"], json.loads(line)["status"]) == (job.id, "pending")
        else:
            assert line[8:] == f" job {job.id} pending: the film\n"


@pytest.mark.parametrize(
    "words", [["--json"], ["--plain"], ["--limit", "3"], ["--sort", "name"]], ids=lambda w: w[0]
)
def test_what_does_not_go_with_watch(cli: Cli, project: Path, words: list[str],
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(project)
    assert cli("list", "--watch", *words).code == 2


def test_a_line_a_change_on_a_terminal_that_can_not_draw(project: Path, cli: Cli) -> None:
    with OnTerminal(project, "list", "--watch", env={"TERM": "dumb"}) as watching:
        watching.until(lambda screen: "Watching 0 unfinished jobs" in screen.text)
        job = cli.add(name="the film")
        screen = watching.until(lambda screen: f"job {job.id} pending: the film" in screen.text)
        assert is_given_back(screen)
        watching.type("\x03")
        assert watching.end() == 130


# -- on a terminal -----------------------------------------------------------------------------


def is_given_back(screen: Terminal) -> bool:
    return screen.cursor_shown and not screen.alternate


def tidy(screen: Terminal) -> None:
    assert screen.wraps == 0, screen.text


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_list_watch_on_a_terminal(project: Path, cli: Cli, size: tuple[int, int]) -> None:
    advance(cli, 40, 100, "second pass", name=LONG)
    for _ in range(60):
        cli.add(name=LONG)
    with OnTerminal(project, "list", "--watch", size=size) as watching:
        screen = watching.until(
            lambda screen: "40%" in screen.text and len(screen.lines) == size[1]
        )
        assert not is_given_back(screen)
        assert "1 running · 60 pending · 0 failed" in screen.lines[0]
        assert "…" in screen.lines[3]
        assert "━" in screen.lines[3]
        tidy(screen)
        added = cli.completed(name="just done")
        watching.until(lambda screen: any(str(added.id) in line for line in screen.lines[3:]))
        watching.type("q")
        assert watching.end() == 0
        assert is_given_back(screen)
        assert screen.lines == []  # what was there before comes back, and nothing is left over


def test_list_watch_follows_the_size_of_the_terminal(project: Path, cli: Cli) -> None:
    for _ in range(60):
        cli.add(name=LONG)
    with OnTerminal(project, "list", "--watch", size=(80, 24)) as watching:
        watching.until(lambda screen: len(screen.lines) == 24)
        watching.resize(120, 40)
        screen = watching.until(lambda screen: len(screen.lines) == 40)
        assert max(map(cell_len, screen.lines)) > 80
        watching.type("q")
        assert watching.end() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_terminal_is_given_back(
    project: Path, cli: Cli, number: signal.Signals, code: int
) -> None:
    cli.add()
    with OnTerminal(project, "list", "--watch") as watching:
        before = termios.tcgetattr(watching._master)
        watching.until(lambda screen: "pending" in screen.text)
        assert termios.tcgetattr(watching._master) != before
        if number is signal.SIGINT:
            watching.type("\x03")
        else:
            watching.signal(number)
        assert watching.end() == code
        assert is_given_back(watching.screen)
        assert termios.tcgetattr(watching._master) == before


def start_two(project: Path, cli: Cli) -> None:
    (project / "jobq.toml").write_text("concurrency = 2\n[lease]\ngrace = 1\n")
    cli.completed()
    for share in ("40/100", "7/10"):
        cli.queue.add("shell", {"shell": TELL.format(share)}, name=LONG)
    cli.add(name="waits")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_work_on_a_terminal(project: Path, cli: Cli, size: tuple[int, int]) -> None:
    start_two(project, cli)
    with OnTerminal(project, "work", size=size) as work:
        screen = work.until(
            lambda s: "40%" in s.text and "70%" in s.text and "2 running" in s.lines[-1]
        )
        assert screen.lines[-1] == "2 running · 1 pending · 0 failed"
        assert [line.split()[0] for line in screen.lines[-4:-1]] == ["id", "2", "3"]
        assert all("━" in line for line in screen.lines[-3:-1])
        assert not is_given_back(screen)
        tidy(screen)
        work.type("\x03")
        work.until(lambda s: "Ctrl-C again gives them back" in s.text)
        work.type("\x03")
        assert work.end() == 130
        assert is_given_back(screen)
        assert "running ·" not in screen.text  # nothing of the table is left
        assert "━" not in screen.text
        assert "returned to the queue" in screen.lines[-2]
        assert screen.lines[-1] == "2 attempts: 2 pending"
        tidy(screen)
    assert cli.status(2) == cli.status(3) == "pending"


def test_work_gives_the_terminal_back_at_sigterm(project: Path, cli: Cli) -> None:
    cli.add()
    with OnTerminal(project, "work") as work:
        work.until(lambda screen: "completed" in screen.text)
        work.signal(signal.SIGTERM)
        assert work.end() == 0
        assert work.screen.cursor_shown
        assert work.screen.lines[-1] == "1 attempt: 1 completed"


def test_ctrl_z_gives_the_cursor_back_until_work_goes_on(project: Path, cli: Cli) -> None:
    cli.add()
    with OnTerminal(project, "work") as work:
        work.until(lambda screen: "completed" in screen.text and not screen.cursor_shown)
        work.type("\x1a")
        work.until(lambda screen: screen.cursor_shown)
        os.waitid(os.P_PID, work.process.pid, os.WSTOPPED)
        work.signal(signal.SIGCONT)
        work.until(lambda screen: not screen.cursor_shown)
        work.signal(signal.SIGTERM)
        assert work.end() == 0
        assert work.screen.cursor_shown


def test_work_gives_the_terminal_back_before_it_has_begun(project: Path, cli: Cli) -> None:
    with OnTerminal(project, "work") as work:
        work.until(lambda screen: not screen.cursor_shown)
        work.signal(signal.SIGTERM)
        assert work.end() in (0, 143), work.screen.text
        assert work.screen.cursor_shown


def test_work_shows_more_jobs_than_fit_as_a_number(project: Path, cli: Cli) -> None:
    for _ in range(20):
        cli.queue.add("shell", {"shell": "while :; do sleep 1; done"})
    with OnTerminal(project, "work", "-j", "20", size=(80, 12)) as work:
        work.until(lambda screen: "and 13 more" in screen.text and "20 running" in screen.text)
        tidy(work.screen)
        cli.queue.cancel_many(range(1, 21))
        work.signal(signal.SIGTERM)
        assert work.end() == 0
        tidy(work.screen)


def test_the_time_left_of_jobs_like_those_before(project: Path, cli: Cli) -> None:
    began = utcnow() - timedelta(hours=1)
    from jobq.backends.messages import ClaimRequest
    from jobq.models import AttemptResult, Outcome

    job = cli.queue.add("shell", {"argv": ["sleep", "60"]})
    request = ClaimRequest(owner="t", limit=1, lease=timedelta(minutes=1), ids=[job.id])
    (claim,) = backend_of(cli.queue).claim(request, began)
    ending = AttemptResult(
        key=claim.key, outcome=Outcome.COMPLETED, status=JobStatus.COMPLETED,
        failures=0, crashes=0,
    )  # fmt: skip
    backend_of(cli.queue).end([ending], began + timedelta(seconds=600))
    running = cli.queue.add("shell", {"argv": ["sleep", "60"]})
    with OnTerminal(project, "work") as work:
        work.until(lambda screen: "~9m 5" in screen.text)  # of ten minutes
        cli.queue.cancel(running.id)
        work.signal(signal.SIGTERM)
        assert work.end() == 0


def test_hostile_names_are_shown_as_they_are(cli: Cli) -> None:
    job = advance(cli, 1, 2, HOSTILE, name=HOSTILE)
    text = "\n".join(table([row(cli, job)], utcnow(), Canvas(200, color=False)))
    assert inert(HOSTILE) in text
    assert replace(job, progress=Progress(1, 2, None)).name == HOSTILE


def test_the_table_is_not_drawn_by_polling(project: Path, cli: Cli) -> None:
    cli.add()
    with OnTerminal(project, "list", "--watch") as watching:
        watching.until(lambda screen: "pending" in screen.text)
        before = _cpu(watching.process.pid)
        seen: list[str] = []
        watching.until(lambda screen: _clock(seen, screen) >= 4)  # three seconds and more
        assert _cpu(watching.process.pid) - before < 0.5
        watching.type("q")
        watching.end()


def _clock(seen: list[str], screen: Terminal) -> int:
    now = screen.lines[0][-8:] if screen.lines else ""
    if now not in seen:
        seen.append(now)
    return len(seen)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
