"""Several machines that share one Redis server, as far as one machine can tell.

Each has a project of its own, with logs, state and locks of its own, and reaches the server through
a cable that can be pulled.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from e2e.conftest import Project
from redis_server import RedisServer
from tcp_proxy import TcpProxy

LEASE = 3.0

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
    """One of them."""

    def __init__(self, root: Path, server: RedisServer, cable: TcpProxy, lease: float) -> None:
        root.mkdir(parents=True)
        url = server.url_as(None, server.password, cable.port)
        (root / "jobq.toml").write_text(SETTINGS.format(url=url, lease=lease))
        self.cable = cable
        super().__init__(root)

    def said(self, text: str, name: str = "said") -> bool:
        """Whether its supervisor has said something."""
        return text in (self.root / name).read_text()


@contextmanager
def hosts(
    folder: Path, server: RedisServer, number: int = 2, *, lease: float = LEASE
) -> Iterator[list[Host]]:
    """So many of them."""
    with ExitStack() as stack:
        made = []
        for place in range(number):
            cable = stack.enter_context(TcpProxy(server.port))
            host = Host(folder / f"host{place}", server, cable, lease)
            stack.callback(host.close)
            made.append(host)
        yield made
