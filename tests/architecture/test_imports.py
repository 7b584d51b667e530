"""Imports: only from rooms before one's own, and never in a circle."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jobq
from tests.support.paths import ROOT

ORDER = (
    "errors clock limits inert abandonment",
    "units",
    "models secret_text",
    "redaction options",
    "config",
    "system serializers",
    "backends",
    "job_types logs",
    "jobs describe",
    "recovery query supervisor_process",
    "job_reader pull_worker queue_admin triage",
    "queue",
    "scheduling transfer diagnostics async_queue",
    "execution",
    "pulled_job",
    "client web",
    "cli testing",
    "pytest_plugin",
)
"""A room imports from the lines above its own; rooms of one line do not know each other."""

INSIDE = {
    "jobq.cli": ("rendering", "parsing", "commands"),
    "jobq.backends": ("sqlite redis",),
}
"""The same, for folders within rooms."""

TYPES_ONLY = {("jobq.job_types.worker", "jobq.queue")}
"""What a worker's author reaches as `job.queue`: named in an annotation and nowhere else."""

OUTER_BACKENDS = {"jobq.backends.outage"}
"""What the command line may see of backends: when to try again, and no storage."""

PACKAGE = ROOT / "jobq"
PUBLIC = {"jobq", "jobq.__main__"}  # what sees the library as its users do


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(file): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if not {"_workers", "templates"} & set(file.parts)
}


def imported(module: str) -> Iterator[str]:
    """Yield the modules of jobq that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(FILES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are written out in full"
            if (node.module or "").partition(".")[0] == "jobq":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield full if full in FILES else node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] == "jobq")


IMPORTS = {
    module: {other for other in imported(module) if (module, other) not in TYPES_ONLY}
    for module in FILES
}


def rank_within(parent: str, order: tuple[str, ...], module: str) -> tuple[str, int] | None:
    """Return the room of a module below `parent`, and the number of its line."""
    room = module.removeprefix(f"{parent}.").partition(".")[0]
    lines = [place for place, line in enumerate(order) if room in line.split()]
    return (room, lines[0]) if module.startswith(f"{parent}.") and lines else None


@pytest.mark.parametrize("module", sorted(FILES.keys() - PUBLIC))
def test_a_module_imports_only_from_rooms_before_its_own(module: str) -> None:
    assert rank_within("jobq", ORDER, module), f"give {module} a place in ORDER"
    for parent, order in {"jobq": ORDER, **INSIDE}.items():
        own = rank_within(parent, order, module)
        for other in IMPORTS[module]:
            others = rank_within(parent, order, other)
            if own and others:
                assert own[0] == others[0] or others[1] < own[1], f"{module} imports {other}"


@pytest.mark.parametrize("module", [name for name in sorted(FILES) if ".cli" in name])
def test_the_command_line_reaches_jobs_through_the_queue_alone(module: str) -> None:
    assert not {n for n in IMPORTS[module] if n.startswith("jobq.backends")} - OUTER_BACKENDS
    source = FILES[module].read_text("utf-8")
    assert not re.search(r"\b(backend_of|recovery_of|prepare_jobs)\b|\._backend\b", source)


def test_nothing_inside_imports_the_whole() -> None:
    assert not [module for module in FILES.keys() - PUBLIC if "jobq" in IMPORTS[module]]


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()  # which names the circle


@pytest.mark.parametrize(
    "file",
    [*sorted((ROOT / "workers").rglob("*.py")), PACKAGE / "templates" / "example_worker.py"],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_workers_that_users_copy_import_only_what_jobq_exports(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not [name.name for name in node.names if name.name.startswith("jobq")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jobq"):
            assert node.module == "jobq", f"{file}:{node.lineno}: imports {node.module}"
            assert {alias.name for alias in node.names} <= set(jobq.__all__)


def test_rooms_have_empty_fronts() -> None:
    """Every command that passes through a room would pay for the imports of its front."""
    fronts = [file for file in PACKAGE.rglob("__init__.py") if file.parent != PACKAGE]
    assert not [file for file in fronts if file.read_text("utf-8") and "_workers" not in file.parts]


def test_every_room_stands_in_the_order() -> None:
    rooms = {module.split(".")[1] for module in FILES.keys() - PUBLIC}
    assert rooms == {room for line in ORDER for room in line.split()}
