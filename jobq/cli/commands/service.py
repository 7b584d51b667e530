"""``jobq service``: keep ``jobq work``, and ``jobq serve``, running with systemd."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson, Slots
from jobq.cli.parsing.typer_adapter import group_app, verb
from jobq.cli.rendering.output import is_terminal, note, print_fields, print_json
from jobq.config.environment import BACKEND_VAR, DATABASE_VAR, LOG_DIR_VAR
from jobq.config.settings import Settings
from jobq.errors import JobqError, NotFound, UsageError
from jobq.inert import inert
from jobq.system.permissions import (
    SHARED_DIRECTORY_MODE,
    SHARED_FILE_MODE,
    make_directory,
    open_file,
)

app = group_app(
    "Keep `jobq work` running with systemd, as a service of your own (no root).",
    ["jobq service install", "jobq service status"],
)

STOP_MARGIN_S = 20.0
"""Seconds that a stop may take beyond the grace period of jobs."""

UNIT = """\
# Written by `jobq service install`, and overwritten by the next one.
[Unit]
Description=jobq {verb} for {project}
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=exec
WorkingDirectory={directory}
{environment}
ExecStart={command}
Restart=on-failure
RestartSec=5
# Invalid input (2) and a missing queue (3) need a person: a restart does not help.
RestartPreventExitStatus=2 3
{stopping}

[Install]
WantedBy=default.target
"""

STOPPING_JOBS = """\
# SIGHUP returns running jobs to the queue immediately, without using up a retry.
KillSignal=SIGHUP
KillMode=mixed
TimeoutStopSec={stop:.0f}
# A job that runs out of memory is a failed job, not the end of the service.
OOMPolicy=continue"""

STOPPING_SERVER = "TimeoutStopSec=20"

_SIMPLE = re.compile(r"[A-Za-z0-9/._=:,@-]+")


OfServer = Annotated[bool, option("--serve", help="The service of `jobq serve`.")]


@verb(app)
def install(
    ctx: Context,
    jobs: Slots = None,
    serve: OfServer = False,
    print_only: Annotated[
        bool, option("--print", help="Print the unit without installing it.")
    ] = False,
) -> None:
    """Install and start a service that runs `jobq work` for this project.

    With --serve, it runs `jobq serve`, and is a service beside the other.

    Examples:
        jobq service install -j 4
        jobq service install --serve
        jobq service install --print
    """
    cli: Cli = ctx.obj
    if serve and jobs:
        raise UsageError("--serve runs no jobs: leave out --jobs")
    service = Service(cli.settings(), serve=serve)
    text = service.unit(jobs)
    if print_only:
        print("\n".join(map(inert, text.split("\n"))) if is_terminal() else text, end="")
        return
    changed = service.write(text)
    service.require_manager()
    service.systemctl("daemon-reload")
    service.systemctl("enable", service.name)
    service.systemctl("restart" if changed else "start", service.name)
    print(f"Installed and started {service.name}: journalctl --user -u {service.name}")
    _hint_linger()


@verb(app)
def uninstall(ctx: Context, serve: OfServer = False) -> None:
    """Stop the service and remove it. Running jobs return to the queue."""
    cli: Cli = ctx.obj
    service = Service(cli.settings(), serve=serve)
    service.require_installed()
    reached = service.is_reachable()
    if reached:
        service.systemctl("disable", "--now", service.name)
    service.path.unlink()
    if reached:
        service.systemctl("daemon-reload")
    print(f"Removed {service.name}")


@verb(app)
def status(ctx: Context, serve: OfServer = False, as_json: AsJson = False) -> int:
    """Show whether the service is installed and running; exit with 0 if it runs, else with 1."""
    cli: Cli = ctx.obj
    service = Service(cli.settings(), serve=serve)
    active = service.ask("is-active")
    document = {
        "unit": service.name,
        "path": str(service.path),
        "installed": service.path.exists(),
        "enabled": service.ask("is-enabled") == "enabled",
        "active": active == "active",
        "linger": lingers(),
    }
    if as_json:
        print_json(document)
    else:
        service.require_installed()
        print_fields(
            [
                ("unit", service.name),
                ("file", str(service.path)),
                ("at login", "started" if document["enabled"] else "not started"),
                ("state", active or "unknown: your systemd is not running here"),
                ("after logout", _after_logout(document["linger"])),
            ]
        )
    return 0 if document["active"] else 1


def _after_logout(linger: object) -> str:
    if linger is None:
        return "unknown"
    return "keeps running" if linger else "stops: `loginctl enable-linger` keeps it running"


def _hint_linger() -> None:
    if not lingers():
        note("It stops when you log out. To keep it running, run once: loginctl enable-linger")


def lingers() -> bool | None:
    """Return whether services of this user keep running after logout; None if unknown."""
    done = _run("loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value")
    return None if done is None or done.returncode else done.stdout.strip() == "yes"


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command and wait for it; None if there is no such command."""
    if shutil.which(command[0]) is None:
        return None
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )


@dataclass(frozen=True, slots=True)
class Service:
    """The systemd user unit of a project."""

    settings: Settings
    serve: bool = False  # it runs `jobq serve`

    @property
    def name(self) -> str:
        """The name: after the project's directory, and different for every jobq.toml."""
        kind = "jobq-serve" if self.serve else "jobq"
        if self.settings.path is None:
            return f"{kind}.service"
        path = self.settings.path.resolve()
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", path.parent.name).strip("-")[:40]
        return f"{kind}-{slug}-{digest}.service" if slug else f"{kind}-{digest}.service"

    @property
    def verb(self) -> str:
        """The verb of `jobq` that it runs."""
        return "serve" if self.serve else "work"

    @property
    def path(self) -> Path:
        """The path of the unit file."""
        base = os.environ.get("XDG_CONFIG_HOME") or _home() / ".config"
        return Path(base) / "systemd" / "user" / self.name

    def unit(self, jobs: int | None) -> str:
        """Return the text of the unit.

        Raises:
            UsageError: a path in it can't be written in a unit.
        """
        file = self.settings.path and self.settings.path.resolve()
        words = [*_program(), *(("--config", str(file)) if file else ()), self.verb]
        words += ["--jobs", str(jobs)] if jobs else []
        project = file or self.settings.database
        stop = self.settings.grace + STOP_MARGIN_S
        return UNIT.format(
            verb=self.verb,
            project=_plain(str(project)),
            directory=_plain(str(file.parent if file else _home())),
            environment="\n".join(f"Environment={_quoted(item)}" for item in self._environment()),
            command=" ".join(
                # systemd substitutes variables in arguments, not in the program's path.
                _quoted(word) if place == 0 else _quoted(word).replace("$", "$$")
                for place, word in enumerate(words)
            ),
            stopping=STOPPING_SERVER if self.serve else STOPPING_JOBS.format(stop=stop),
        )

    def _environment(self) -> list[str]:
        """Return the variables that systemd would not set, and workers need."""
        kept = {"PATH": os.environ.get("PATH", os.defpath)}
        for variable, path in (
            (DATABASE_VAR, self.settings.database),
            (LOG_DIR_VAR, self.settings.log_dir),
        ):
            if os.environ.get(variable):
                kept[variable] = str(path.absolute())
        if os.environ.get(BACKEND_VAR):
            kept[BACKEND_VAR] = self.settings.backend
        return [f"{name}={value}" for name, value in kept.items()]

    def write(self, text: str) -> bool:
        """Write the unit. Return whether it replaced a different one.

        Raises:
            JobqError: there is no systemd here.
        """
        if shutil.which("systemctl") is None:
            raise JobqError(
                "systemctl was not found, so nothing was installed: `jobq service install --print` "
                f"prints the unit; or start `jobq {self.verb}` from cron (@reboot)"
            )
        before = self.path.read_text("utf-8") if self.path.exists() else None
        make_directory(self.path.parent, SHARED_DIRECTORY_MODE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(open_file(self.path, flags, mode=SHARED_FILE_MODE), "wb") as file:
            file.write(text.encode())
        return before not in (None, text)

    def is_reachable(self) -> bool:
        """Return whether the systemd of this user answers."""
        done = _run("systemctl", "--user", "show-environment")
        return done is not None and done.returncode == 0

    def require_manager(self) -> None:
        """Refuse to go on where no service can be started.

        Raises:
            JobqError: the systemd of this user is not running.
        """
        if not self.is_reachable():
            raise JobqError(
                f"{self.path} was written, but your systemd is not running here: after you have "
                f"logged in, run `systemctl --user enable --now {self.name}`"
            )

    def require_installed(self) -> None:
        """Refuse to go on where the service is not installed.

        Raises:
            NotFound: it is not installed.
        """
        if not self.path.exists():
            raise NotFound(f"no service {self.name}: install it with `jobq service install`")

    def systemctl(self, *words: str) -> None:
        """Run a systemctl command for this user.

        Raises:
            JobqError: it failed.
        """
        done = _run("systemctl", "--user", *words)
        if done is None or done.returncode:
            why = done.stderr.strip().splitlines()[:1] if done else ["systemctl was not found"]
            raise JobqError(f"systemctl --user {' '.join(words)}: {''.join(why) or 'failed'}")

    def ask(self, question: str) -> str:
        """Return a word about the unit: active, enabled …; empty if systemd does not answer."""
        done = _run("systemctl", "--user", question, self.name)
        return done.stdout.strip() if done else ""


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise JobqError("you have no home directory for a service: set $HOME") from None


def _program() -> list[str]:
    """Return the command that runs jobq, by absolute paths."""
    script = Path(sys.executable).parent / "jobq"
    if os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-P", "-m", "jobq"]


def _plain(text: str) -> str:
    """Return text as the whole value of a setting, up to the end of the line."""
    if text.endswith((" ", "\\")):
        raise UsageError(
            f"{text!r}: a systemd unit can't have a path that ends like this: rename it"
        )
    return _escaped(text)


def _escaped(text: str) -> str:
    if not text.isprintable():
        raise UsageError(f"{text!r}: a path in a systemd unit must be printable: rename it")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return text as one word of a setting that is a list of words."""
    if _SIMPLE.fullmatch(text):
        return text
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
