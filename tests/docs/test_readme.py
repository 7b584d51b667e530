"""The README: its tours are run on a terminal, and must show what it says."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.redis_server import executable, free_port

README = (ROOT / "README.md").read_text("utf-8")
LEFT_OUT = "…"
QUESTION = b"[y/N] "

# These differ from run to run. Everything else must be the same, to the letter.
VARIABLE = {
    r"\b\d\d:\d\d:\d\d\b": "CLOCK",
    r"\b\d+\.\ds\b": "SPAN",
    r"\b[\w.-]+:\d+:[0-9a-f]{8}\b": "SUPERVISOR",
    r"\bup to \d+ jobs\b": "up to N jobs",
    r"  +": "  ",  # columns are as wide as what is in them
}


@dataclass
class Step:
    command: str
    shown: list[str] = field(default_factory=list)
    where: str = "."


def tour(heading: str = "A tour") -> list[Step]:
    pattern = rf"^## {heading}$.*?^```console\n(.*?)^```$"
    block = re.search(pattern, README, re.MULTILINE | re.DOTALL)
    assert block is not None
    steps: list[Step] = []
    for line in block[1].splitlines():
        if prompt := re.match(r"(\w*)\$ ", line):
            steps.append(Step(line[prompt.end() :], where=prompt[1] or "."))
        else:
            steps[-1].shown.append(line)
    return steps


def on_terminal(command: str, cwd: Path) -> tuple[int, list[str]]:
    """Run a line of shell on a terminal of 100 columns; return exit code and output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    folders = f"{Path(sys.executable).parent}:{executable().parent}"
    environment = {**os.environ, "TERM": "dumb", "PATH": f"{folders}:{os.environ['PATH']}"}
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        ["sh", "-c", command], cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        while data := read(ours):
            shown += data
            if shown.endswith(QUESTION):
                os.write(ours, b"\n")
        os.close(ours)
    return process.returncode, shown.decode().splitlines()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side was closed
        return b""


def pattern(lines: list[str]) -> str:
    """Return a regular expression for lines, some of which are left out."""
    parts = [r"(?:.*\n)*" if line == LEFT_OUT else re.escape(fixed(line)) + "\n" for line in lines]
    return "".join(parts)


def fixed(line: str) -> str:
    for variable, name in VARIABLE.items():
        line = re.sub(variable, name, line)
    return line.rstrip()


def run(steps: list[Step], root: Path) -> None:
    for step in steps:
        code, shown = on_terminal(step.command, root / step.where)
        assert code == 0, (step.command, shown)
        text = "".join(f"{fixed(line)}\n" for line in shown)
        assert re.fullmatch(pattern(step.shown), text), f"$ {step.command}\n{text}"


def test_the_tour_shows_what_the_readme_says(tmp_path: Path) -> None:
    run(tour(), tmp_path)


def test_two_terminals_are_two_machines(tmp_path: Path) -> None:
    port = str(free_port())
    steps = tour("Two machines, one Redis")
    for step in steps:
        (tmp_path / step.where).mkdir(exist_ok=True)
        step.command = step.command.replace("6399", port)
        step.shown = [line.replace("6399", port) for line in step.shown]
    try:
        run(steps, tmp_path)
    finally:
        on_terminal(f"redis-cli -p {port} shutdown nosave", tmp_path)
    assert {step.where for step in steps} == {"one", "two"}


def test_the_tour_is_short_and_leaves_out_little() -> None:
    steps = tour()
    assert 8 <= len(steps) <= 12
    assert sum(step.shown.count(LEFT_OUT) for step in steps) <= 2


def test_what_the_readme_says_to_look_at_is_there(tmp_path: Path) -> None:
    rows = re.findall(r"^\|[^|]+\|[^|]+\| (.+) \|$", README, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    commands = [step.command for step in tour()]
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) >= 7
    for name in named:
        if name.startswith("test_"):
            assert f"def {name}(" in sources
        else:
            assert any(command.startswith(name) for command in commands), name


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_the_make_targets_are_there(target: str) -> None:
    assert re.search(rf"^{target}: ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
