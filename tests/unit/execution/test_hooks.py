"""What is done when a job has ended: hooks and notifications, by the real supervisor."""

import json
import signal
import sys
from pathlib import Path

import pytest

from jobq import JobStatus
from jobq.execution.hooks import Hooks, announcement
from jobq.queue import backend_of
from tests.support.project import Project, fork_server, wait_until
from tests.support.project import project as project  # noqa: PLC0414 - a fixture
from tests.support.supervisor import SETTINGS, Host

pytestmark = pytest.mark.slow

RECORD = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


def hook(project: Project, *commands: list[str]) -> None:
    file = project.root / "jobq.toml"
    file.write_text(file.read_text() + f"\n[hooks]\non_finish = {json.dumps(commands)}\n")


def recorder(project: Project) -> list[str]:
    return [sys.executable, "-c", RECORD, str(project.root / "told")]


def told(project: Project) -> list[dict[str, object]]:
    file = project.root / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def events(project: Project, job_id: int) -> list[dict[str, object]]:
    file = project.queue.logs.path(job_id) / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


# -- hooks -------------------------------------------------------------------------------------


def test_each_job_that_ends_for_good_is_told_once(project: Project) -> None:
    hook(project, recorder(project))
    done = project.shell("true")
    retried = project.shell("exit 3", max_retries=2)
    cancelled = project.shell("sleep 60")
    work = project.work("--drain", "--wait-retries")
    project.wait_for(cancelled, JobStatus.RUNNING)
    project.queue.cancel(cancelled.id, "no need")
    assert work.wait(30) == 0
    documents = {document["id"]: document for document in told(project)}
    assert len(told(project)) == 3
    assert documents[done.id]["status"] == "completed"
    assert (documents[retried.id]["status"], documents[retried.id]["attempts"]) == ("failed", 3)
    assert documents[retried.id]["error"] == "exit code 3"
    assert (documents[cancelled.id]["status"], documents[cancelled.id]["reason"]) == (
        "cancelled", "no need",
    )  # fmt: skip
    shown = json.loads(project.jobq("show", str(done.id), "--json").stdout)
    del shown["history"]
    assert documents[done.id] == shown


def test_a_hook_that_fails_is_logged_and_harms_nothing(project: Project) -> None:
    hook(project, ["false"], ["/no/such/hook"], recorder(project))
    job = project.shell("true")
    said = project.drain()
    assert project.queue.get(job.id).status is JobStatus.COMPLETED
    assert f"the hook false failed for job {job.id}: exit code 1" in said
    assert f"the hook /no/such/hook failed for job {job.id}: No such file or directory" in said
    failed = [e for e in events(project, job.id) if e["event"] == "hook_failed"]
    assert sorted(str(event["argv"]) for event in failed) == ["['/no/such/hook']", "['false']"]
    assert len(told(project)) == 1


def test_hooks_run_in_the_project_and_reach_its_queue(project: Project) -> None:
    hook(project, ["sh", "-c", f"{sys.executable} -m jobq list --plain > listed; cat > /dev/null"])
    job = project.shell("true")
    project.drain()
    assert (project.root / "listed").read_text().startswith(f"{job.id}\tcompleted")


def test_a_slow_hook_delays_no_job(project: Project) -> None:
    gate = project.root / "gate"
    hook(project, ["sh", "-c", f"while ! [ -e {gate} ]; do sleep 0.05; done"])
    jobs = [project.shell("true") for _ in range(8)]
    work = project.work()
    for job in jobs:
        project.wait_for(job, JobStatus.COMPLETED)
    assert not gate.exists()
    gate.touch()
    work.terminate()
    assert work.wait(20) == 0


def test_a_hook_is_started_as_shells_do_and_in_its_directory(project: Project) -> None:
    for name, text in (("plain", "printenv PWD > told-by-hook\n"), ("crlf", "#!/bin/sh\r\n")):
        (project.root / name).write_text(text)
        (project.root / name).chmod(0o755)
    hook(project, ["./plain"], ["./crlf"])
    job = project.shell("true")
    project.drain()
    assert (project.root / "told-by-hook").read_text() == f"{project.root}\n"
    (failed,) = [each for each in events(project, job.id) if each["event"] == "hook_failed"]
    assert "line ends of Windows" in str(failed["error"])


def test_one_more_request_to_stop_ends_hooks(project: Project) -> None:
    pid = project.root / "pid"
    hook(project, ["sh", "-c", f"echo $$ > {pid}; exec sleep 600"])
    project.shell("true")
    work = project.work("--drain")
    assert work.stdout is not None
    said = iter(work.stdout.readline, "")
    assert any("waiting for 1 hook; Ctrl-C ends it" in line for line in said)
    assert not project.queue.supervisors()[0].takes_jobs
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    work.terminate()
    assert any("1 hook was not run to the end" in line for line in said)
    work.wait(20)
    wait_until(lambda: _is_gone(int(pid.read_text())))


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("KILL", 9)])
def test_a_hook_that_kills_its_parent_harms_no_supervisor(
    project: Project, name: str, number: int
) -> None:
    pid = project.root / "pid"
    hook(project, ["sh", "-c", f"echo $$ > {pid}; kill -{name} $PPID; sleep 600"])
    job = project.shell("true")
    work = project.work(said="said")
    said = project.root / "said"
    wait_until(lambda: "the hook sh failed" in said.read_text())
    assert f"the hook sh failed for job {job.id}: signal {number}" in said.read_text()
    wait_until(lambda: _is_gone(int(pid.read_text())))
    project.wait_for(project.shell("true"), JobStatus.COMPLETED)
    assert work.poll() is None


@pytest.mark.parametrize("escapes", ["", "setsid "], ids=["", "from its session"])
def test_a_hook_of_a_killed_supervisor_is_ended(project: Project, escapes: str) -> None:
    pid = project.root / "pid"
    hook(project, ["sh", "-c", f"exec {escapes}sh -c 'echo $$ > {pid}; sleep 600'"])
    project.shell("true")
    work = project.work()
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    work.kill()
    work.wait()
    wait_until(lambda: _is_gone(int(pid.read_text())))


def test_a_hook_whose_supervisor_and_guard_were_killed_is_ended_by_the_next(
    project: Project,
) -> None:
    pid = project.root / "pid"
    hook(project, ["sh", "-c", f"echo $$ > {pid}; sleep 600"])
    project.shell("true")
    work = project.work()
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    work.send_signal(signal.SIGSTOP)
    fork_server(work).kill()
    work.kill()
    work.wait()
    assert not _is_gone(int(pid.read_text()))
    project.jobq("work", "--drain")
    wait_until(lambda: _is_gone(int(pid.read_text())))


@pytest.mark.parametrize(
    ("script", "failure"), [("exit 3", "exit code 3"), ("kill -9 $$", "signal 9")]
)
def test_a_hook_ends_as_it_did(project: Project, script: str, failure: str) -> None:
    hook(project, ["sh", "-c", script])
    job = project.shell("true")
    assert f"the hook sh failed for job {job.id}: {failure}" in project.drain()


def test_a_job_whose_supervisor_died_too_often_is_told_by_another(project: Project) -> None:
    settings = project.root / "jobq.toml"
    settings.write_text(settings.read_text().replace("[retry]", "[retry]\nmax_crashes = 1"))
    job = project.shell("echo up; sleep 60")
    first = project.work()
    wait_until(lambda: project.output(job))  # held by it is not begun: that would be no crash
    first.kill()
    first.wait()
    hook(project, recorder(project))
    second = project.work()
    wait_until(lambda: told(project))
    second.terminate()
    assert second.wait(20) == 0
    (document,) = told(project)
    assert (document["id"], document["status"]) == (job.id, "failed")


def hooks_of(project: Project, seconds: float) -> tuple[Hooks, list[str]]:
    from jobq.config.loader import load_settings

    messages: list[str] = []
    settings = load_settings(project.root / "jobq.toml")
    get = backend_of(project.queue).get
    return Hooks(settings, project.queue.logs, get, messages.append, timeout=seconds), messages


def test_a_hook_that_takes_too_long_is_ended_with_all_it_started(project: Project) -> None:
    pid = project.root / "pid"
    hook(project, ["sh", "-c", f"sleep 600 & echo $! > {pid}; wait"])
    job = project.shell("true")
    project.queue.cancel(job.id)
    hooks, messages = hooks_of(project, seconds=0.5)
    hooks.run([project.queue.get(job.id)])
    wait_until(lambda: not hooks.left)
    assert messages == [f"the hook sh failed for job {job.id}: ended after 0.5 s"]
    wait_until(lambda: _is_gone(int(pid.read_text())))
    assert hooks.close() == 0


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_no_more_than_a_few_hooks_run_at_once(project: Project) -> None:
    folder = project.root / "running"
    folder.mkdir()
    script = f"mkdir {folder}/$$; ls {folder} | wc -l >> {project.root}/seen; sleep 0.1; rmdir {folder}/$$"
    hook(project, ["sh", "-c", script])
    jobs = [project.queue.cancel(project.shell("true").id) for _ in range(12)]
    hooks, _ = hooks_of(project, seconds=30.0)
    hooks.run(jobs)
    wait_until(lambda: not hooks.left)
    hooks.close()
    seen = [int(line) for line in (project.root / "seen").read_text().split()]
    assert len(seen) == 12
    assert 1 < max(seen) <= 4


def test_a_hook_is_run_although_nobody_could_be_asked_for_its_job_at_first(tmp_path: Path) -> None:
    host = Host(tmp_path, SETTINGS + '[hooks]\non_finish = ["sh", "-c", "cat >> told"]\n')
    job = host.shell("true")
    host.server.loses_answers_of = {"get"}
    host.work()
    host.backend.close()
    told = (host.folder / "told").read_text().splitlines()
    assert [json.loads(line)["id"] for line in told] == [job.id]


# -- notifications -----------------------------------------------------------------------------


def test_what_a_notification_says() -> None:
    document = {"id": 3, "name": None, "type": "shell", "status": "failed", "error": "exit code 3",
                "reason": None}  # fmt: skip
    assert announcement(document) == ("jobq: shell failed", "job 3: exit code 3")
    document |= {"status": "cancelled", "reason": "no need", "name": "x"}
    assert announcement(document) == ("jobq: x was cancelled", "job 3: no need")


def test_a_hook_is_told_of_a_new_kind_of_failure_once(project: Project) -> None:
    said = 'echo "$JOBQ_SIGNATURE ${JOBQ_SIGNATURE_NEW-}" >> said'
    hook(project, ["sh", "-c", said])
    failed = [project.shell(f"exit {code}", max_retries=0) for code in (3, 3, 4)]
    project.shell("true")
    assert project.work("--drain", "-j", "1").wait(30) == 0
    three, again, four = (project.queue.get(job.id).signature for job in failed)
    assert three == again != four
    assert sorted((project.root / "said").read_text().splitlines()) == sorted(
        [f"{three} 1", f"{three} ", f"{four} 1", " "]
    )
