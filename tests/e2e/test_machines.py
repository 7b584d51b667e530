"""Machines with networks, processes and names of their own, as the kernel can make them."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobq import JobStatus
from tests.support.hosts import SETTINGS
from tests.support.project import Project, wait_until
from tests.support.redis_server import RedisServer

LEASE = 5.0


def run(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class Network:
    """A network of its own, with a cable to this one."""

    def __init__(self, number: int) -> None:
        subnet = f"10.{os.getpid() // 250 % 250}.{os.getpid() % 250}"
        self.near, self._far = f"{subnet}.{number * 4 + 1}", f"{subnet}.{number * 4 + 2}"
        self.name = f"jobq{os.getpid()}-{number}"
        self._ends = f"jq{os.getpid()}n{number}", f"jq{os.getpid()}f{number}"

    def make(self) -> bool:
        """Return whether it could be made."""
        near, far = self._ends
        inside = ("ip", "netns", "exec", self.name, "ip")
        return (
            run("ip", "netns", "add", self.name)
            and run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            and run("ip", "link", "set", far, "netns", self.name)
            and run("ip", "address", "add", f"{self.near}/30", "dev", near)
            and run("ip", "link", "set", near, "up")
            and run(*inside, "address", "add", f"{self._far}/30", "dev", far)
            and run(*inside, "link", "set", far, "up")
        )

    def pull_cable(self) -> None:
        assert run("ip", "link", "set", self._ends[0], "down")

    def remove(self) -> None:
        run("ip", "link", "delete", self._ends[0])
        run("ip", "netns", "delete", self.name)


class Machine(Project):
    """What works on it sees no process of another one, and reaches the server by its cable alone."""

    def __init__(self, root: Path, server: RedisServer, network: Network) -> None:
        self.network = network
        root.mkdir()
        url = f"redis://{network.near}:{server.port}/0"
        (root / "jobq.toml").write_text(SETTINGS.format(url=url, lease=LEASE))
        super().__init__(root)

    def boot(self) -> "subprocess.Popen[bytes]":
        """Start a supervisor, as the first process of this machine."""
        new = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        with (self.root / "said").open("w") as said:
            return subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self.network.name,
                    *new,
                    sys.executable,
                    "-m",
                    "jobq",
                    "work",
                ],
                cwd=self.root,
                stdout=said,
                stderr=said,
            )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Two of them, and a server that listens on their cables."""
    with ExitStack() as stack:
        networks = [Network(number) for number in range(2)]
        for network in networks:
            stack.callback(network.remove)
        if not all(network.make() for network in networks):
            pytest.skip("needs the right to make network namespaces")
        near = [network.near for network in networks]
        server = RedisServer("--bind", "127.0.0.1", *near, "--protected-mode", "no")
        stack.enter_context(server)
        made = []
        for number, network in enumerate(networks):
            made.append(Machine(tmp_path / f"machine{number}", server, network))
            stack.callback(made[-1].close)
        yield made


def test_a_machine_whose_cable_is_pulled_ends_its_job_by_itself(machines: list[Machine]) -> None:
    one, other = machines
    script = f"cd {one.root}; [ $JOBQ_ATTEMPT = 2 ] || while :; do date +%s.%N >> ticks; sleep 0.05; done"
    job = one.shell(script)
    supervisors = [one.boot()]
    try:
        wait_until((one.root / "ticks").exists)
        supervisors.append(other.boot())
        wait_until(lambda: len(other.queue.supervisors()) == 2)
        one.network.pull_cable()
        other.wait_for(job, JobStatus.COMPLETED)
        first, second = other.queue.attempts(job.id)
        assert [str(each.outcome) for each in (first, second)] == ["lost", "completed"]
        ticks = list(map(float, (one.root / "ticks").read_text().split()))
        assert ticks[-1] < second.started_at.timestamp()
        assert max(b - a for a, b in itertools.pairwise(ticks)) < LEASE  # it went on until then
        assert "its lease can't be renewed" in (one.root / "said").read_text()
    finally:
        for supervisor in supervisors:
            supervisor.send_signal(signal.SIGKILL)
            supervisor.wait()
