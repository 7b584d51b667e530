"""The names of environment variables stand in one module."""

import re

from tests.support.paths import ROOT

QUOTED_NAME = re.compile(r"""["']_?JOBQ_[A-Z_]+["']""")
HOME = ROOT / "jobq/config/environment.py"


def test_variables_are_named_in_one_module() -> None:
    strays = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / "jobq").rglob("*.py"))
        if file != HOME
        for name in QUOTED_NAME.findall(file.read_text("utf-8"))
    ]
    assert not strays
