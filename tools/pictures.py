"""Makes the pictures of the docs anew: what real commands draw on a terminal, as SVG.

python -m tools.pictures [DIRECTORY] [NAME…]
"""

import io
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from jobq import JobQueue
from tests.support.paths import ROOT
from tests.support.terminal import OnTerminal

FOLDER = ROOT / "docs" / "pictures"
SIZE = (100, 24)
HOME = "~/films"
"""What stands in the pictures for the directory that they were made in."""

FILM = "encode northern lights"
SETTINGS = """
concurrency = 3

[retry]
base = "2m"
jitter = 0

[queues.downloads]
max_concurrent = 1
"""
UNDER_WAY = 'echo "{done}/{total} {message}" > "$JOBQ_PROGRESS"; while :; do sleep 1; done'

PICTURES: dict[str, list[str]] = {
    "work": ["work"],
    "watch": ["list", "--watch"],
    "list": ["list"],
    "show": ["show", "4"],
    "explain": ["explain", "11"],
    "stats": ["stats"],
}
"""By name: the command that is drawn, while `jobq work` runs."""

# Nobody's browser is to ask another host for a font.
_TEMPLATE = re.sub(
    r"@font-face \{\{.*?\}\}|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL
).replace(
    "font-family: Fira Code, monospace",
    "font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
)


class Project:
    """A directory of a few jobs, some of which have ended, some run and some wait."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "jobq.toml").write_text(SETTINGS)
        self.queue = JobQueue.open(root / "jobq.toml")

    def add(self, name: str, script: str, **options: Any) -> int:
        """Add a job that runs a line of shell; its id."""
        args = {"shell": script, "cwd": str(self.root)}
        return self.queue.add("shell", args, name=name, **options).id

    def add_ended(self) -> None:
        """Jobs that have run when the pictures are made."""
        self.add("copy raw footage", "sleep 0.3")
        self.add("check the disk", "sleep 0.1")
        self.add("fetch subtitles", "echo 404 Not Found >&2; exit 22", max_retries=0)
        self.add("make a poster", "echo the printer is out of paper >&2; exit 5", max_retries=3)
        subprocess.run(
            [sys.executable, "-m", "jobq", "work", "--drain"],
            cwd=self.root,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def add_others(self) -> None:
        """Jobs that run, and jobs that wait, each for something else."""
        encode = self.add(
            FILM, UNDER_WAY.format(done=64, total=100, message="second pass"), priority=7
        )
        self.add("encode the long way home", UNDER_WAY.format(done=18, total=100, message="first"))
        self.add("download part 1", UNDER_WAY.format(done=71, total=93, message="4.1 MB/s"),
                 queue="downloads")  # fmt: skip
        self.add("publish", "true", after=[encode])
        self.add("clean up", "true", delay=3 * 3600)
        self.add("write a summary", "true")
        self.add("download part 2", "true", queue="downloads")

    @contextmanager
    def work(self) -> Iterator[OnTerminal]:
        """`jobq work`, with three jobs well under way; it is stopped afterwards."""
        with OnTerminal(self.root, "work", size=SIZE) as work:
            work.until(lambda screen: all(f"{n}%" in screen.text for n in (64, 18, 76)))
            work.until(lambda screen: "running" in screen.lines[-1])
            try:
                yield work
            finally:
                self.queue.cancel_many([job.id for job in self.queue.find(status="running")])
                work.signal(signal.SIGTERM)
                work.end()


def capture(root: Path, argv: list[str]) -> list[str]:
    """Return what a command draws, with its colours."""
    with OnTerminal(root, *argv, size=SIZE) as command:
        if "--watch" not in argv:
            command.end()
            return command.screen.ansi
        command.until(lambda screen: FILM in screen.text)
        drawn = command.screen.ansi
        command.type("q")
        command.end()
        return drawn


def fixed(line: str, root: Path) -> str:
    """A line without what is only so on the machine that the picture was made on."""
    host = socket.gethostname()
    desk = "desk".ljust(len(host), "-")[: len(host)]
    return line.replace(str(root), HOME).replace(f"{host}:", f"{desk}:")


def draw(name: str, lines: list[str], target: Path) -> None:
    """Write a picture of a command and what it drew."""
    command = " ".join(["jobq", *PICTURES[name]])
    console = Console(
        record=True, width=SIZE[0], file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    svg = console.export_svg(title=command, code_format=_TEMPLATE)
    target.write_text("".join(f"{line.rstrip()}\n" for line in svg.splitlines()))


def make(folder: Path, names: list[str]) -> None:
    """Make these pictures in a fresh project."""
    root = Path(tempfile.mkdtemp(prefix="jobq-pictures-")).resolve()
    try:
        project = Project(root)
        project.add_ended()
        project.add_others()
        folder.mkdir(parents=True, exist_ok=True)
        with project.work() as work:
            for name in names:
                lines = work.screen.ansi if name == "work" else capture(root, PICTURES[name])
                draw(name, [fixed(line, root) for line in lines], folder / f"{name}.svg")
        project.queue.close()
    finally:
        shutil.rmtree(root)


def main(argv: list[str]) -> None:
    """Make all pictures, or those named."""
    folder = Path(argv[0]) if argv else FOLDER
    make(folder, argv[1:] or list(PICTURES))


if __name__ == "__main__":
    main(sys.argv[1:])
