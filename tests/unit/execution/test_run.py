"""One run: its files, its last words and its progress."""

import json
import os

import pytest

from jobq import JobQueue
from jobq.clock import utcnow
from jobq.execution.run import Run, last_words
from jobq.logs import descendants, directory
from jobq.logs.truncation import Trimmed
from jobq.models import LogOffsets, Progress
from tests.support.runs import claim_shell


@pytest.fixture
def run(queue: JobQueue) -> Run:
    return claim_shell(queue, "true")


def write(run: Run, name: str, text: str) -> None:
    descriptor = run.log.append(name)
    directory.write_all(descriptor, text.encode())
    os.close(descriptor)


def events(run: Run) -> list[dict[str, object]]:
    lines = (run.logs.path(run.key.job_id) / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_its_directory_is_made_when_it_is_needed(run: Run) -> None:
    assert run.logs.open(run.owner) is None
    run.open()
    opened = run.logs.open(run.owner)
    assert opened is not None
    opened.close()
    run.close()


def test_last_words_are_the_last_line_of_this_attempt(run: Run) -> None:
    assert last_words(run) == ""
    write(run, "stderr.log", "of the attempt before\n")
    run.offsets = run.log.offsets()
    assert last_words(run) == ""
    write(run, "stderr.log", "one\n  " + "x" * 1000 + "\n\n")
    assert last_words(run) == "x" * 300
    run.close()


def test_an_attempt_after_the_first_starts_behind_what_is_there(run: Run) -> None:
    write(run, "stdout.log", "one\n")
    write(run, "progress", "50%")
    run.open_again()
    assert run.offsets == LogOffsets(stdout=4)
    assert run.read_progress() is None  # that was the progress of the one before
    run.close()


def test_progress_is_read_once(run: Run) -> None:
    write(run, "progress", "1/4 one")
    assert run.read_progress() == Progress(1, 4, "one")
    assert run.read_progress() is None
    run.close()


def test_a_trimmed_log_is_noted_once_and_at_the_end_with_how_much(run: Run) -> None:
    for dropped in (10, 20, 30):
        run.note_trimmed(Trimmed("stdout.log", dropped))
    run.tidy()
    assert [each.get("dropped") for each in events(run)] == [None, 30]
    run.close()


def test_a_full_disk_loses_an_event_and_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("jobq.execution.run.append_line", full)
        run.event("lost", utcnow())
    run.event("kept", utcnow())
    assert [each["event"] for each in events(run)] == ["kept"]
    run.close()


def test_its_descendants_are_on_disk_until_it_is_closed(run: Run) -> None:
    run.pid, run.pid_started = 10, 1
    living = {10: (1, 1), 11: (10, 2), 12: (11, 3), 13: (1, 4)}
    run.note_descendants(living)
    assert descendants.read(run.log, 1) == {11: 2, 12: 3}
    del living[11]
    run.note_descendants(living)  # an orphan, which is remembered
    assert run.descendants == {12: 3}
    run.close()
    assert not list(run.logs.path(run.key.job_id).glob(".descendants*"))


def test_the_directory_of_a_job_that_was_pruned_is_not_made_again(run: Run) -> None:
    run.open()
    run.close()
    run.recorded = True
    run.logs.delete(run.owner)
    run.event("finished", utcnow())
    run.tidy()
    assert run.read_progress() is None
    assert last_words(run) == ""
    run.close()
    assert not run.logs.path(run.key.job_id).exists()
