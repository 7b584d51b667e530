"""The verbs of the command line, and where each is."""

from pathlib import Path

VERBS = {
    "init": "jobq.cli.init",
    "add": "jobq.cli.add",
    "list": "jobq.cli.list",
    "show": "jobq.cli.show",
    "explain": "jobq.cli.explain",
    "tail": "jobq.cli.tail",
    "cancel": "jobq.cli.cancel",
    "retry": "jobq.cli.retry",
    "wait": "jobq.cli.wait",
    "run": "jobq.cli.run",
    "work": "jobq.cli.work",
    "import": "jobq.cli.import_",
    "export": "jobq.cli.export",
    "queue": "jobq.cli.queue",
    "schedule": "jobq.cli.schedule",
    "service": "jobq.cli.service",
    "types": "jobq.cli.types",
    "stats": "jobq.cli.stats",
    "prune": "jobq.cli.prune",
    "verify": "jobq.cli.verify",
    "config": "jobq.cli.config",
    "doctor": "jobq.cli.doctor",
    "backup": "jobq.cli.backup",
    "migrate": "jobq.cli.migrate",
    "version": "jobq.cli.version",
}
"""Every verb and its module, in the order of ``jobq --help``."""

GROUPS = frozenset({"queue", "schedule", "service", "config"})
"""Verbs with verbs of their own: their modules have a Typer `app`.

Those of all others have a function `command`, which is declared without Typer.
"""


def title_of(verb: str) -> str:
    """What a verb is about, as the first line of its module says: which is not imported for that."""
    module = VERBS[verb].rpartition(".")[2]
    with Path(__file__).with_name(f"{module}.py").open(encoding="utf-8") as file:
        return file.readline().partition(": ")[2].strip('."\n')
