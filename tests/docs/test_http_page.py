"""The examples of http.md, run against a real server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_examples import blocks, text_of
from tests.docs.test_readme import tour
from tests.support.web_server import SETTINGS, WebServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    opened = WebServer(tmp_path / "served", settings=SETTINGS)
    yield opened
    opened.close()


def bash(server: WebServer, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script beside a server, which stands for the one of the docs."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:5627", server.url)],
        cwd=server.folder,
        env={"PATH": path, "HOME": str(server.folder)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_examples_of_http_md_run(server: WebServer) -> None:
    """All in one shell, as they build on each other; `c` ends it if a request fails."""
    server.queue.add("shell", {"argv": ["echo", "hello"]})
    assert bash(server, "jobq work --drain").returncode == 0
    script = "\n".join(source for _, source in blocks(text_of("http.md"), "sh"))
    assert script.count("http://127.0.0.1:5627") == 1
    done = bash(server, script)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    for shown in ('"name":"me"', "hello", "event: hello", "jobq_build_info"):
        assert shown in done.stdout, shown


def test_the_readme_shows_what_happens(server: WebServer) -> None:
    serve, *steps = tour("Over HTTP")
    assert serve.command == "jobq serve &"
    assert serve.shown == ["Serving on http://127.0.0.1:5627 (Ctrl-C stops)"]
    done = bash(server, "\n".join(step.command for step in steps))
    assert done.stdout.splitlines() == [line for step in steps for line in step.shown], done.stderr
