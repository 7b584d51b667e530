"""The chaos run, for a few seconds; `make soak` goes on for longer."""

from pathlib import Path

import pytest

from tools.soak.chaos import Chaos


@pytest.mark.parametrize("seed", [4])
def test_all_adds_up_after_a_while_of_chaos(tmp_path: Path, seed: int) -> None:
    chaos = Chaos(tmp_path, seed, bytes_=1_000_000)
    try:
        chaos.run(seconds=8, most_jobs=500, least_jobs=51)
        totals, wrong = chaos.account()
    finally:
        chaos.close()
    assert not wrong, f"seed {seed}\n{totals}\n" + "\n".join(wrong)
    assert chaos.did.total() > len(chaos.ends) > 50
