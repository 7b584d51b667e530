"""The names of environment variables stand in one module."""

import ast
import re

from tests.support.paths import ROOT

NAME = re.compile(r"_?JOBQ_[A-Z_]+")
HOME = ROOT / "jobq/config/environment.py"


def test_variables_are_named_in_one_module() -> None:
    strays = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for file in sorted((ROOT / "jobq").rglob("*.py"))
        if file != HOME
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if NAME.fullmatch(node.value)
    ]
    assert not strays
