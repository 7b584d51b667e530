"""Bulk changes: choose the jobs, ask for confirmation, report the outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from jobq.cli.context import complain
from jobq.cli.parsing.options import Selection
from jobq.cli.rendering.output import confirmed, count_of, format_ids, is_terminal, note, print_json
from jobq.errors import NotFound, UsageError, WrongState
from jobq.models import JobFilter, JobStatus
from jobq.queue import JobQueue


def choose(
    queue: JobQueue, jobs: JobFilter, *, among: frozenset[JobStatus], limit: int | None = None
) -> tuple[list[int], bool]:
    """Return the ids that a bulk command acts on, oldest first, and whether each was named.

    A selection is narrowed to the statuses ``among``, unless it names statuses itself.

    Raises:
        UsageError: neither ids nor a selection is given, which never means all jobs.
        NotFound: ids were given to choose from, and one does not exist.
    """
    if jobs == JobFilter():
        raise UsageError("which jobs? Give ids, or a selection such as --queue default")
    if jobs.ids is not None:
        if jobs == JobFilter(ids=jobs.ids):
            return list(jobs.ids[: limit or None]), True
        queue.get_many(jobs.ids)
    wanted = replace(jobs, statuses=jobs.statuses or among)
    return [job.id for job in islice(queue.each(wanted), limit or None)], False


def choose_approved(
    queue: JobQueue,
    pick: Selection,
    ids: Sequence[str] | None,
    *,
    verb: str,
    among: frozenset[JobStatus],
    ask: bool,
) -> list[int] | None:
    """Return the ids that a bulk command acts on; None if the person at the terminal declines.

    Ids that were named are not asked about.
    """
    wanted = pick.job_filter(queue, ids)
    chosen, named = choose(queue, wanted, among=among, limit=pick.limit)
    if not chosen:
        note("No job matches.")
    elif not named and ask and not approved(f"{verb} {count_of(len(chosen))}?"):
        return None
    return chosen


def approved(question: str) -> bool:
    """Return whether the person at the terminal says yes; scripts are not asked."""
    if confirmed(question):
        return True
    note("Nothing was changed.")
    return False


@dataclass(slots=True)
class Report:
    """The outcome of a bulk command for each job."""

    done: Mapping[str, list[int]]
    sentences: Mapping[str, tuple[str, str]]  # by the keys of done: done, and would be done
    missing: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)  # and why

    def show(self, *, as_json: bool, dry_run: bool) -> int:
        """Print the report. Return the exit code: 3 if jobs are missing, else 4 if any was refused."""
        if as_json:
            refused = [{"id": job_id, "reason": why} for job_id, why in self.refused.items()]
            rest = {"refused": refused, "missing": self.missing, "dry_run": dry_run}
            print_json({**self.done, **rest})
        elif is_terminal() or dry_run:
            self._say(dry_run=dry_run)
        else:
            for ids in self.done.values():
                print(*ids, sep="\n", end="\n" if ids else "")
        for message in (*(f"no job {job_id}" for job_id in self.missing), *self.refused.values()):
            complain(message)
        return (self.missing and NotFound.exit_code) or (self.refused and WrongState.exit_code) or 0

    def _say(self, *, dry_run: bool) -> None:
        for what, ids in self.done.items():
            if ids:
                print(self.sentences[what][dry_run].format(name_of(ids)))


def name_of(ids: Sequence[int]) -> str:
    """Return ``job 3`` or ``12 jobs (1-5, 7-13)``."""
    return f"job {ids[0]}" if len(ids) == 1 else f"{count_of(len(ids))} ({format_ids(ids)})"
