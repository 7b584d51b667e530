"""What changes many jobs at once: which they are, whether that was meant, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from jobq.cli.context import complain
from jobq.cli.rendering.output import confirmed, count_of, format_ids, is_terminal, note, print_json
from jobq.errors import NotFound, UsageError, WrongState
from jobq.models import JobFilter, JobStatus
from jobq.queue import JobQueue


def choose(
    queue: JobQueue, jobs: JobFilter, *, among: frozenset[JobStatus], limit: int | None = None
) -> tuple[list[int], bool]:
    """The ids that a bulk command acts on, oldest first; and whether each one was named.

    A selection is narrowed to the statuses ``among``, unless it says some itself.

    Raises:
        UsageError: neither ids nor a selection is given: that never means all.
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


def approved(question: str) -> bool:
    """Whether the person at the terminal says yes; scripts are not asked."""
    if confirmed(question):
        return True
    note("Nothing was changed.")
    return False


@dataclass(slots=True)
class Report:
    """What became of each job of a bulk command."""

    done: Mapping[str, list[int]]
    sentences: Mapping[str, tuple[str, str]]  # as in done: what was done, what would be
    missing: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)  # and why

    def show(self, *, as_json: bool, dry_run: bool) -> int:
        """Print it; the exit code: some do not exist, or else some were refused."""
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
    """``job 3``, or ``12 jobs (1-5, 7-13)``."""
    return f"job {ids[0]}" if len(ids) == 1 else f"{count_of(len(ids))} ({format_ids(ids)})"
