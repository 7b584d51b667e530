"""What commands of `jobq run` read: what is piped in, or the keys of a terminal."""

import signal

from jobq import JobStatus
from tests.support.project import Project
from tests.support.terminal import OnTerminal


def test_run_passes_on_what_is_piped_in(project: Project) -> None:
    done = project.jobq("run", "--", "wc", "-l", stdin="1\n2\n3\n")
    assert (done.stdout.strip(), done.returncode) == ("3", 0)


def test_run_leaves_what_its_command_does_not_read(project: Project) -> None:
    """As in a loop over lines: the command gets the stream itself, and no copy of it."""
    done = project.jobq("run", "--shell", "read a; echo got $a", stdin="one\ntwo\n")
    assert done.stdout == "got one\n"


def test_a_file_given_to_run_takes_the_place_of_stdin(project: Project) -> None:
    (project.root / "lines").write_text("from the file\n")
    done = project.jobq("run", "--stdin", "lines", "--", "cat", stdin="piped\n")
    assert done.stdout == "from the file\n"


def test_run_does_not_take_the_keys_of_a_terminal_unasked(project: Project) -> None:
    with OnTerminal(project.root, "run", "--", "wc", "-c") as on:
        on.type("keys for the shell\n")
        assert on.end() == 0
    assert project.output(project.queue.get(1)).strip() == "0"


def test_a_command_gets_a_terminal(project: Project) -> None:
    script = "test -t 0 -a -t 1 -a -t 2 && stty size; echo 'name?' >&2; read n; echo hello $n"
    with OnTerminal(project.root, "run", "--tty", "--shell", script, size=(91, 33)) as on:
        on.until(lambda screen: "name?" in screen.text)
        on.type("Ada\r")
        assert on.end() == 0
    assert on.screen.lines == ["33 91", "name?", "Ada", "hello Ada"]
    recorded = project.output(project.queue.get(1)).replace("\r\n", "\n")
    assert recorded == "33 91\nname?\nAda\nhello Ada\n"


def test_ctrl_c_on_its_terminal_is_a_key_of_the_command(project: Project) -> None:
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.02; done"
    with OnTerminal(project.root, "run", "--tty", "--shell", script) as on:
        on.until(lambda screen: "ready" in screen.text)
        on.type("\x03")
        assert on.end() == 7
    assert "caught" in on.screen.text
    assert project.queue.get(1).status is JobStatus.FAILED


def test_the_terminal_of_a_command_has_the_size_of_its_window(project: Project) -> None:
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done"
    with OnTerminal(project.root, "run", "--tty", "--shell", script) as on:
        on.until(lambda screen: "ready" in screen.text)
        on.resize(100, 40)
        on.until(lambda screen: "40 100" in screen.text)
        assert on.end() == 0


def test_a_terminal_in_a_pipe_is_recorded_and_passed_on(project: Project) -> None:
    done = project.jobq("run", "--tty", "--shell", "test -t 1 && cat; exit 3", stdin="piped\n")
    assert (done.stdout, done.returncode) == ("piped\n", 3)
    assert (project.queue.logs.path(1) / "stdout.log").read_bytes() == b"piped\r\n"


def test_a_command_that_can_not_be_started_leaves_the_terminal_as_it_was(project: Project) -> None:
    with OnTerminal(project.root, "run", "--tty", "--", "/no/such") as on:
        assert on.end() == 127
    assert on.screen.lines == ["jobq: job 1 failed: /no/such: command not found"]


def test_a_worker_has_no_terminal(project: Project) -> None:
    done = project.jobq("run", "--tty", "cleanup", "older_than=30d")
    assert done.returncode == 2
    assert "--tty goes with commands, not with 'cleanup'" in done.stderr


def test_cancelling_ends_what_runs_on_a_terminal(project: Project) -> None:
    with OnTerminal(project.root, "run", "--tty", "--shell", "echo ready; exec sleep 60") as on:
        on.until(lambda screen: "ready" in screen.text)
        on.signal(signal.SIGTERM)
        assert on.end() == 130
