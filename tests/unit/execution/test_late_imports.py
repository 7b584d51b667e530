"""Imports within functions: all that a running supervisor may reach are made ahead of time."""

import subprocess
import sys

import pytest

from jobq.execution.late_imports import ReplacedError, replacement_reported

NOT_LATE = {
    "jobq.backends.redis.backend",  # the other backend
    "jobq.backends.redis.connection",
    "jobq.backends.sqlite.migrations",  # before it works
    "sqlite_utils",
    "jobq.config.redis_url",
    "jobq.config.toml_lines",
    "platformdirs",
    "tempfile",  # of commands
    "grp",
}

SCAN = """
import ast, sys
from pathlib import Path
import jobq.cli.commands.work
import jobq.execution.children.fork_server
from jobq.config.loader import load_settings
from jobq.execution.late_imports import import_late_modules
from jobq.execution.slots import _shipper_of
import_late_modules(load_settings())
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] != "jobq" or ".cli" in name or not module.__file__:
        continue
    for function in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    print(*(alias.name for alias in node.names), sep="\\n")
                if isinstance(node, ast.ImportFrom):
                    print(node.module)
print("-")
print(*sys.modules, sep="\\n")
"""


def test_no_import_is_left_for_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCAN], capture_output=True, encoding="utf-8", check=True
    )
    wanted, _, imported = done.stdout.partition("-\n")
    late = set(wanted.split()) - set(imported.split()) - NOT_LATE
    assert late == {"jobq.logs.shipper"}  # made with the supervisor, where there may be other hosts


def test_a_failed_import_says_what_to_do() -> None:
    told = pytest.raises(ReplacedError, match="was replaced while it was running: start it again")
    with told, replacement_reported():
        raise ModuleNotFoundError("No module named 'jobq.gone'")
