"""The benchmark suite: its judgement and its pages. The measurements themselves take minutes."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import floors, guard, report, simulation
from benchmarks.harness import alternate
from benchmarks.plots import drawn
from benchmarks.results import Result, Sample, compared
from jobq.cli.parsing.typer_app import command_of
from tests.support.paths import ROOT


def ratio(ours: float, theirs: float, *, want: str = "at most", target: float = 1.2) -> Result:
    return compared(
        99, "ours", "ms", Sample((ours,)), "theirs", Sample((theirs,)),
        want="at most" if want == "at most" else "at least", target=target,
    )  # fmt: skip


def test_a_target_is_met_from_the_right_side() -> None:
    assert ratio(1.2, 1.0).met is True
    assert ratio(1.3, 1.0).met is False
    assert ratio(2.0, 1.0, want="at least").met is True
    assert ratio(1.0, 1.0, want="at least").met is False


def test_the_sides_take_turns() -> None:
    said: list[str] = []

    def side(name: str) -> float:
        said.append(name)
        return float(len(said))

    first, second = alternate(2, lambda: side("a"), lambda: side("b"))
    assert said == ["a", "b"] * 3  # the first round does not count
    assert (first.values, second.values) == ((3, 5), (4, 6))


def test_the_guard_exits_with_1_where_a_ratio_is_out_of_bounds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fine, slow = ratio(1.5, 1.0), ratio(2.0, 1.0)
    limits = {(99, "the"): 1.8, (98, "ours"): 1.0}  # another row's
    assert guard.judge([fine], limits, rows=[99]) == 0
    assert guard.judge([fine, slow], limits, rows=[99]) == 1
    assert "ours against theirs: 2.00, and at most 1.80 passes" in capsys.readouterr().err
    assert guard.judge([ratio(1.0, 1.0, want="at least")], limits, rows=[99]) == 1
    assert guard.judge([slow], {}) == 0  # nothing is guarded that has no threshold


def test_the_guard_misses_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge([ratio(1.5, 1.0)], {(99, "another"): 1.8}, rows=[99]) == 1
    assert "row 99: another: not measured" in capsys.readouterr().err
    assert guard.judge([], {(99, "another"): 1.8}, rows=[98]) == 0


def test_a_target_that_is_missed_stands_beside_what_the_floor_comes_to() -> None:
    def result(against: str, theirs: float, target: float | None, *, is_floor: bool) -> Result:
        return Result(
            row=99, measure="jobs", unit="jobs/s", ours=10, against=against, theirs=theirs,
            want="at least", target=target, is_floor=is_floor,
        )  # fmt: skip

    floor = result("the least", 40, None, is_floor=True)
    machine = report.machine()
    met = report.page(machine, [result("a peer", 20, 1.5, is_floor=False), floor])
    assert (
        "against a peer: 0.50, and the target is ≥ 1.5. The floor comes to 2.00 and meets it."
        in met
    )
    missed = report.page(machine, [result("a peer", 40, 1.5, is_floor=False), floor])
    assert "The floor comes to 1.00 and misses it, too." in missed
    alone = report.page(machine, [result("a peer", 40, 1.5, is_floor=False)])
    assert "There is no floor for it." in alone


@pytest.mark.parametrize("verb", ["add", "show"])
def test_the_floor_of_a_verb_takes_its_options_and_does_nothing(verb: str, tmp_path: Path) -> None:
    argv = floors.typer_app(tmp_path, verb, "--help")
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    for parameter in command_of(verb).params:
        if parameter.param_type_name == "option":
            assert set(parameter.opts) <= set(re.findall(r"--?[\w-]+", done.stdout)), parameter.name
    done = subprocess.run(
        [*argv[:-1], "1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_the_page_is_what_was_measured() -> None:
    page = report.page(*report.load(ROOT / "benchmarks" / "results" / "full.json"))
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8") == page


def test_slots_are_in_use_until_the_writer_is_not_quick_enough() -> None:
    assert simulation.share_in_use(1, 1.0, 0.001) == pytest.approx(1, abs=0.01)
    assert simulation.share_in_use(500, 0.1, 0.001) == pytest.approx(100 / 500, rel=0.05)


def test_a_plot_has_a_line_for_each_cost() -> None:
    lines = {"add": [(1, 10.0), (1000, 20.0)], "<claim>": [(1, 5.0), (1000, 500.0)]}
    svg = ET.fromstring(drawn({"size": "jobs", "cost": "µs", "lines": lines}))
    points = [
        [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
        for line in svg.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    (add_from, add_to), (claim_from, claim_to) = points
    assert add_from[0] == claim_from[0] < add_to[0] == claim_to[0]
    assert claim_to[1] < add_to[1] < add_from[1] < claim_from[1]  # more is further up
    assert "<claim>" in ("".join(svg.itertext()))


def test_the_benchmarks_are_asked_for_by_number() -> None:
    argv = [sys.executable, "-m", "benchmarks", "99"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no row 99" in done.stderr
