"""A real `jobq serve` in a process of its own, and clients that speak to it."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from jobq import JobQueue
from jobq.web.tokens import TokenStore

SETTINGS = """
[serve]
port = 0
submit = ["shell", "example"]
submit_env = ["GREETING"]
submit_cwd = ["."]
rate = "10000/s"
"""
ALL_ROLES = ("read", "operate", "submit", "worker")


class WebServer:
    """A server of the jobs in a directory, and the queue behind it."""

    def __init__(self, folder: Path, *args: str, settings: str = SETTINGS, top: str = "") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "jobq.toml").write_text(top + settings)
        self.queue = JobQueue.open(folder / "jobq.toml")
        self.tokens = TokenStore(self.queue.settings)
        self.tokens.open()
        self._args = args
        self._clients: list[httpx2.Client] = []
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it accepts connections."""
        with (self.folder / "access.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobq", "serve", *self._args],
                cwd=self.folder,
                env={k: v for k, v in os.environ.items() if not k.startswith("JOBQ_")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        assert said.startswith("Serving on "), said + self.process.stderr.read()
        self.url = said.split()[2]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process; return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def token(self, *roles: str, name: str | None = None, **options: Any) -> str:
        """Return a new token with these roles; without any, with all."""
        name = name or f"t-{os.urandom(6).hex()}"
        options = {"life": timedelta(hours=1), **options}
        return self.tokens.create(name, roles or ALL_ROLES, **options)[0]

    def client(self, token: str | None = None, **options: Any) -> httpx2.Client:
        """Return a client, with a token if one is given."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        client = httpx2.Client(base_url=self.url, headers=headers, trust_env=False, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()
        self.queue.close()
