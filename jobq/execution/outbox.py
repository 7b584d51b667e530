"""What has happened to the runs of a supervisor, and is not in the database yet."""

from dataclasses import dataclass, field

from jobq.backends.messages import Report
from jobq.execution.run import Run
from jobq.models import AttemptKey, AttemptResult, Claim, Progress, Started


@dataclass(slots=True)
class Outbox:
    """What the backend is to be told next."""

    starts: dict[AttemptKey, Started] = field(default_factory=dict)
    endings: list[tuple[Run, AttemptResult]] = field(default_factory=list)
    progress: dict[AttemptKey, Progress] = field(default_factory=dict)
    unstarted: list[Claim] = field(default_factory=list)

    def report(self) -> Report:
        """All of it, as the backend is told."""
        endings = [ending for _, ending in self.endings]
        return Report(list(self.starts.values()), self.progress, endings, self.unstarted)

    def keys(self) -> set[AttemptKey]:
        """The attempts that are over, as far as this process is concerned."""
        given_back = {claim.key for claim in self.unstarted}
        return given_back | {run.key for run, _ in self.endings}

    def __bool__(self) -> bool:
        return bool(self.starts or self.endings or self.progress or self.unstarted)
