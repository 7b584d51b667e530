"""The workers of docs/pull-workers.md, killed at random moments; `make soak` goes on for longer."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools.soak.pull_workers import PYTHON, SH, PullSoak, sh_worker

PLACES = [PYTHON] if shutil.which("curl") is None else [SH, PYTHON]


@pytest.mark.slow
def test_jobs_of_workers_that_are_killed_complete(tmp_path: Path) -> None:
    soak = PullSoak(tmp_path, seed=3, places=PLACES)
    try:
        soak.run(seconds=2.0, jobs=4, kills=3)
        totals, wrong = soak.account()
    finally:
        soak.close()
    assert not wrong, totals + "\n" + "\n".join(wrong)
    assert len(soak.ids) >= 4
    assert soak.did.total() == 3, totals


def test_they_are_as_short_as_the_page_says() -> None:
    text = (ROOT / "docs/pull-workers.md").read_text("utf-8")
    python = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert python is not None
    assert len(python[1].splitlines()) <= 15
    assert len(sh_worker().splitlines()) <= 20
