"""The outbox: what has happened to runs, and is recorded with the supervisor's next transaction."""

from jobq.backends.messages import Report
from jobq.execution.run import Run
from jobq.models import AttemptKey, AttemptResult, Claim, Progress, Started


class Outbox:
    """Everything to be recorded. It stays here until a transaction with it has succeeded."""

    def __init__(self) -> None:
        self._starts: dict[AttemptKey, Started] = {}
        self._progress: dict[AttemptKey, Progress] = {}
        self._results: list[tuple[Run, AttemptResult]] = []
        self._unstarted: list[Claim] = []

    def add_start(self, run: Run) -> None:
        """Add the process of a run."""
        self._starts[run.key] = run.started()

    def drop_start(self, run: Run) -> None:
        """Drop the process of a run that was not under way after all."""
        self._starts.pop(run.key, None)

    def add_progress(self, run: Run, progress: Progress) -> None:
        """Add progress; only the latest of a run is recorded."""
        self._progress[run.key] = progress

    def add_result(self, run: Run, result: AttemptResult) -> None:
        """Add the result of a run that has ended."""
        self._results.append((run, result))

    def give_back(self, claims: list[Claim]) -> None:
        """Add claims that were not started, and are for other supervisors again."""
        self._unstarted += claims

    @property
    def results(self) -> list[AttemptResult]:
        """The results that are not recorded yet."""
        return [result for _, result in self._results]

    @property
    def keys(self) -> set[AttemptKey]:
        """The attempts that are over as far as this process is concerned."""
        unstarted = {claim.key for claim in self._unstarted}
        return unstarted | {run.key for run, _ in self._results}

    def report(self) -> Report:
        """Return everything as one report to the backend."""
        starts = list(self._starts.values())
        return Report(starts, self._progress, self.results, self._unstarted)

    def take(self) -> list[tuple[Run, AttemptResult]]:
        """Empty the outbox after its report was recorded; return the results that it held."""
        taken = self._results
        self._starts, self._progress, self._results, self._unstarted = {}, {}, [], []
        return taken

    def __bool__(self) -> bool:
        return bool(self._starts or self._results or self._progress or self._unstarted)
