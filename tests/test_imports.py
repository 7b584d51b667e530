"""A module imports only from the layers above its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = (
    "errors clock notify baseline private bounds",
    "timespec cron rowfiles plans outages redisurl",
    "models",
    "retry progress worker cuts redaction",
    "config endings outcome shell processes",
    "specs logs registry backends",
    "descendants trimming space newjobs shipped",
    "rescue",
    "queue invariants",
    "schedules rowchecks expiry",
    "documents scheduler testing explain eta batches exports moving",
    "metrics child hooks logkeeper shipping doctor",
    "forkserver runs orders",
    "children hand unrecorded",
    "pool",
    "running",
    "supervisor",
    "cli web",
)
"""From the top; modules of one layer do not know each other."""

TYPES_ONLY = {("worker", "queue")}
"""What a worker's author reaches as `job.queue`, named in an annotation and nowhere else."""

OUTSIDE = {"__init__", "__main__", "templates"}
"""What sees the library as its users do."""

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer.split()}
ROOT = Path(__file__).parent.parent / "jobq"
FILES = {
    file: file.relative_to(ROOT).with_suffix("").parts[0]
    for file in sorted(ROOT.rglob("*.py"))
    if "_workers" not in file.parts
}


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """The modules of jobq that a file imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are written out in full"
            if node.module == "jobq":
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif (node.module or "").startswith("jobq."):
                yield node.lineno, (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "jobq":
                    yield node.lineno, [*alias.name.split("."), "__init__"][1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_only_from_the_layers_above_it(file: Path) -> None:
    own = FILES[file]
    if own in OUTSIDE:
        return
    assert own in RANK, f"jobq/{own}: give it a place in LAYERS of {__file__}"
    for line, other in imported(file):
        assert other in RANK, f"{file}:{line}: imports {other}, which has no place in LAYERS"
        allowed = other == own or RANK[other] < RANK[own] or (own, other) in TYPES_ONLY
        assert allowed, f"{file}:{line}: {own} must not know {other}"


def test_every_place_in_the_layers_is_taken() -> None:
    assert set(RANK) - set(FILES.values()) <= {"web"}  # which is still to come
