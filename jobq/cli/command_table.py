"""The verbs of the command line and their modules."""

from pathlib import Path

VERBS = {
    "init": "jobq.cli.commands.init",
    "add": "jobq.cli.commands.add",
    "list": "jobq.cli.commands.list",
    "show": "jobq.cli.commands.show",
    "explain": "jobq.cli.commands.explain",
    "tail": "jobq.cli.commands.tail",
    "cancel": "jobq.cli.commands.cancel",
    "retry": "jobq.cli.commands.retry",
    "triage": "jobq.cli.commands.triage",
    "wait": "jobq.cli.commands.wait",
    "run": "jobq.cli.commands.run",
    "work": "jobq.cli.commands.work",
    "up": "jobq.cli.commands.up",
    "down": "jobq.cli.commands.down",
    "import": "jobq.cli.commands.import_",
    "export": "jobq.cli.commands.export",
    "queue": "jobq.cli.commands.queue",
    "schedule": "jobq.cli.commands.schedule",
    "service": "jobq.cli.commands.service",
    "serve": "jobq.cli.commands.serve",
    "web": "jobq.cli.commands.web",
    "token": "jobq.cli.commands.token",
    "types": "jobq.cli.commands.types",
    "stats": "jobq.cli.commands.stats",
    "delete": "jobq.cli.commands.delete",
    "prune": "jobq.cli.commands.prune",
    "verify": "jobq.cli.commands.verify",
    "config": "jobq.cli.commands.config",
    "doctor": "jobq.cli.commands.doctor",
    "backup": "jobq.cli.commands.backup",
    "migrate": "jobq.cli.commands.migrate",
    "version": "jobq.cli.commands.version",
}
"""Every verb and its module, in the order of ``jobq --help``."""

SYNONYMS = {
    "ls": "list",
    "ps": "list",
    "status": "list",
    "rm": "delete",
    "log": "tail",
    "logs": "tail",
}
"""Other names of verbs, as people know them from other tools."""

SYNONYMS_BELOW = {"ls": ("list",), "rm": ("delete", "remove", "uninstall")}
"""Other names of the verbs of groups."""

GROUPS = frozenset({"queue", "schedule", "service", "token", "config"})
"""Verbs with verbs of their own: their modules have a Typer `app`.

The modules of all others have a function `command`, which is declared without Typer.
"""

READING_VERBS = frozenset({
    "list", "show", "explain", "tail", "wait", "export", "types", "stats", "verify", "config",
    "doctor", "version", "status", "path", "check",
})  # fmt: skip
"""Verbs, and verbs of groups, that change nothing: without their output, they are in vain."""


def title_of(verb: str) -> str:
    """Return the title of a verb from the first line of its module, without importing it."""
    module = VERBS[verb].rpartition(".")[2]
    with (
        Path(__file__).with_name("commands").joinpath(f"{module}.py").open(encoding="utf-8") as file
    ):
        return file.readline().partition(": ")[2].strip('."\n')
