import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.models import Condition, Parent
from jobq.queue import backend_of
from jobq.transfer.formats import Row, Table
from jobq.transfer.importer import Importer
from tests.support.cli_runner import Cli
from tests.support.import_rows import ECHO, imported, jobs, parents, refused, write


def test_rows_wait_for_rows_further_up_and_further_down(cli: Cli) -> None:
    found = imported(
        cli,
        {**ECHO, "name": "last", "after": ["middle"], "after_any": ["first"]},
        {**ECHO, "name": "middle", "key": "middle", "after": ["first"]},
        {**ECHO, "name": "first", "key": "first"},
        {**ECHO, "name": "rescue", "after_fail": ["middle"]},
    )
    ids = {job.name: job.id for job in found}
    by_name = {job.name: job for job in found}
    assert set(by_name["last"].parents) == {
        Parent(ids["middle"], Condition.SUCCEEDED),
        Parent(ids["first"], Condition.ENDED),
    }
    assert parents(by_name["middle"]) == [ids["first"]]
    assert by_name["rescue"].parents == (Parent(ids["middle"], Condition.FAILED),)
    assert [by_name[n].status for n in ("first", "middle")] == ["pending", "blocked"]


def test_rows_stay_in_order_where_they_can(cli: Cli) -> None:
    rows = [
        {**ECHO, "name": str(n), "key": str(n), "after": [str(n - 1)] * (n > 0)} for n in range(9)
    ]
    assert [job.name for job in imported(cli, *rows)] == [str(n) for n in range(9)]


def test_rows_wait_for_jobs_by_id_and_by_an_earlier_key(cli: Cli) -> None:
    first, second = cli.add(), cli.add()
    imported(cli, {**ECHO, "key": "third"})
    rows = [
        {**ECHO, "after": [first.id, "third"]}, {**ECHO, "after": second.id},
        {**ECHO, "after": f"{first.id}, {second.id}"}, {**ECHO, "after": [str(first.id)]},
    ]  # fmt: skip
    found = imported(cli, *rows)[3:]
    assert [parents(job) for job in found] == [[1, 3], [2], [1, 2], [1]]


def test_a_number_is_a_key_where_a_row_has_it(cli: Cli) -> None:
    cli.add()
    found = imported(cli, "key,shell,after", "1,true,", "2,true,1", name="rows.csv")
    assert parents(found[2]) == [2]


def test_parents_in_a_table_stand_between_commas_or_spaces_or_in_json(cli: Cli) -> None:
    found = imported(
        cli,
        "key,shell,after",
        "a,true,", "b,true,", "c d,true,", 'e,true,"a,b"', "f,true,a b", 'g,true,"[""c d""]"',
        name="rows.csv",
    )  # fmt: skip
    assert [parents(job) for job in found[3:]] == [[1, 2], [1, 2], [3]]


@pytest.mark.parametrize("size", [1, 2, 12])
def test_rows_that_wait_in_a_circle_are_named(cli: Cli, size: int) -> None:
    rows = [{**ECHO, "key": f"k{n}", "after": [f"k{(n + 1) % size}"]} for n in range(size)]
    found = refused(cli, ECHO, *rows, {**ECHO, "after": ["k0"]})
    assert len(found) == size + 1
    shown = " → ".join(
        [*[f"k{n}" for n in range(min(size, 8))], *(["…"] if size > 8 else []), "k0"]
    )
    assert found[0] == (f"rows.jsonl:2: after: these rows wait for each other in a circle: {shown}")
    assert "waits for rows that wait for each other in a circle: k0" in found[-1]


def test_a_key_is_that_of_one_row(cli: Cli) -> None:
    assert refused(cli, {**ECHO, "key": "a"}, ECHO, {**ECHO, "key": "a"}) == [
        "rows.jsonl:3: key: 'a' is that of line 1, too"
    ]


def test_the_same_file_twice_adds_nothing_twice(cli: Cli) -> None:
    file = write(
        "rows.jsonl",
        {**ECHO, "key": "a", "at": "2099-01-01 00:00Z", "priority": "high", "delay": None},
        {**ECHO, "key": "b", "after": ["a"], "tags": {"x": "y"}},
        {"type": "metadata_extraction", "args": {"path": "/x"}, "key": "c", "delay": "5m"},
    )
    first = cli("import", file, "--json").json
    assert (first["added"], first["existing"]) == (3, 0)
    assert (first["first_id"], first["last_id"]) == (1, 3)
    second = cli("import", file, "--json").json
    assert (second["added"], second["existing"]) == (0, 3)
    assert second["first_id"] is None
    assert len(jobs(cli)) == 3


def test_a_key_is_that_of_the_first_row_whether_others_are_good_or_not(cli: Cli) -> None:
    good, bad = {**ECHO, "key": "a"}, {**ECHO, "key": "a", "name": 5}
    result = cli("import", write("rows.jsonl", good, bad), "--skip-invalid")
    assert [line.split(": ")[:2] for line in result.err.splitlines()] == [["rows.jsonl:2", "name"]]
    assert len(jobs(cli)) == 1


@pytest.mark.parametrize("at", ["now", "tomorrow 7:00", "18:00"])
def test_a_row_with_a_time_in_words_is_the_same_on_another_day(
    cli: Cli, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {**ECHO, "key": "a", "at": at}
    (job,) = imported(cli, row)
    later = utcnow() + timedelta(days=2)
    monkeypatch.setattr("jobq.backends.base.utcnow", lambda: later)
    assert [found.run_at for found in imported(cli, row)] == [job.run_at]
    assert "was added from a different row" in refused(cli, {**row, "at": "2099-01-01 00:00"})[0]


def test_rows_that_were_added_to_a_file_are_added(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    found = imported(cli, {**ECHO, "key": "a"}, {**ECHO, "key": "b", "after": ["a"]})
    assert parents(found[1]) == [1]


def test_a_row_is_the_same_in_every_format_and_directory(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(
        cli, {**ECHO, "key": "a", "priority": 7, "retries": 2, "timeout": 60, "tags": {"t": "1"}}
    )
    Path("below").mkdir()
    monkeypatch.chdir("below")
    monkeypatch.setenv("TZ", "UTC")
    found = imported(
        cli,
        "key,argv,priority,retries,timeout,tag.t",
        'a,"[""echo"", ""hi""]",high,2,1m,1',
        name="rows.csv",
    )
    assert len(found) == 1


def test_a_key_whose_row_says_something_else_is_refused(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    for other in ({"priority": 7}, {"argv": ["echo", "ho"]}, {"delay": 5}, {"after": [1]}):
        (line,) = refused(cli, {**ECHO, "key": "a", **other})
        assert line == (
            "rows.jsonl:1: key: 'a' belongs to job 1, which was added from a different row: "
            "give the row another key"
        )


def test_keys_can_be_given_a_prefix(cli: Cli) -> None:
    file = write("rows.jsonl", {**ECHO, "key": "a"}, {**ECHO, "after": ["a"], "key": "b"})
    for prefix in ("x/", "y/", "x/"):
        assert cli("import", file, "--key-prefix", prefix).code == 0
    assert [parents(job) for job in jobs(cli)] == [[], [1], [], [3]]
    by_id = write("more.jsonl", {**ECHO, "after": "1"}, {**ECHO, "after": "a"})
    assert cli("import", by_id, "--key-prefix", "y/").code == 0
    assert [parents(job) for job in jobs(cli)[4:]] == [[1], [3]]


def test_a_key_is_forgotten_when_its_job_is_pruned(cli: Cli) -> None:
    imported(cli, {**ECHO, "key": "a"})
    cli.queue.cancel(1)
    assert len(imported(cli, {**ECHO, "key": "a"})) == 1
    cli.queue.delete([1])
    assert [job.id for job in imported(cli, {**ECHO, "key": "a"})] == [2]


def test_rows_with_the_same_unique_key_are_one_job(cli: Cli) -> None:
    holder = cli.add(unique="u")
    file = write(
        "rows.jsonl",
        {**ECHO, "unique": "u", "key": "a"}, {**ECHO, "unique": "v", "key": "b"},
        {**ECHO, "unique": "v"}, {**ECHO, "after": ["a", "b"]},
    )  # fmt: skip
    result = cli("import", file, "--ids")
    assert result.lines == ["1", "2", "2", "3"]
    assert parents(jobs(cli)[2]) == [holder.id, 2]


def test_what_changes_while_rows_are_added_is_one_line(cli: Cli) -> None:
    rows = [{**ECHO, "unique": "u", "key": "a"}, {**ECHO, "unique": "u", "key": "b"}]
    both = {**ECHO, "after": ["a"], "after_fail": ["b"]}
    result = cli("import", write("rows.jsonl", *rows, both))
    assert result.code == 2
    assert result.err == (
        "jobq: lines 1 to 3: parent 1 is named with two conditions: choose one; "
        "0 jobs were added before\n"
    )


class Planner:
    """A model of a batch: which rows are good, by hand."""

    @staticmethod
    def good(rows: list[tuple[bool, list[int]]]) -> set[int]:
        left = {n for n, (fine, _) in enumerate(rows) if fine}
        placed: set[int] = set()
        while ready := {n for n in left - placed if set(rows[n][1]) <= placed}:
            placed |= ready
        return placed


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 9), max_size=3)), min_size=10, max_size=10
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_rows_wait_for_the_good_ones_are_added_after_their_parents(
    queue: JobQueue, tmp_path: Path, made: list[tuple[bool, list[int]]]
) -> None:
    def table() -> Iterator[Row]:
        for number, (fine, after) in enumerate(made):
            values = {**ECHO, "key": str(number), "after": [str(n) for n in after]}
            yield Row(number + 1, values if fine else {**values, "name": 5})

    prefix = f"{os.urandom(4).hex()}-"
    with Importer(queue, tmp_path, prefix=prefix) as batch:
        batch.check(Table(table()))
        ids = [item.id for inserted in batch.add() for item in inserted]
    good = Planner.good(made)
    known = backend_of(queue).transfer.known_keys([f"{prefix}{n}" for n in range(10)])
    assert {int(key.removeprefix(prefix)) for key in known} == good
    assert len(ids) == len(good)
    assert len({problem.line for problem in batch.problems} & {n + 1 for n in good}) == 0
    assert {problem.line for problem in batch.problems} == set(range(1, 11)) - {n + 1 for n in good}
    for number in good:
        job = queue.get(known[f"{prefix}{number}"].job_id)
        assert set(parents(job)) == {known[f"{prefix}{n}"].job_id for n in made[number][1]}
