"""`jobq list` of many jobs, on a terminal and in a pipe."""

from pathlib import Path

from tests.support.cli_runner import Cli, on_terminal


def test_of_many_jobs_those_that_matter_are_shown(cli: Cli, project: Path) -> None:
    running = cli.running(name="runs").job
    failed = cli.failed(name="broke")
    urgent = cli.add(name="urgent", priority=9)
    cli.queue.add_many([{"args": {"argv": ["true"]}}] * 100)
    newest = cli.completed(name="newest")
    shown = on_terminal(project, "list", stderr=False)
    listed = [int(line.split()[0]) for line in shown.lines[1:-1]]
    assert listed[:3] == [running.id, failed.id, urgent.id]
    assert listed[-1] == newest.id
    assert len(listed) == len(set(listed)) == 50
    assert shown.lines[-1] == "104 jobs: 101 pending, 1 running, 1 completed, 1 failed"
    chosen = on_terminal(project, "list", "--status", "pending", stderr=False).lines
    assert chosen[1].split()[0] == str(urgent.id)
    assert len(chosen) == 51


def test_a_long_name_is_cut_in_the_middle(cli: Cli, project: Path) -> None:
    for number in (1, 2):
        cli.add(name=f"{'holiday pictures ' * 10}{number}")
    lines = on_terminal(project, "list", stderr=False).lines[1:]
    assert [line.split("  ")[2].strip()[-2:] for line in lines] == [" 1", " 2"]
    assert all("…" in line for line in lines)


def test_a_column_of_one_value_is_left_out(cli: Cli) -> None:
    cli.add(priority=7)
    assert "prio" in cli("list").lines[0]
    cli.add(priority=7)
    assert "prio" not in cli("list").lines[0]
    cli.add(priority=2)
    assert "prio" in cli("list").lines[0]


def test_in_a_pipe_the_job_is_last_and_pads_nothing(cli: Cli) -> None:
    cli.add(name="x" * 300)
    cli.add(name="short")
    first, second = cli("list").lines[1:]
    assert first.endswith("x" * 300)
    assert len(second) < 60
