"""Several hosts that share one Redis server, as far as one machine can simulate them.

Each has a project of its own, with logs, state and locks of its own, and reaches the server through
a cable that can be pulled.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jobq import Job
from tests.support.project import Project
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

LEASE = 4.0

SETTINGS = """
backend = "{url}"
concurrency = 2
[lease]
seconds = {lease}
grace = 0.5
[retry]
base = 0.05
jitter = 0
"""


class Host(Project):
    """One of the hosts."""

    def __init__(self, root: Path, server: RedisServer, cable: TcpProxy, lease: float) -> None:
        root.mkdir(parents=True)
        url = server.url_as(None, server.password, cable.port)
        (root / "jobq.toml").write_text(SETTINGS.format(url=url, lease=lease))
        self.cable = cable
        super().__init__(root)

    def shell(self, script: str, **options: Any) -> Job:
        """Add a job that runs in this host's directory, on whichever host."""
        return super().shell(f"cd {self.root}; {script}", **options)

    def said(self, text: str) -> int:
        """Return how often its supervisor, which writes to `said`, has written something."""
        return (self.root / "said").read_text().count(text)

    def events(self, job: Job, name: str) -> list[dict[str, Any]]:
        """Return the events of one kind in this host's log of a job."""
        lines = map(json.loads, self.output(job, "events.jsonl").splitlines())
        return [line for line in lines if line["event"] == name]


@contextmanager
def hosts(
    folder: Path, server: RedisServer, number: int = 2, *, lease: float = LEASE
) -> Iterator[list[Host]]:
    """Return a number of hosts."""
    with ExitStack() as stack:
        made = []
        for place in range(number):
            cable = stack.enter_context(TcpProxy(server.port))
            host = Host(folder / f"host{place}", server, cable, lease)
            stack.callback(host.close)
            made.append(host)
        yield made
