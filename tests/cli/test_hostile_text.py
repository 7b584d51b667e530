"""Whatever jobs say, in whichever verb: a terminal is shown it inert, and scripts get it whole."""

import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
import threading
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue
from jobq.cli.main import run
from jobq.scheduling.schedules import Schedules
from tests.support.cli_runner import Cli
from tests.support.terminal import OnTerminal

NASTY = [
    "\x1b]52;c;ZXZpbA==\x07clip",
    "\x1b[2J\x1b[Hgone",
    "\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07",
    '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}',
    "\x9b2J\x9d0;title\x9c\x85c1",
    "\u202eevil\u2066turned\u2069\u061c",
    "no\u200broom\u2028line\u2029paragraph\ufeff\u00ad",
    "[/nope][@click=app.bell]markup[/][bold",
    "one\ntwo\tthree\rfour\x0bfive",
    "\x1b[8mhidden\x1b[5mblinking",
    "日本語" * 100,
    "long " * 150,
    "e" + "\u0301" * 500,
    "\x7f\x08\x08\x08rubbed out\U000e0041",
]
OUTPUT = (
    b"".join(text.encode() + b"\n" for text in NASTY) + b"\x00\xff\xfe\xed\xa0\x80 \x1b[32mgreen"
)
LOOKS = re.compile(r"\x1b\[(?:[0-4]|3[0-7]|9[0-7])?m")
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.fixture
def cli(queue: JobQueue, project: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


def assert_harmless(shown: str) -> None:
    for line in LOOKS.sub("", shown).replace("\r\n", "\n").split("\n"):
        bad = {char for char in line if char != "\t" and unicodedata.category(char) in UNSAFE}
        assert not bad, f"{bad!r} in {line!r:.300}"


class Pty:
    """A pseudo-terminal that commands of this process write to."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._read = b""
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def _drain(self) -> None:
        while True:
            try:
                block = os.read(self._master, 65536)
            except OSError:
                return
            if not block:
                return
            self._read += block

    def close(self) -> str:
        """What was written, from first to last."""
        self.stream.close()
        self._thread.join(20)
        os.close(self._master)
        return self._read.decode()


def on_pty(*argvs: list[str]) -> str:
    """What commands show on a terminal: stdout and stderr."""
    terminal = Pty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", terminal.stream)
        patch.setattr(sys, "stderr", terminal.stream)
        patch.setenv("TERM", "xterm-256color")
        patch.delenv("NO_COLOR", raising=False)
        for argv in argvs:
            run(argv)
    return terminal.close()


@pytest.fixture
def jobs(cli: Cli) -> list[int]:
    """For each nasty text, a job that says it wherever a job can say something."""
    ids = []
    for text in NASTY:
        said = {"name": text, "tags": {"tag": text}, "unique": text}
        ids += [
            cli.failed(error=text, **said).id,
            cli.completed({"said": [text]}, **said).id,
            cli.queue.cancel(cli.add(text, "--x", text).id, text).id,
        ]
        claim = cli.running(name=text)
        cli.queue.progress(claim, 1, 2, text)
        ids.append(claim.job.id)
        ids.append(cli.queue.add("shell", {"shell": text, "cwd": f"/{text}"}, queue="default").id)
    cli.queue.set_queue("default", description=NASTY[1])
    job = {"args": {"argv": NASTY}, "tags": {"tag": NASTY[0]}}
    Schedules(cli.queue).add("nightly", "@daily", job)
    with cli.queue.logs.create(cli.queue.get(ids[0])) as log:
        for name in ("stdout.log", "stderr.log", "job.log", "events.jsonl"):
            os.write(log.append(name), OUTPUT)
    return ids


def every(ids: list[int], *words: str) -> list[list[str]]:
    return [[*words, str(job_id)] for job_id in ids]


VERBS: dict[str, Any] = {
    "list": lambda _: [["list", "--limit", "0"], ["list", "--status", "failed"], ["list", "--plain"]],
    "show": lambda ids: every(ids, "show"),
    "explain": lambda ids: every(ids, "explain"),
    "tail": lambda ids: [
        ["tail", str(ids[0])],
        ["tail", str(ids[0]), "--events"],
        ["tail", str(ids[0]), "--stderr", "-n", "3"],
        ["tail", "-f", str(ids[0])],
    ],
    "wait": lambda ids: [["wait", *map(str, ids), "--timeout", "0"]],
    "json": lambda ids: [["list", "--json"], ["list", "--jsonl"], *every(ids[:5], "show", "--json")],
    "dry runs": lambda _: [
        ["cancel", "--queue", "default", "--dry-run"],
        ["retry", "--status", "failed", "--dry-run"],
        ["prune", "--older-than", "0s", "--dry-run"],
    ],
    "figures": lambda _: [["stats"], ["queue", "list"], ["queue", "show", "default"]],
    "schedules": lambda _: [["schedule", "list"], ["schedule", "show", "nightly"]],
    "export": lambda _: [["export"], ["export", "--format", "csv"]],
    "added": lambda _: [
        *(["add", "--name", text, "--", "true"] for text in NASTY),
        *(["add", "--tag", f"t={text}", "--", text, text] for text in NASTY),
    ],
    "refused": lambda _: [
        *(["add", text, "a=b"] for text in NASTY),
        *(["add", "example", f"{text}=b"] for text in NASTY),
        *(["show", text] for text in NASTY),
        *(["list", "--queue", text] for text in NASTY),
        *(["list", "--status", text] for text in NASTY),
        *(["add", "--at", text, "--", "x"] for text in NASTY),
        *(["--config", text, "list"] for text in NASTY),
        *([text] for text in NASTY),
        *(["list", f"--{text}"] for text in NASTY),
        *(["import", text] for text in NASTY),
        *(["queue", "create", text] for text in NASTY),
        *(["schedule", "add", text, "--name", text, "--", text] for text in NASTY),
    ],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_terminal_is_shown_nothing_that_could_harm_it(
    cli: Cli, jobs: list[int], verb: str
) -> None:
    shown = on_pty(*VERBS[verb](jobs))
    assert len(shown) > 40
    assert_harmless(shown)


def test_colours_of_output_end_with_it(cli: Cli, jobs: list[int]) -> None:
    shown = on_pty(["tail", str(jobs[0]), "--stdout"])
    assert shown.endswith("\x1b[32mgreen\x1b[0m")
    assert "\x1b" not in on_pty(["--no-color", "tail", str(jobs[0])])


def test_scripts_get_every_character(cli: Cli, jobs: list[int]) -> None:
    documents = {job["id"]: job for job in cli("list", "--json").json}
    for place, text in enumerate(NASTY):
        failed, completed, cancelled, running, shell = (
            documents[job_id] for job_id in jobs[5 * place : 5 * place + 5]
        )
        assert failed["error"] == failed["name"] == failed["tags"]["tag"] == text
        assert completed["result"] == {"said": [text]}
        assert cancelled["args"]["argv"] == [text, "--x", text]
        assert cancelled["reason"] == text
        assert running["progress"]["message"].startswith(text[:200])
        assert shell["args"] == {"shell": text, "cwd": f"/{text}"}
    for line in cli("list", "--jsonl").lines:
        json.loads(line)


def test_live_tables_are_inert(cli: Cli, jobs: list[int], project: Path) -> None:
    with OnTerminal(project, "list", "--watch", size=(120, 50)) as shown:
        shown.until(lambda screen: "rubbed" in screen.text or "running" in screen.text)
        shown.type("q")
        assert shown.end() == 0
        assert_harmless(shown.screen.text)
    for job in cli.queue.find(status=["pending", "running"]):
        cli.queue.cancel(job.id)
    for text in NASTY:
        cli.add("false", name=text, max_retries=0)
    with OnTerminal(project, "work", "--drain", size=(120, 50)) as shown:
        assert shown.end() == 0
        assert "rubbed out" in shown.screen.text
        assert_harmless(shown.screen.text)


def test_a_worker_file_is_named_without_harm(cli: Cli, project: Path) -> None:
    folder = project / "workers"
    folder.mkdir()
    (folder / "a\x1b[2J\u202e.py").write_text("")
    (folder / "bad.py").write_text("raise ValueError('\\x1b]52;c;x\\x07')")
    shown = on_pty(["types"], ["config", "check"], ["add", "no-such", "a=b"])
    assert "bad.py" in shown
    assert_harmless(shown)


def test_notifications_are_lines_of_text() -> None:
    from jobq.system.desktop_notification import command

    for text in [*NASTY, "nul\0"]:
        argv = command(text, text, which=lambda name: f"/usr/bin/{name}")
        assert argv is not None
        assert_harmless("".join(argv))
        assert "\n" not in "".join(argv)
        assert "\0" not in "".join(argv)
