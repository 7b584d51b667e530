"""``jobq service``: have systemd run ``jobq work`` for this project, also after you log out."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import as_typer
from jobq.cli.rendering.output import inert, is_terminal, note, print_fields, print_json
from jobq.config.environment import BACKEND_VAR, DATABASE_VAR, LOG_DIR_VAR
from jobq.config.settings import Settings
from jobq.errors import JobqError, NotFound, UsageError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Keep `jobq work` running by systemd, as a service of your own (no root).",
)

STOP_MARGIN = 20.0
"""Seconds that a stop may take beyond the grace period of jobs."""

UNIT = """\
# Written by `jobq service install`, and overwritten by the next one.
[Unit]
Description=jobq work for {project}
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=exec
WorkingDirectory={directory}
{environment}
ExecStart={command}
Restart=on-failure
RestartSec=5
# Wrong input (2) and a queue that is not there (3) do not mend by themselves.
RestartPreventExitStatus=2 3
# SIGHUP gives running jobs back to the queue at once, at no cost in retries.
KillSignal=SIGHUP
KillMode=mixed
TimeoutStopSec={stop:.0f}
# A job that runs out of memory is a failed job, not the end of the service.
OOMPolicy=continue

[Install]
WantedBy=default.target
"""

_SIMPLE = re.compile(r"[A-Za-z0-9/._=:,@-]+")


@app.command()
@as_typer
def install(
    ctx: Context,
    jobs: Annotated[
        int | None,
        option("--jobs", "-j", least=1, metavar="N", help="At most so many at once."),
    ] = None,
    print_only: Annotated[
        bool, option("--print", help="Print the unit, and change nothing.")
    ] = False,
) -> None:
    """Install and start a service that runs `jobq work` for this project."""
    cli: Cli = ctx.obj
    service = Service(cli.settings())
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
    _tell_of_linger()


@app.command()
@as_typer
def uninstall(ctx: Context) -> None:
    """Stop the service and remove it. Jobs that run are given back to the queue."""
    cli: Cli = ctx.obj
    service = Service(cli.settings())
    service.require_installed()
    reached = service.is_reachable()
    if reached:
        service.systemctl("disable", "--now", service.name)
    service.path.unlink()
    if reached:
        service.systemctl("daemon-reload")
    print(f"Removed {service.name}")


@app.command()
@as_typer
def status(ctx: Context, as_json: AsJson = False) -> int:
    """Show whether the service is installed, and runs. Leaves with 0 if it does, with 1 if not."""
    cli: Cli = ctx.obj
    service = Service(cli.settings())
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
                ("state", active or "unknown: no systemd of yours runs here"),
                ("after logout", _after_logout(document["linger"])),
            ]
        )
    return 0 if document["active"] else 1


def _after_logout(linger: object) -> str:
    if linger is None:
        return "unknown"
    return "runs on" if linger else "stops: `loginctl enable-linger` lets it run on"


def _tell_of_linger() -> None:
    if not lingers():
        note("It stops when you log out, unless you run this once: loginctl enable-linger")


def lingers() -> bool | None:
    """Whether services of this user go on after logout; None if that is not known."""
    done = _run("loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value")
    return None if done is None or done.returncode else done.stdout.strip() == "yes"


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command to its end; None if there is no such command."""
    if shutil.which(command[0]) is None:
        return None
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )


@dataclass(frozen=True, slots=True)
class Service:
    """The systemd user unit of a project."""

    settings: Settings

    @property
    def name(self) -> str:
        """Its name: after the project's directory, and different for every jobq.toml."""
        if self.settings.path is None:
            return "jobq.service"
        path = self.settings.path.resolve()
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", path.parent.name).strip("-")[:40]
        return f"jobq-{slug}-{digest}.service" if slug else f"jobq-{digest}.service"

    @property
    def path(self) -> Path:
        """Where it belongs."""
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(base) / "systemd" / "user" / self.name

    def unit(self, jobs: int | None) -> str:
        """The text of the unit.

        Raises:
            UsageError: a path in it can't be written in a unit.
        """
        file = self.settings.path and self.settings.path.resolve()
        words = [*_program(), *(("--config", str(file)) if file else ()), "work"]
        words += ["--jobs", str(jobs)] if jobs else []
        project = file or self.settings.database
        return UNIT.format(
            project=_plain(str(project)),
            directory=_plain(str(file.parent if file else Path.home())),
            environment="\n".join(f"Environment={_quoted(item)}" for item in self._environment()),
            command=" ".join(
                # In the path of the program itself, nothing is substituted.
                _quoted(word) if place == 0 else _quoted(word).replace("$", "$$")
                for place, word in enumerate(words)
            ),
            stop=self.settings.grace + STOP_MARGIN,
        )

    def _environment(self) -> list[str]:
        """What systemd would not have, and workers find programs by."""
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
        """Write the unit; whether there was another one before.

        Raises:
            JobqError: there is no systemd here.
        """
        if shutil.which("systemctl") is None:
            raise JobqError(
                "no systemctl here, so nothing was written: `jobq service install --print` prints "
                "the unit; or start `jobq work` from cron (@reboot)"
            )
        before = self.path.read_text("utf-8") if self.path.exists() else None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text, "utf-8")
        return before not in (None, text)

    def is_reachable(self) -> bool:
        """Whether there is a systemd of this user to talk to."""
        done = _run("systemctl", "--user", "show-environment")
        return done is not None and done.returncode == 0

    def require_manager(self) -> None:
        """Refuse to go on where nothing can be started.

        Raises:
            JobqError: no systemd of this user runs.
        """
        if not self.is_reachable():
            raise JobqError(
                f"{self.path} is written, but no systemd of yours runs here: after you have "
                f"logged in, run `systemctl --user enable --now {self.name}`"
            )

    def require_installed(self) -> None:
        """Refuse to go on where there is nothing to speak of.

        Raises:
            NotFound: it is not installed.
        """
        if not self.path.exists():
            raise NotFound(f"no service {self.name}: install it with `jobq service install`")

    def systemctl(self, *words: str) -> None:
        """Have systemd do something.

        Raises:
            JobqError: it did not.
        """
        done = _run("systemctl", "--user", *words)
        if done is None or done.returncode:
            why = done.stderr.strip().splitlines()[:1] if done else ["no systemctl here"]
            raise JobqError(f"systemctl --user {' '.join(words)}: {''.join(why) or 'failed'}")

    def ask(self, question: str) -> str:
        """One word about the unit: active, enabled …; nothing if systemd can't be asked."""
        done = _run("systemctl", "--user", question, self.name)
        return done.stdout.strip() if done else ""


def _program() -> list[str]:
    """The command that this is, by absolute paths."""
    script = Path(sys.executable).parent / "jobq"
    if os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-P", "-m", "jobq"]


def _plain(text: str) -> str:
    """Text as the whole value of a setting: it goes to the end of the line."""
    if text.endswith((" ", "\\")):
        raise UsageError(f"{text!r}: a systemd unit can't have a path that ends so: rename it")
    return _escaped(text)


def _escaped(text: str) -> str:
    if not text.isprintable():
        raise UsageError(f"{text!r}: a systemd unit can't have this in a path: rename it")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Text as one word of a setting that is a list of words."""
    if _SIMPLE.fullmatch(text):
        return text
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
