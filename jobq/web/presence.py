"""Servers that run: a file each, by which `jobq web` finds them."""

import os
from collections.abc import Iterator
from pathlib import Path

from jobq.config.settings import Settings
from jobq.system.processes import boot_id, start_time
from jobq.web.files import make_private, read_document, write_document
from jobq.web.tokens import audience_of


class Presence:
    """The file of one server: its process, its URL, and the queue that it serves."""

    def __init__(self, file: Path, url: str, audience: str) -> None:
        self.file = file
        self.url = url
        self._audience = audience

    def write(self) -> None:
        """Say that this process serves."""
        make_private(self.file.parent)
        pid = os.getpid()
        document = {
            "pid": pid,
            "started": start_time(pid),
            "boot": boot_id(),
            "url": self.url,
            "audience": self._audience,
        }
        write_document(self.file, document)

    def remove(self) -> None:
        """Say that it does no more."""
        self.file.unlink(missing_ok=True)


def presence_of(settings: Settings, url: str) -> Presence:
    """Return the file of this process, which is not written yet."""
    file = settings.serve_dir / "servers" / f"{os.getpid()}.json"
    return Presence(file, url, audience_of(settings))


def running_urls(settings: Settings) -> Iterator[str]:
    """Yield the URLs of the servers of this queue that run on this host."""
    folder = settings.serve_dir / "servers"
    for file in sorted(folder.glob("*.json")):
        found = read_document(file) or {}
        started, pid = found.get("started"), found.get("pid")
        is_alive = isinstance(pid, int) and started is not None and start_time(pid) == started
        if not is_alive or found.get("boot") != boot_id():
            file.unlink(missing_ok=True)
        elif found.get("audience") == audience_of(settings):
            yield str(found.get("url"))
