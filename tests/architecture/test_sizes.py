"""Files, functions and classes stay within a size that can be read in one go."""

import ast
from collections.abc import Iterator
from typing import TypeGuard

from tests.support.paths import ROOT

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_METHODS = 30
MAX_BACKEND_METHODS = 40
"""Of an implementation of the whole contract."""

BACKENDS = {"Backend", "SqliteBackend", "RedisBackend"}

RELEASED = "jobq/backends/sqlite/migrations.py"
"""Steps of migration that databases have been through are not edited any more."""


def large() -> Iterator[str]:
    for folder in ("jobq", "workers", "tests", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            text, name = file.read_text("utf-8"), str(file.relative_to(ROOT))
            if len(text.splitlines()) > MAX_FILE_LINES:
                yield name
            for node in ast.walk(ast.parse(text)):
                if is_large_class(node) or (is_large_function(node) and name != RELEASED):
                    yield f"{name}:{node.name}"


def is_function(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def is_large_function(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return is_function(node) and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES


def is_large_class(node: ast.AST) -> TypeGuard[ast.ClassDef]:
    if not isinstance(node, ast.ClassDef):
        return False
    allowed = MAX_BACKEND_METHODS if node.name in BACKENDS else MAX_METHODS
    return len(list(filter(is_function, node.body))) > allowed


def test_nothing_is_too_large_to_be_read_in_one_go() -> None:
    assert list(large()) == []
